"""Do what AWS's CloudFormation does with a template and the emulator's does not.

It changes nothing where the template did not change: a value that was set at run time stays, as
it does on AWS. The deploy calls it, before and after `cdk deploy`.
"""

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from local.emulator import Emulator

if TYPE_CHECKING:
    from types_boto3_cloudformation import CloudFormationClient

Reserved = dict[str, int]
"""Reserved concurrency by a function's logical id, for the functions that have any."""


def reserved_concurrency(emulator: Emulator) -> dict[str, Reserved]:
    """The reserved concurrency in the template of each deployed stack, by the stack's name."""
    cloudformation = emulator.client("cloudformation")
    pages = cloudformation.get_paginator("describe_stacks").paginate()
    names = [stack["StackName"] for page in pages for stack in page["Stacks"]]
    return {name: _read_template(cloudformation, name) for name in names}


def apply_reserved_concurrency(emulator: Emulator, *, stack: str, before: Reserved) -> None:
    """Apply ReservedConcurrentExecutions of AWS::Lambda::Function, which ministack 1.5.33 ignores.

    `before` is the reserved concurrency in the stack's previous template.
    """
    cloudformation, functions = emulator.client("cloudformation"), emulator.client("lambda")
    wanted = _read_template(cloudformation, stack)
    for logical_id in wanted.keys() | before.keys():
        name = _find_physical_id(cloudformation, stack, logical_id)
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


def _read_template(cloudformation: "CloudFormationClient", stack: str) -> Reserved:
    template = cloudformation.get_template(StackName=stack)["TemplateBody"]
    if not isinstance(template, dict):  # The bootstrap stack's YAML. An app's template is JSON.
        return {}
    return {
        logical_id: resource["Properties"]["ReservedConcurrentExecutions"]
        for logical_id, resource in template["Resources"].items()
        if resource["Type"] == "AWS::Lambda::Function"
        and "ReservedConcurrentExecutions" in resource["Properties"]
    }


def _find_physical_id(
    cloudformation: "CloudFormationClient", stack: str, logical_id: str
) -> str | None:
    try:
        answer = cloudformation.describe_stack_resource(
            StackName=stack, LogicalResourceId=logical_id
        )
    except ClientError:  # It is no longer in the stack.
        return None
    return str(answer["StackResourceDetail"]["PhysicalResourceId"])
