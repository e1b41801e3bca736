"""The construct `Workpool`: in the standalone stack, and in a stack of a team's own CDK app."""

import json
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import pytest
from aws_cdk import App, CfnOutput, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sqs as sqs
from aws_cdk.assertions import Annotations, Match, Template

from infra.config import WorkpoolConfig
from infra.workpool import Workpool
from tests.synth.conftest import Resources, project_without_code
from tests.synth.test_template import text

FUNCTION = "AWS::Lambda::Function"
QUEUE = "AWS::SQS::Queue"
ROLE = "AWS::IAM::Role"

#: The properties that hold a physical name.
NAMES = (
    "FunctionName",
    "QueueName",
    "StateMachineName",
    "LogGroupName",
    "AlarmName",
    "DashboardName",
    "Name",
)

#: The logical ids of what holds data, and of what holds an address that clients know. A resource
#: whose logical id changes is replaced: a table would be left behind with all runs.
LOGICAL_IDS = {
    "StorageRunsEDEB48FF": "AWS::DynamoDB::Table",
    "StorageStats08F25735": "AWS::DynamoDB::Table",
    "StoragePayloadsCE68CCE3": "AWS::S3::Bucket",
    "ApiHttp17514DA7": "AWS::ApiGatewayV2::Api",
    "RelayDeadLettersE575D4AA": QUEUE,
    "RelayRetryQueue08248D9D": QUEUE,
    "RelayFailures2FC1449E": QUEUE,
    "PooldefaultParked7B59A718": QUEUE,
    "PooldefaultDeadLetters23490114": QUEUE,
    "PooldefaultWorkDFA1B633": QUEUE,
    "PooldefaultRetrierStateMachineF65BF3A3": "AWS::StepFunctions::StateMachine",
    "CompletionBusC9B82453": "AWS::Events::EventBus",
    "CompletionRuleDeadLetters91C877BE": QUEUE,
    "CompletionDeadLettersCC21D526": QUEUE,
    "CompletionQueue351EB487": QUEUE,
    "DeadLettersParkedEE0CB46B": QUEUE,
}


def a_workpool(stack: Stack, construct_id: str, **arguments: Any) -> Workpool:
    functions = project_without_code() / "functions"
    return Workpool(stack, construct_id, functions=functions, **arguments)


def config(name: str, *pools: str) -> WorkpoolConfig:
    return WorkpoolConfig.from_context(
        {"stackName": name, "pools": {pool: {"maxParallelism": 2} for pool in pools or ["default"]}}
    )


def synthesized(stack: Stack) -> Resources:
    return Resources(Template.from_stack(stack).to_json())


def physical_names(resources: Resources) -> Counter[tuple[str, str]]:
    """(type, name) of every resource that has a physical name."""
    return Counter(
        (it["Type"], it["Properties"][key])
        for it in resources.all.values()
        for key in NAMES
        if isinstance(it.get("Properties", {}).get(key), str)
    )


def only(resources: Resources, kind: str, start: str = "") -> str:
    """The logical id of the one resource of a type."""
    (found,) = (key for key in resources.of(kind) if key.startswith(start))
    return found


# Where it may be


def test_what_holds_data_keeps_its_logical_id_in_the_standalone_stack(resources: Any) -> None:
    kinds = set(LOGICAL_IDS.values())
    found = {key: it["Type"] for key, it in resources.all.items() if it["Type"] in kinds}
    assert found == LOGICAL_IDS


@dataclass(frozen=True)
class Team:
    """A stack of a team with resources of its own, one of them named like a part of ours."""

    stack: Stack
    workpool: Workpool
    resources: Resources
    before: Resources  # without the workpool


@pytest.fixture(scope="module")
def team() -> Team:
    def own() -> tuple[Stack, iam.User]:
        stack = Stack(App(), "Team")
        queue = sqs.Queue(stack, "Storage", queue_name="ours")
        CfnOutput(stack, "ApiUrl", value=queue.queue_url)
        return stack, iam.User(stack, "User")

    before = synthesized(own()[0])
    stack, user = own()
    workpool = a_workpool(stack, "Jobs", config=config("Workpool"))
    workpool.grant_submit(user)
    return Team(stack, workpool, synthesized(stack), before)


def test_a_workpool_leaves_the_outputs_and_resources_of_a_teams_stack_alone(team: Team) -> None:
    before, after = team.before, team.resources
    assert after.template["Outputs"] == before.template["Outputs"]
    assert {key: after.all[key] for key in before.all} == before.all


def test_a_workpool_has_the_same_parts_under_the_same_names_in_every_stack(
    team: Team, resources: Any
) -> None:
    added = physical_names(team.resources) - physical_names(team.before)
    assert added == physical_names(resources)
    (policy,) = (key for key in team.resources.all if key.startswith("User") and "Policy" in key)
    kinds = Counter(
        it["Type"]
        for key, it in team.resources.all.items()
        if key not in (*team.before.all, policy)
    )
    assert kinds == Counter(it["Type"] for it in resources.all.values())


def test_workpools_with_different_names_may_be_in_one_stack_and_in_one_app() -> None:
    app = App()
    shared, other = Stack(app, "Shared"), Stack(app, "Other")
    for stack, name in ((shared, "One"), (shared, "Two"), (other, "Three")):
        a_workpool(stack, name, config=config(name))
    names = physical_names(synthesized(shared)) + physical_names(synthesized(other))
    assert {name for kind, name in names if name.endswith("-submit") and kind == FUNCTION} == {
        "One-submit",
        "Two-submit",
        "Three-submit",
    }
    assert set(names.values()) == {1}


@pytest.mark.parametrize(
    ("one", "another", "beginning"),
    [
        (config("Jobs", "a"), config("Jobs", "b"), "Jobs"),
        (config("Jobs", "mails"), config("Jobs-mails", "b"), "Jobs-mails"),
        (config("Jobs", "mails-new"), config("Jobs-mails", "new"), "Jobs-mails-new"),
    ],
)
def test_workpools_of_one_stack_whose_names_collide_are_refused(
    one: WorkpoolConfig, another: WorkpoolConfig, beginning: str
) -> None:
    stack = Stack(App(), "Team")
    a_workpool(stack, "One", config=one)
    with pytest.raises(ValueError, match=f"stack Team .* with '{beginning}': .* stackName"):
        a_workpool(stack, "Another", config=another)


# What a team gets from it


def test_whoever_is_granted_submit_may_submit_runs_and_find_the_workpool(team: Team) -> None:
    submit, _ = team.resources.named(FUNCTION, "Workpool-submit")
    (policy,) = (it for it in team.resources.of("AWS::IAM::Policy").values() if "Users" in it)
    granted = {it["Action"]: it["Resource"] for it in policy["PolicyDocument"]["Statement"]}
    assert set(granted) == {"lambda:InvokeFunction", "execute-api:Invoke", "ssm:GetParameter"}
    assert granted["lambda:InvokeFunction"][0] == {"Fn::GetAtt": [submit, "Arn"]}
    assert text(granted["execute-api:Invoke"]).endswith("/$default/POST/pools/*/runs")
    parameter = only(team.resources, "AWS::SSM::Parameter")
    assert text(granted["ssm:GetParameter"]).endswith(f":parameter{{{parameter}}}")


def test_a_team_reaches_the_functions_that_its_own_code_runs_in(team: Team) -> None:
    for name, function in (
        ("Workpool-default-consumer", team.workpool.pools["default"].consumer),
        ("Workpool-completion", team.workpool.completion_function),
    ):
        key, _ = team.resources.named(FUNCTION, name)
        assert team.stack.resolve(function.function_arn) == {"Fn::GetAtt": [key, "Arn"]}


# In a VPC, with a key, under a permissions boundary


@pytest.fixture(scope="module")
def guarded() -> Resources:
    """A workpool with all three options, beside resources of the team."""
    stack = Stack(App(), "Team")
    vpc = ec2.Vpc(stack, "Vpc", max_azs=2, nat_gateways=1)
    boundary = iam.ManagedPolicy(
        stack,
        "Boundary",
        statements=[iam.PolicyStatement(actions=["s3:GetObject"], resources=["*"])],
    )
    iam.Role(stack, "Own", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    a_workpool(
        stack,
        "Jobs",
        config=config("Jobs"),
        vpc=vpc,
        encryption_key=kms.Key(stack, "Key"),
        permissions_boundary=boundary,
    )
    return synthesized(stack)


def rights(resources: Resources, function: dict[str, Any]) -> list[dict[str, Any]]:
    """The statements of a function's role."""
    role = function["Role"]["Fn::GetAtt"][0]
    return [
        statement
        for policy in resources.of("AWS::IAM::Policy").values()
        if {"Ref": role} in policy.get("Roles", [])
        for statement in policy["PolicyDocument"]["Statement"]
    ]


def test_every_function_is_in_the_private_subnets_and_in_one_security_group(guarded: Any) -> None:
    group = only(guarded, "AWS::EC2::SecurityGroup")
    private = [key for key in guarded.of("AWS::EC2::Subnet") if key.startswith("VpcPrivate")]
    assert len(private) == 2
    functions = [
        it for it in guarded.of(FUNCTION).values() if it.get("FunctionName", "").startswith("Jobs-")
    ]
    assert len(functions) == 11
    for function in functions:
        assert function["VpcConfig"] == {
            "SubnetIds": [{"Ref": key} for key in private],
            "SecurityGroupIds": [{"Fn::GetAtt": [group, "GroupId"]}],
        }
    assert guarded.of("AWS::EC2::SecurityGroup")[group].get("SecurityGroupIngress") is None


def test_lambda_may_connect_every_function_to_the_vpc_but_the_code_may_not(guarded: Any) -> None:
    for key, function in guarded.of(FUNCTION).items():
        if not function.get("FunctionName", "").startswith("Jobs-"):
            continue  # the CDK's own, which closes the VPC's default group
        allowed, denied = (
            it
            for it in rights(guarded, function)
            if "ec2:CreateNetworkInterface" in str(it["Action"])
        )
        assert (allowed["Effect"], denied["Effect"]) == ("Allow", "Deny")
        assert allowed["Action"] == denied["Action"]
        arn = text(denied["Condition"]["ArnLike"]["lambda:SourceFunctionArn"])
        assert arn.endswith(":function:Jobs-*")
        # Lambda refuses to create a function whose role cannot connect it yet.
        policies = {it for it in guarded.all[key]["DependsOn"] if "DefaultPolicy" in it}
        assert len(policies) == 1


def test_without_a_vpc_no_function_is_in_one(resources: Any) -> None:
    assert not resources.of("AWS::EC2::SecurityGroup")
    assert all("VpcConfig" not in it for it in resources.of(FUNCTION).values())
    assert "ec2:" not in json.dumps(resources.template)


def test_the_key_encrypts_tables_bucket_queues_and_logs(guarded: Any) -> None:
    key = {"Fn::GetAtt": [only(guarded, "AWS::KMS::Key"), "Arn"]}
    for table in guarded.of("AWS::DynamoDB::Table").values():
        assert table["SSESpecification"] == {
            "SSEEnabled": True,
            "SSEType": "KMS",
            "KMSMasterKeyId": key,
        }
    (bucket,) = guarded.of("AWS::S3::Bucket").values()
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"] == [
        {
            "BucketKeyEnabled": True,
            "ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key},
        }
    ]
    queues = guarded.of(QUEUE).values()
    groups = guarded.of("AWS::Logs::LogGroup").values()
    assert (len(queues), len(groups)) == (10, 12)
    assert all(it["KmsMasterKeyId"] == key for it in queues)
    assert all(it["KmsKeyId"] == key for it in groups)


def test_whoever_uses_what_is_encrypted_may_use_the_key(guarded: Any) -> None:
    key = {"Fn::GetAtt": [only(guarded, "AWS::KMS::Key"), "Arn"]}
    whole = {
        "kms:Decrypt",
        "kms:DescribeKey",
        "kms:Encrypt",
        "kms:GenerateDataKey*",
        "kms:ReEncrypt*",
    }
    for function in guarded.of(FUNCTION).values():
        if function.get("FunctionName", "").startswith("Jobs-"):
            granted = {
                action
                for it in rights(guarded, function)
                if it["Resource"] == key
                for action in ([it["Action"]] if isinstance(it["Action"], str) else it["Action"])
            }
            assert granted == whole, function["FunctionName"]
    policy = guarded.of("AWS::IAM::Policy")[
        only(guarded, "AWS::IAM::Policy", "JobsPooldefaultRetrier")
    ]
    (statement,) = (it for it in policy["PolicyDocument"]["Statement"] if it["Resource"] == key)
    assert set(statement["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey"}


def test_the_keys_policy_lets_eventbridge_send_and_cloudwatch_log(guarded: Any) -> None:
    (key,) = guarded.of("AWS::KMS::Key").values()
    statements = key["KeyPolicy"]["Statement"]
    # AWS's page shows no condition, and for encrypted topics it says that conditions on the source
    # are not supported: with one, completions would not arrive.
    assert {
        "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Resource": "*",
    } in statements
    (logs,) = (it for it in statements if "logs." in text(it["Principal"].get("Service", "")))
    arns = logs["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"]
    patterns = [text(arn).rpartition(":log-group:")[2] for arn in arns]
    for group in guarded.of("AWS::Logs::LogGroup").values():
        assert any(fnmatch(group["LogGroupName"], pattern) for pattern in patterns)


def test_an_encrypted_queue_takes_events_of_its_own_account_alone(guarded: Any) -> None:
    queue, _ = guarded.named(QUEUE, "Jobs-completions")
    (policy,) = (
        it for it in guarded.of("AWS::SQS::QueuePolicy").values() if {"Ref": queue} in it["Queues"]
    )
    (allowed,) = (it for it in policy["PolicyDocument"]["Statement"] if it["Effect"] == "Allow")
    assert allowed["Principal"] == {"Service": "events.amazonaws.com"}
    assert allowed["Condition"] == {
        "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    }


def test_without_a_key_nothing_speaks_of_one(resources: Any) -> None:
    written = json.dumps(resources.template).lower()
    assert "kms" not in written


def test_synth_warns_that_it_cannot_change_the_policy_of_an_imported_key() -> None:
    stack = Stack(App(), "Team")
    arn = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    key = kms.Key.from_key_arn(stack, "Key", arn)
    a_workpool(stack, "Jobs", config=config("Jobs"), encryption_key=key)
    warning = Match.string_like_regexp("must let events.amazonaws.com use kms:Decrypt")
    assert Annotations.from_stack(stack).find_warning("/Team/Key", warning)


def test_every_role_of_the_workpool_has_the_permissions_boundary_and_no_other(guarded: Any) -> None:
    boundary = {"Ref": only(guarded, "AWS::IAM::ManagedPolicy", "Boundary")}
    roles = {key: it.get("PermissionsBoundary") for key, it in guarded.of(ROLE).items()}
    of_workpool = {key for key in roles if key.startswith("Jobs")}
    assert len(of_workpool) == 12
    assert {key for key, its in roles.items() if its == boundary} == of_workpool
    assert {its is None for key, its in roles.items() if key not in of_workpool} == {True}
