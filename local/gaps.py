"""What the emulator's CloudFormation leaves undone of a template, done by hand after the deploy.

It does only what AWS does by itself for the same template, and nothing where the template did not
change: a value that was set at run time stays, as it does there. The deploy calls it.
"""

from typing import Any

from botocore.exceptions import ClientError

from local.emulator import Emulator

Reserved = dict[str, int]
"""Reserved concurrency by a function's logical id, for the functions that have any."""


def reserved_concurrency(emulator: Emulator) -> dict[str, Reserved]:
    """What the template of each deployed stack says."""
    cloudformation = emulator.client("cloudformation")
    pages = cloudformation.get_paginator("describe_stacks").paginate()
    names = [stack["StackName"] for page in pages for stack in page["Stacks"]]
    return {name: _of_template(cloudformation, name) for name in names}


def apply_reserved_concurrency(emulator: Emulator, *, stack: str, before: Reserved) -> None:
    """ministack 1.5.33 ignores ReservedConcurrentExecutions of AWS::Lambda::Function.

    `before` is what the stack's last template said.
    """
    cloudformation, functions = emulator.client("cloudformation"), emulator.client("lambda")
    wanted = _of_template(cloudformation, stack)
    for logical_id in wanted.keys() | before.keys():
        name = _physical_id(cloudformation, stack, logical_id)
        if name is None:
            continue
        if logical_id not in wanted:
            functions.delete_function_concurrency(FunctionName=name)
            continue
        now = functions.get_function_concurrency(FunctionName=name)
        unset = "ReservedConcurrentExecutions" not in now
        if unset or wanted[logical_id] != before.get(logical_id):
            functions.put_function_concurrency(
                FunctionName=name, ReservedConcurrentExecutions=wanted[logical_id]
            )


def _of_template(cloudformation: Any, stack: str) -> Reserved:
    template = cloudformation.get_template(StackName=stack)["TemplateBody"]
    if not isinstance(
        template, dict
    ):  # YAML: the bootstrap stack's; the CDK uploads an app's as JSON
        return {}
    return {
        logical_id: resource["Properties"]["ReservedConcurrentExecutions"]
        for logical_id, resource in template["Resources"].items()
        if resource["Type"] == "AWS::Lambda::Function"
        and "ReservedConcurrentExecutions" in resource["Properties"]
    }


def _physical_id(cloudformation: Any, stack: str, logical_id: str) -> str | None:
    try:
        answer = cloudformation.describe_stack_resource(
            StackName=stack, LogicalResourceId=logical_id
        )
    except ClientError:  # no longer in the stack
        return None
    return str(answer["StackResourceDetail"]["PhysicalResourceId"])
