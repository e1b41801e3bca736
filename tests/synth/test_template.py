"""What the template promises: limits, hops, rights and outputs, for one pool and for sixteen."""

import json
import re
from itertools import product
from typing import Any

import pytest

from tests.support.runs import a_run
from workpool.core.changes import Change, deltas

FUNCTION = "AWS::Lambda::Function"
MAPPING = "AWS::Lambda::EventSourceMapping"
QUEUE = "AWS::SQS::Queue"

#: Every resource in a policy that is no single thing, and why it cannot be one.
WILDCARDS = {
    "states:SendTaskFailure on *": "IAM knows no resource for it: the token is the authority",
    "states:SendTaskSuccess on *": "IAM knows no resource for it: the token is the authority",
    "states:StopExecution on execution:*": "an execution's name is its run's",
    "lambda:ListEventSourceMappings on *": "IAM knows none for it; it is how the id is found",
    "lambda:UpdateEventSourceMapping on mapping:*": "a mapping's id is Lambda's own",
    "s3:* on the bucket's objects": "an object's name is its run's",
    "dynamodb:ListStreams on *": "IAM knows no resource for it; what Lambda's poller asks for",
    "dynamodb:* on a deployer's table/index/*": "the deployer names a table, indexes come with it",
}


def text(value: Any) -> str:
    """A value of the template, its references written as names in braces."""
    match value:
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(text(part) for part in parts)
        case {"Ref": name}:
            return "{" + str(name) + "}"
        case {"Fn::GetAtt": [name, attribute]}:
            return "{" + f"{name}.{attribute}" + "}"
    return str(value)


def target(value: Any) -> str:
    """The logical id that a reference points to."""
    found: str = value.get("Ref") or value["Fn::GetAtt"][0]
    return found


def mappings_of(resources: Any, function: str) -> list[dict[str, Any]]:
    key, _ = resources.named(FUNCTION, function)
    return [m for m in resources.of(MAPPING).values() if target(m["FunctionName"]) == key]


# Functions


def test_every_function_runs_the_same_code_on_python_3_13_and_arm64(resources: Any) -> None:
    functions = resources.of(FUNCTION).values()
    assert {function["FunctionName"] for function in functions} == {
        "Workpool-submit",
        "Workpool-api",
        "Workpool-relay",
        "Workpool-relay-retry",
        "Workpool-counters",
        "Workpool-default-consumer",
        "Workpool-completion",
        "Workpool-dead-letters",
        "Workpool-sweeper",
        "Workpool-stats",
        "Workpool-deployment",
    }
    assert {function["Runtime"] for function in functions} == {"python3.13"}
    assert {tuple(function["Architectures"]) for function in functions} == {("arm64",)}
    assert len({text(function["Code"]["S3Key"]) for function in functions}) == 1
    assert len({text(function["Layers"]) for function in functions}) == 1


def test_every_log_group_has_a_retention_and_goes_with_the_stack(resources: Any) -> None:
    for key, group in resources.of("AWS::Logs::LogGroup").items():
        assert group["RetentionInDays"] == 30
        assert resources.all[key]["DeletionPolicy"] == "Delete"
    for function in resources.of(FUNCTION).values():
        group = resources.all[target(function["LoggingConfig"]["LogGroup"])]["Properties"]
        assert group["LogGroupName"] == f"/aws/lambda/{function['FunctionName']}"


def test_a_consumer_outlasts_its_action_and_hides_its_message_for_longer(largest: Any) -> None:
    for function in largest.of(FUNCTION).values():
        for mapping in mappings_of(largest, function["FunctionName"]):
            source = largest.all[target(mapping["EventSourceArn"])]
            if source["Type"] == QUEUE:
                assert source["Properties"]["VisibilityTimeout"] == function["Timeout"] + 30
        if function["FunctionName"].endswith("-consumer"):
            assert function["Timeout"] == 70
        if function["FunctionName"].endswith("-completion"):
            assert function["Timeout"] == 80


def test_every_environment_fits_into_four_kilobytes(largest: Any) -> None:
    longest = {
        "{AWS::Region}": "ap-southeast-2",
        "{AWS::URLSuffix}": "amazonaws.com.cn",
        "{AWS::Partition}": "aws-us-gov",
        "{AWS::AccountId}": "123456789012",
    }
    for function in largest.of(FUNCTION).values():
        size = 0
        for name, value in function["Environment"]["Variables"].items():
            filled = text(value)
            for reference, content in longest.items():
                filled = filled.replace(reference, content)
            assert "AWS::" not in filled
            # A table's name: the stack's, its logical id (as the reference), a suffix.
            size += len(name) + len(filled) + (40 if "{Storage" in filled else 0)
        assert size <= 4096


# Concurrency


SETTINGS = "Custom::WorkpoolSettings"


def test_a_consumer_is_created_closed_and_no_limit_is_in_its_template(resources: Any) -> None:
    _, consumer = resources.named(FUNCTION, "Workpool-default-consumer")
    (mapping,) = mappings_of(resources, "Workpool-default-consumer")
    assert consumer["ReservedConcurrentExecutions"] == 0
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 2}
    assert mapping["Enabled"] is False
    assert mapping["BatchSize"] == 1
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_a_changed_limit_changes_the_custom_resource_and_no_consumer(make_resources: Any) -> None:
    """CloudFormation would set both limits at once, over a pause and over a run-time limit."""
    ten, four = (make_resources({"pools": {"default": {"maxParallelism": it}}}) for it in (10, 4))
    for kind in (FUNCTION, MAPPING):
        for key, of_ten in ten.of(kind).items():
            of_four = dict(four.of(kind)[key])
            assert {**of_four, "Code": None} == {**of_ten, "Code": None}
    said = [json.loads(next(iter(it.of(SETTINGS).values()))["Pools"]) for it in (ten, four)]
    assert said == [
        {"default": {"maxParallelism": it, "reservedConcurrency": True}} for it in (10, 4)
    ]


def test_a_new_version_of_the_code_runs_the_custom_resource(resources: Any) -> None:
    (settings,) = resources.of(SETTINGS).values()
    _, consumer = resources.named(FUNCTION, "Workpool-default-consumer")
    assert settings["Code"] == consumer["Code"]["S3Key"]


def test_the_longest_name_of_a_consumer_fits(largest: Any) -> None:
    name = "Workpool-of-22-letters-pool-00-with-a-name-of-32-letter-consumer"
    assert len(name) == 64
    largest.named(FUNCTION, name)


def test_without_reserved_concurrency_the_mapping_alone_is_closed(make_resources: Any) -> None:
    resources = make_resources({"reservedConcurrency": False})
    (mapping,) = mappings_of(resources, "Workpool-default-consumer")
    _, consumer = resources.named(FUNCTION, "Workpool-default-consumer")
    assert "ReservedConcurrentExecutions" not in consumer
    assert mapping["Enabled"] is False
    (settings,) = resources.of(SETTINGS).values()
    assert json.loads(settings["Pools"])["default"]["reservedConcurrency"] is False


def test_the_custom_resource_comes_last_and_is_deleted_first(resources: Any) -> None:
    """So it refuses to let a stack with open runs be deleted before any part is deleted."""
    ((key, settings),) = ((key, it) for key, it in resources.all.items() if it["Type"] == SETTINGS)
    before = set(settings["DependsOn"])
    own = {it for it in resources.all if it.startswith("Deployment")}
    assert key in own
    assert before == set(resources.all) - own
    assert settings["Properties"]["ServiceTimeout"] == "360"


def test_tables_and_bucket_outlive_the_stack_but_not_a_first_deploy_that_fails(
    resources: Any,
) -> None:
    kept = [it for it in resources.all.values() if it.get("UpdateReplacePolicy") == "Retain"]
    assert sorted(it["Type"] for it in kept) == [
        "AWS::DynamoDB::Table",
        "AWS::DynamoDB::Table",
        "AWS::S3::Bucket",
    ]
    assert {it["DeletionPolicy"] for it in kept} == {"RetainExceptOnCreate"}


def test_completions_are_read_in_tens_with_failures_reported_singly(resources: Any) -> None:
    (mapping,) = mappings_of(resources, "Workpool-completion")
    assert mapping["BatchSize"] == 10
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 10}


# Queues


def test_every_queue_keeps_two_weeks_is_encrypted_and_refuses_plain_http(resources: Any) -> None:
    closed = {
        target(queue)
        for policy in resources.of("AWS::SQS::QueuePolicy").values()
        for queue in policy["Queues"]
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Deny"
        and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    }
    for key, queue in resources.of(QUEUE).items():
        assert queue["MessageRetentionPeriod"] == 1_209_600
        assert queue["SqsManagedSseEnabled"] is True
        assert key in closed


def test_every_hop_leads_on_as_planned_and_the_last_ones_wait_for_a_person(resources: Any) -> None:
    hops = {}
    for queue in resources.of(QUEUE).values():
        redrive = queue.get("RedrivePolicy")
        next_queue = redrive and resources.all[target(redrive["deadLetterTargetArn"])]
        hops[queue["QueueName"].removeprefix("Workpool-")] = redrive and (
            next_queue["Properties"]["QueueName"].removeprefix("Workpool-"),
            redrive["maxReceiveCount"],
        )
    assert hops == {
        "default-work": ("default-dead-letters", 1000),
        "default-dead-letters": ("default-parked", 1000),
        "default-parked": None,
        "relay-retry": ("dead-letters-relay-retry", 100),
        "dead-letters-relay-retry": None,
        "relay-failures": None,
        "completions": ("dead-letters-completions", 100),
        "dead-letters-completions": None,
        "dead-letters-rule": None,
        "parked": None,
    }


def test_the_dead_letters_function_reads_every_queue_that_names_runs(resources: Any) -> None:
    read = {
        resources.all[target(mapping["EventSourceArn"])]["Properties"]["QueueName"]
        for mapping in mappings_of(resources, "Workpool-dead-letters")
    }
    assert read == {
        "Workpool-default-dead-letters",
        "Workpool-dead-letters-relay-retry",
        "Workpool-dead-letters-rule",
        "Workpool-dead-letters-completions",
    }


@pytest.mark.parametrize(
    "pool", ["completions", "relay-retry", "rule", "dead-letters", "relay", "counters"]
)
def test_a_pool_may_have_the_name_of_a_part(pool: str, make_resources: Any) -> None:
    resources = make_resources({"pools": {pool: {"maxParallelism": 2}}})
    for kind, key in ((QUEUE, "QueueName"), (FUNCTION, "FunctionName")):
        names = [properties[key] for properties in resources.of(kind).values()]
        assert len(names) == len(set(names))


# Table and stream


def test_the_runs_table_has_its_stream_its_expiry_and_its_index_of_open_runs(
    resources: Any,
) -> None:
    tables = resources.of("AWS::DynamoDB::Table")
    (runs,) = (table for table in tables.values() if "StreamSpecification" in table)
    assert runs["KeySchema"] == [{"AttributeName": "run", "KeyType": "HASH"}]
    assert runs["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    (index,) = runs["GlobalSecondaryIndexes"]
    assert index["IndexName"] == "open"
    assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}
    assert index["KeySchema"] == [
        {"AttributeName": "open", "KeyType": "HASH"},
        {"AttributeName": "enqueuedAt", "KeyType": "RANGE"},
    ]


def test_tables_outlive_the_stack_and_can_be_put_back(resources: Any) -> None:
    for key, table in resources.of("AWS::DynamoDB::Table").items():
        assert resources.all[key]["DeletionPolicy"] == "RetainExceptOnCreate"
        assert table["BillingMode"] == "PAY_PER_REQUEST"
        assert table["TimeToLiveSpecification"] == {"AttributeName": "expiresAt", "Enabled": True}
        assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert "TableName" not in table


def test_the_bucket_is_encrypted_closed_kept_and_deletes_nothing_by_age(resources: Any) -> None:
    ((key, bucket),) = resources.of("AWS::S3::Bucket").items()
    assert resources.all[key]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert "BucketName" not in bucket
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    (rule,) = bucket["LifecycleConfiguration"]["Rules"]
    unfinished = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}
    assert rule == unfinished | {"Status": "Enabled"}
    (policy,) = resources.of("AWS::S3::BucketPolicy").values()
    refused = [it["Condition"] for it in policy["PolicyDocument"]["Statement"]]
    assert {"Bool": {"aws:SecureTransport": "false"}} in refused
    assert {it["Effect"] for it in policy["PolicyDocument"]["Statement"]} == {"Deny"}


def test_who_reads_an_object_is_told_whether_it_is_missing_or_denied(resources: Any) -> None:
    """S3 answers 404 to those who may list the bucket, and 403 to others."""
    (bucket,) = resources.of("AWS::S3::Bucket")
    for part in ("Api", "PooldefaultConsumer", "CompletionFunction"):
        rights = [(actions, on) for actions, on in statements(resources, part)]
        assert (["s3:ListBucket"], [f"{{{bucket}.Arn}}"]) in rights


KINDS = ("enqueued", "scheduled", "running", "completed", "canceled")


def refused_by(mapping: dict[str, Any]) -> tuple[set[tuple[str, str]], list[Any]]:
    """The changes of kind that a reader of the stream is not invoked for, and which removals it is
    invoked for."""
    patterns = [json.loads(one["Pattern"]) for one in mapping["FilterCriteria"]["Filters"]]
    assert len(patterns) <= 5  # As many as a mapping takes.

    def passes(event: str, old: str | None, new: str) -> bool:
        def fits(pattern: dict[str, Any]) -> bool:
            images = pattern.get("dynamodb", {})
            return event in pattern["eventName"] and all(
                kind in images[image]["kind"]["S"]
                for image, kind in (("OldImage", old), ("NewImage", new))
                if image in images
            )

        return any(map(fits, patterns))

    assert all(passes("INSERT", None, kind) for kind in KINDS)
    removals = [it["dynamodb"] for it in patterns if it["eventName"] == ["REMOVE"]]
    return {it for it in product(KINDS, KINDS) if not passes("MODIFY", *it)}, removals


CLAIMS = set(product(KINDS, ["running"]))
WRITES_TO_ENDED = set(product(["completed", "canceled"], repeat=2))


def test_the_relay_is_invoked_for_changes_that_call_for_a_hint(resources: Any) -> None:
    (mapping,) = mappings_of(resources, "Workpool-relay")
    refused, removals = refused_by(mapping)
    assert refused == CLAIMS | WRITES_TO_ENDED
    assert removals == [{"OldImage": {"large": {"S": ["yes"]}}}]  # Of a run with objects alone.


def test_the_counters_are_invoked_for_every_change_that_counts(resources: Any) -> None:
    (mapping,) = mappings_of(resources, "Workpool-counters")
    refused, removals = refused_by(mapping)
    assert removals == []
    for old, new in set(product(KINDS, KINDS)) - {("running", "enqueued")}:  # It never goes back.
        before = a_run(kind=old, enqueued_at=1)
        again = old in ("completed", "canceled") and new in ("enqueued", "scheduled")
        after = a_run(kind=new, enqueued_at=2 if again else 1)
        counts = any(deltas(Change(old=before, new=after)).values())
        assert counts == ((old, new) not in refused), (old, new)


def test_the_counters_are_told_their_shard_and_gather_changes(resources: Any) -> None:
    """Only a mapping with a tumbling window names the shard."""
    (mapping,) = mappings_of(resources, "Workpool-counters")
    assert mapping["TumblingWindowInSeconds"] == 900
    assert mapping["MaximumBatchingWindowInSeconds"] == 10
    assert mapping["StartingPosition"] == "TRIM_HORIZON"
    assert mapping["BisectBatchOnFunctionError"] is True
    assert mapping.get("ParallelizationFactor", 1) == 1  # Several would break a shard's order.


def test_the_stream_has_no_more_readers_than_it_serves_well(resources: Any) -> None:
    streams = [it for it in resources.of(MAPPING).values() if "StreamArn" in str(it)]
    assert len(streams) == 2


def test_the_relay_reads_from_the_oldest_change_and_gives_up_into_a_queue(resources: Any) -> None:
    (mapping,) = mappings_of(resources, "Workpool-relay")
    assert mapping["StartingPosition"] == "TRIM_HORIZON"
    assert mapping["BatchSize"] == 100
    assert mapping["BisectBatchOnFunctionError"] is True
    assert mapping["MaximumRetryAttempts"] == 100
    failures = target(mapping["DestinationConfig"]["OnFailure"]["Destination"])
    assert resources.all[failures]["Properties"]["QueueName"] == "Workpool-relay-failures"


# Events


def schedules(resources: Any) -> dict[str, list[dict[str, Any]]]:
    """Targets by schedule."""
    rules = resources.of("AWS::Events::Rule").values()
    return {it["ScheduleExpression"]: it["Targets"] for it in rules if "EventPattern" not in it}


def test_two_schedules_drive_the_sweeper_and_the_statistics(resources: Any) -> None:
    assert set(schedules(resources)) == {"rate(5 minutes)", "rate(1 minute)"}


def test_the_statistics_are_published_every_minute(resources: Any) -> None:
    (to,) = schedules(resources)["rate(1 minute)"]
    key, stats = resources.named(FUNCTION, "Workpool-stats")
    assert (target(to["Arn"]), stats["Timeout"] < 60) == (key, True)


def test_the_open_runs_are_swept_every_five_minutes_for_what_waits_fifteen(resources: Any) -> None:
    (to,) = schedules(resources)["rate(5 minutes)"]
    assert json.loads(to["Input"]) == {"overdueSeconds": 900}
    key, sweeper = resources.named(FUNCTION, "Workpool-sweeper")
    assert target(to["Arn"]) == key
    assert sweeper["Timeout"] < 300


def test_only_ended_runs_with_a_completion_reach_its_queue_and_only_their_detail(
    resources: Any,
) -> None:
    (rule,) = (it for it in resources.of("AWS::Events::Rule").values() if "EventPattern" in it)
    assert rule["EventPattern"] == {
        "source": ["workpool"],
        "detail-type": ["Run Ended"],
        "detail": {"onComplete": [{"exists": True}]},
    }
    (to,) = rule["Targets"]
    queue = resources.all[target(to["Arn"])]["Properties"]
    lost = resources.all[target(to["DeadLetterConfig"]["Arn"])]["Properties"]
    assert queue["QueueName"] == "Workpool-completions"
    assert lost["QueueName"] == "Workpool-dead-letters-rule"
    assert to["InputPath"] == "$.detail"
    assert to["RetryPolicy"] == {"MaximumEventAgeInSeconds": 86_400, "MaximumRetryAttempts": 185}


# API


@pytest.mark.promise("HTTP API", "Every route requires a signature")
def test_every_route_asks_for_a_signature(resources: Any) -> None:
    routes = resources.of("AWS::ApiGatewayV2::Route").values()
    assert {route["AuthorizationType"] for route in routes} == {"AWS_IAM"}
    assert {route["RouteKey"] for route in routes} == {
        "POST /pools/{pool}/runs",
        "GET /pools/{pool}/runs/{runId}",
        "POST /pools/{pool}/runs/{runId}/cancel",
        "POST /pools/{pool}/status",
        "GET /pools/{pool}/runs",
        "GET /pools/{pool}/stats",
        "POST /pools/{pool}/cancel",
        "POST /pools/{pool}/redrive",
        "PATCH /pools/{pool}",
        "GET /pools",
    }


# Rights


def statements(resources: Any, part: str = "") -> list[tuple[list[str], list[str]]]:
    """(actions, resources) of what the roles may do, of one part if it is named."""
    found = []
    policies = {**resources.of("AWS::IAM::Policy"), **resources.of("AWS::IAM::ManagedPolicy")}
    for key, policy in policies.items():
        if not key.startswith(part):
            continue
        for statement in policy["PolicyDocument"]["Statement"]:
            actions, on = statement["Action"], statement["Resource"]
            found.append(
                (
                    actions if isinstance(actions, list) else [actions],
                    [text(one) for one in (on if isinstance(on, list) else [on])],
                )
            )
    return found


def test_no_right_is_wider_than_one_thing_but_those_listed_with_a_reason(largest: Any) -> None:
    wildcards = set()
    for actions, on in statements(largest):
        assert not [action for action in actions if "*" in action]
        for resource in on:
            if resource == "*":
                wildcards |= {f"{action} on *" for action in actions}
            elif re.search(r":execution:[\w-]+-retrier:\*$", resource):
                wildcards |= {f"{action} on execution:*" for action in actions}
            elif resource.endswith(":event-source-mapping:*"):
                wildcards |= {f"{action} on mapping:*" for action in actions}
            elif re.fullmatch(r"\{StoragePayloads\w+\.Arn\}/\*", resource):
                assert all(action.startswith("s3:") for action in actions)
                wildcards.add("s3:* on the bucket's objects")
            elif resource.endswith("table/orders/index/*"):
                assert all(action.startswith("dynamodb:") for action in actions)
                wildcards.add("dynamodb:* on a deployer's table/index/*")
            else:
                assert "*" not in resource, (actions, resource)
    assert wildcards == set(WILDCARDS)


_STREAM = {
    "dynamodb:DescribeStream",
    "dynamodb:GetRecords",
    "dynamodb:GetShardIterator",
    "dynamodb:ListStreams",
}
_READ = {"dynamodb:GetItem", "dynamodb:BatchGetItem"}
_LIST = {*_READ, "dynamodb:Query"}
_WRITE = {*_READ, "dynamodb:PutItem", "dynamodb:UpdateItem"}
_COUNT = {"dynamodb:Query", "dynamodb:UpdateItem", "dynamodb:DeleteItem"}
_HINT = {"dynamodb:GetItem", "sqs:SendMessage", "states:StartExecution", "events:PutEvents"}
_ANSWER = {"states:SendTaskFailure", "states:SendTaskSuccess"}
_OBJECTS = {"s3:GetObject", "s3:PutObject", "s3:ListBucket"}
_OPERATE = {
    "lambda:GetFunctionConcurrency",
    "lambda:PutFunctionConcurrency",
    "lambda:ListEventSourceMappings",
    "lambda:UpdateEventSourceMapping",
}


@pytest.mark.parametrize(
    ("part", "rights"),
    [
        ("Submit", {"dynamodb:GetItem", "dynamodb:PutItem", "s3:PutObject"}),
        (
            "Api",
            _WRITE | _LIST | _OBJECTS | _OPERATE | {"events:PutEvents", "lambda:InvokeFunction"},
        ),
        (
            "RelayFunction",
            _STREAM | (_HINT - {"dynamodb:GetItem"}) | {"states:StopExecution", "s3:DeleteObject"},
        ),
        ("RelayRetry", _HINT),
        ("Counters", _STREAM | _COUNT),
        (
            "Sweeper",
            _LIST
            | _WRITE
            | _HINT
            | _OPERATE
            | {"dynamodb:Scan", "dynamodb:DeleteItem", "s3:ListBucket", "s3:DeleteObject"},
        ),
        ("Stats", _LIST),
        ("DeadLetters", _HINT | _ANSWER),
        ("PooldefaultConsumer", _WRITE | _LIST | _OBJECTS | _ANSWER | {"sqs:SendMessage"}),
        ("PooldefaultRetrier", {"sqs:SendMessage"}),
        ("CompletionFunction", _WRITE | _LIST | _OBJECTS | {"sqs:SendMessage"}),
    ],
)
def test_each_part_may_do_its_own_work_and_no_more(
    part: str, rights: set[str], resources: Any
) -> None:
    consuming = {
        "sqs:ChangeMessageVisibility",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
        "sqs:GetQueueUrl",
        "sqs:ReceiveMessage",
    }
    logging = {"logs:CreateLogStream", "logs:PutLogEvents"}
    granted = {action for actions, _ in statements(resources, part) for action in actions}
    assert granted - consuming - logging == rights


@pytest.mark.parametrize(
    ("part", "on_runs", "on_stats"),
    [
        ("Submit", {"GetItem", "PutItem"}, set()),
        (
            "Api",
            {"BatchGetItem", "GetItem", "PutItem", "UpdateItem"},
            {"GetItem", "Query", "UpdateItem"},
        ),
        ("RelayFunction", set(), set()),
        ("Counters", set(), {"DeleteItem", "Query", "UpdateItem"}),
        ("RelayRetry", {"GetItem"}, set()),
        (
            "Sweeper",
            {"BatchGetItem", "GetItem", "UpdateItem"},
            {"DeleteItem", "GetItem", "PutItem", "Query", "UpdateItem"},
        ),
        ("Stats", {"BatchGetItem"}, {"GetItem", "Query"}),
        ("DeadLetters", {"GetItem"}, set()),
    ],
)
def test_what_a_part_without_user_code_may_do_with_the_tables_is_what_its_code_calls(
    part: str, on_runs: set[str], on_stats: set[str], resources: Any
) -> None:
    def granted(table: str) -> set[str]:
        return {
            action.removeprefix("dynamodb:")
            for actions, on in statements(resources, part)
            if any(re.fullmatch(rf"\{{Storage{table}\w*\.Arn\}}", one) for one in on)
            for action in actions
        }

    assert (granted("Runs"), granted("Stats")) == (on_runs, on_stats)


def test_who_operates_a_pool_reaches_the_consumers_and_the_sweeper_and_no_other_function(
    resources: Any,
) -> None:
    for part in ("Api", "Sweeper"):
        reached = {
            one
            for actions, on in statements(resources, part)
            for one in on
            if {"lambda:PutFunctionConcurrency", "lambda:InvokeFunction"} & set(actions)
        }
        consumer, _ = resources.named(FUNCTION, "Workpool-default-consumer")
        sweeper, _ = resources.named(FUNCTION, "Workpool-sweeper")
        invoked = {f"{{{sweeper}.Arn}}"} if part == "Api" else set()
        assert reached == {f"{{{consumer}.Arn}}"} | invoked


def test_a_pools_consumer_reaches_no_other_pools_queues(largest: Any) -> None:
    for actions, on in statements(largest, "Poolpool00withanameof32letterConsumer"):
        for resource in on:
            assert not re.search(r"\{Poolpool(?!00)", resource), (actions, resource)


def test_what_a_deployer_allows_a_pool_is_granted_to_it(largest: Any) -> None:
    granted = statements(largest, "Poolpool03withanameof32letterConsumer")
    rights = ["lambda:GetFunctionConfiguration", "lambda:InvokeFunction"]
    (invoke,) = (on for actions, on in granted if sorted(actions) == rights)
    assert [one.rsplit(":", 1)[1] for one in invoke] == ["my-function"]
    (tables,) = (on for actions, on in granted if "dynamodb:Scan" in actions)
    assert [one.split(":")[-1] for one in tables] == ["table/orders", "table/orders/index/*"]
    for part in ("CompletionFunction",):
        assert any("dynamodb:Scan" in actions for actions, _ in statements(largest, part))
    (role,) = (
        role
        for key, role in largest.of("AWS::IAM::Role").items()
        if key.startswith("Poolpool03withanameof32letterConsumer")
    )
    assert role["ManagedPolicyArns"] == ["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"]


def test_only_the_consumers_mappings_may_be_changed(resources: Any) -> None:
    policies = {**resources.of("AWS::IAM::Policy"), **resources.of("AWS::IAM::ManagedPolicy")}
    changing = [
        statement
        for policy in policies.values()
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Action"] == "lambda:UpdateEventSourceMapping"
    ]
    assert len(changing) == 3
    for statement in changing:
        (consumer,) = statement["Condition"]["ArnEquals"]["lambda:FunctionArn"]
        assert consumer["Fn::GetAtt"][0].startswith("PooldefaultConsumer")


# The whole


def test_the_outputs_are_those_that_clients_are_promised(resources: Any) -> None:
    assert set(resources.template["Outputs"]) == {
        "ApiUrl",
        "SubmitFunctionName",
        "RunsTableName",
        "StatsTableName",
        "PayloadsBucketName",
        "EventBusName",
        "DashboardUrl",
        "DefaultQueueUrl",
        "DefaultConsumerFunctionName",
        "DefaultRetrierArn",
    }


def test_the_parameter_tells_clients_where_it_all_is(resources: Any) -> None:
    (parameter,) = resources.of("AWS::SSM::Parameter").values()
    assert parameter["Name"] == "/workpool/Workpool"
    assert set(json.loads(text(parameter["Value"]))) == {
        "apiUrl",
        "runsTable",
        "submitFunction",
        "region",
    }


def test_sixteen_pools_with_the_longest_names_fit_into_one_stack(largest: Any) -> None:
    assert len(largest.all) < 500
    assert len(largest.template["Outputs"]) <= 200
    assert all(len(it["AlarmName"]) <= 255 for it in largest.of("AWS::CloudWatch::Alarm").values())
    assert len(json.dumps(largest.template)) < 1_000_000
    limits = {QUEUE: ("QueueName", 80), FUNCTION: ("FunctionName", 64)}
    for kind, (key, longest) in limits.items():
        assert all(len(properties[key]) <= longest for properties in largest.of(kind).values())


def test_no_account_region_or_partition_is_written_into_the_template(resources: Any) -> None:
    written = json.dumps(resources.template)
    assert "000000000000" not in written
    assert "us-east-1" not in written
    assert "arn:aws:" not in written


def test_the_same_checkout_gives_the_same_template(resources: Any, make_resources: Any) -> None:
    assert make_resources({}).template == resources.template


@pytest.mark.promise(
    "Alarms, dashboard, tracing",
    "`tracing` is on for every function and state machine, or for none",
)
def test_tracing_is_on_for_every_function_and_machine_or_for_none(
    resources: Any, make_resources: Any
) -> None:
    machine = "AWS::StepFunctions::StateMachine"
    traced = make_resources({"tracing": True})
    assert {it["TracingConfig"]["Mode"] for it in traced.of(FUNCTION).values()} == {"Active"}
    assert all(it["TracingConfiguration"]["Enabled"] for it in traced.of(machine).values())
    assert all("TracingConfig" not in it for it in resources.of(FUNCTION).values())
    assert all("TracingConfiguration" not in it for it in resources.of(machine).values())
    assert "xray" not in json.dumps(resources.template)
