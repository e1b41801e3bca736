"""Alarms and dashboard: each metric is one that somebody publishes, under exactly that name."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.synth.test_template import text

ROOT = Path(__file__).parents[2]
ALARM = "AWS::CloudWatch::Alarm"

#: (namespace, dimension) and the metrics that AWS documents there: the pages "Available CloudWatch
#: metrics for Amazon SQS", "Types of metrics for Lambda functions" and "Monitoring Step Functions
#: metrics using Amazon CloudWatch" of their developer guides.
DOCUMENTED = {
    ("AWS/SQS", "QueueName"): {
        "ApproximateAgeOfOldestMessage",
        "ApproximateNumberOfMessagesDelayed",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesVisible",
        "NumberOfMessagesDeleted",
        "NumberOfMessagesReceived",
        "NumberOfMessagesSent",
    },
    ("AWS/Lambda", "FunctionName"): {
        "ConcurrentExecutions",
        "Duration",
        "Errors",
        "Invocations",
        "IteratorAge",
        "Throttles",
    },
    ("AWS/States", "StateMachineArn"): {
        "ExecutionThrottled",
        "ExecutionTime",
        "ExecutionsAborted",
        "ExecutionsFailed",
        "ExecutionsStarted",
        "ExecutionsSucceeded",
        "ExecutionsTimedOut",
    },
}
#: What handlers/stats.py and handlers/sweeper.py publish; the integration tests hold them to it.
PUBLISHED = {
    "Pending",
    "OldestPending",
    "OldestDue",
    "Executions",
    "ErrorRate",
    "PermanentFailureRate",
    "JobAverageMs",
    "Wedged",
    "Parked",
    "HintsRepeated",
}


def alarms(resources: Any) -> dict[str, dict[str, Any]]:
    """By name, without the stack's."""
    return {it["AlarmName"].removeprefix("Workpool-"): it for it in resources.of(ALARM).values()}


def graphed(resources: Any) -> list[tuple[str, str, str, str]]:
    """(namespace, metric, dimension, value) of every line of the dashboard."""
    (dashboard,) = resources.of("AWS::CloudWatch::Dashboard").values()
    body = json.loads(text(dashboard["DashboardBody"]))
    lines = [
        tuple(line[:4]) for it in body["widgets"] for line in it["properties"].get("metrics", [])
    ]
    assert all(len(line) == 4 for line in lines)
    return lines


def is_published(namespace: str, metric: str, dimension: str) -> bool:
    if namespace == "Workpool":
        return dimension == "Pool" and metric in PUBLISHED
    return metric in DOCUMENTED[namespace, dimension]


OF_A_POOL = {
    "wedged": ("Wedged", 0),
    "oldest-due": ("OldestDue", 900_000),
    "permanent-failures": ("PermanentFailureRate", 0.05),
    "parked-completions": ("Parked", 0),
    "hints-repeated": ("HintsRepeated", 0),
    "dead-letters": ("ApproximateNumberOfMessagesNotVisible", 0),
    "dead-letters-unread": ("ApproximateAgeOfOldestMessage", 900),
    "parked-messages": ("ApproximateNumberOfMessagesVisible", 0),
    "retrier-failed": ("ExecutionsFailed", 0),
}
OF_PARTS = {
    **{
        f"dead-letters-of-{part}": ("ApproximateNumberOfMessagesNotVisible", 0)
        for part in ("relay-retry", "rule", "completions")
    },
    **{
        f"dead-letters-of-{part}-unread": ("ApproximateAgeOfOldestMessage", 900)
        for part in ("relay-retry", "rule", "completions")
    },
    "parked-messages-of-parts": ("ApproximateNumberOfMessagesVisible", 0),
    "relay-stream": ("ApproximateNumberOfMessagesVisible", 0),
    "relay-errors": ("Errors", 0),
    "counters-errors": ("Errors", 0),
    "relay-retry-errors": ("Errors", 0),
    "completion-errors": ("Errors", 0),
    "dead-letters-errors": ("Errors", 0),
    "sweeper-errors": ("Errors", 0),
    "stats-errors": ("Errors", 0),
    "counters-lag": ("IteratorAge", 900_000),
}


@pytest.mark.promise(
    "Alarms, dashboard, tracing", "There is an alarm for everything that the workpool gives up on"
)
def test_whatever_gives_something_up_has_an_alarm(resources: Any) -> None:
    found = {name: (it["MetricName"], it["Threshold"]) for name, it in alarms(resources).items()}
    assert found == {
        **{f"default-{what}": its for what, its in OF_A_POOL.items()},
        **OF_PARTS,
    }


@pytest.mark.promise(
    "Alarms, dashboard, tracing", "An alarm watches one plain metric against a threshold"
)
def test_an_alarm_is_one_plain_metric_above_a_threshold_and_a_missing_value_is_none(
    largest: Any,
) -> None:
    assert not largest.of("AWS::CloudWatch::CompositeAlarm")
    found = largest.of(ALARM).values()
    assert len(found) == 16 * len(OF_A_POOL) + len(OF_PARTS)
    assert len({it["AlarmName"] for it in found}) == len(found)
    for alarm in found:
        assert "Metrics" not in alarm
        assert alarm["ComparisonOperator"] == "GreaterThanThreshold"
        assert alarm["Period"] == 300
        assert alarm["EvaluationPeriods"] == (2 if alarm["Statistic"] == "Minimum" else 1)
        assert alarm["TreatMissingData"] == "notBreaching"
        (dimension,) = alarm["Dimensions"]
        assert is_published(alarm["Namespace"], alarm["MetricName"], dimension["Name"])


def test_alarms_watch_the_queues_that_nothing_else_drains(resources: Any) -> None:
    queues = {
        resources.all[it["Dimensions"][0]["Value"]["Fn::GetAtt"][0]]["Properties"]["QueueName"]
        for it in alarms(resources).values()
        if it["Namespace"] == "AWS/SQS"
    }
    assert queues == {
        "Workpool-default-dead-letters",
        "Workpool-default-parked",
        "Workpool-dead-letters-relay-retry",
        "Workpool-relay-failures",
        "Workpool-dead-letters-rule",
        "Workpool-dead-letters-completions",
        "Workpool-parked",
    }


def read_by(resources: Any, function: str) -> set[str]:
    """The queues that a function reads, by key."""
    key, _ = resources.named("AWS::Lambda::Function", function)
    return {
        it["EventSourceArn"]["Fn::GetAtt"][0]
        for it in resources.of("AWS::Lambda::EventSourceMapping").values()
        if it["FunctionName"] == {"Ref": key}
    }


def rings(alarm: dict[str, Any], minutes: list[int]) -> bool:
    """Whether these values of its metric, one a minute, set an alarm off at any time."""
    size = alarm["Period"] // 60
    periods = [minutes[at : at + size] for at in range(0, len(minutes), size)]
    value = {"Minimum": min, "Maximum": max, "Sum": sum}[alarm["Statistic"]]
    above = [value(period) > alarm["Threshold"] for period in periods]
    wanted = alarm["EvaluationPeriods"]
    return any(all(above[at : at + wanted]) for at in range(len(above) - wanted + 1))


#: What CloudWatch shows of a dead-letter queue, minute by minute. One that a function reads hides
#: its messages almost always: they are in flight, or hidden after a failed invocation. Of a message
#: that was received three times SQS does not tell the age.
QUEUES = {
    "empty": {"Visible": [0] * 30, "NotVisible": [0] * 30, "Age": [0] * 30},
    "each letter is done at once": {
        "Visible": [0] * 30,
        "NotVisible": [1, 0, 2, 0, 0] * 6,
        "Age": [1, 0, 3, 0, 0] * 6,
    },
    "a letter comes back for a while": {
        "Visible": [0] * 30,
        "NotVisible": [0] * 6 + [1] * 7 + [0] * 17,
        "Age": [0] * 6 + [60, 120, 180, *[0] * 21],
    },
    "the function fails with each letter": {
        "Visible": [0] * 30,
        "NotVisible": [1] * 30,
        "Age": [60, 120, 180, *[0] * 27],
    },
    "the function is not invoked": {
        "Visible": [1] * 30,
        "NotVisible": [0] * 30,
        "Age": [60 * minute for minute in range(30)],
    },
}
METRICS = {
    "ApproximateNumberOfMessagesVisible": "Visible",
    "ApproximateNumberOfMessagesNotVisible": "NotVisible",
    "ApproximateAgeOfOldestMessage": "Age",
}


@pytest.mark.promise(
    "Alarms, dashboard, tracing",
    "An alarm of a queue rings for what such a queue shows, whether a function reads it or none",
)
@pytest.mark.parametrize("shown", QUEUES)
def test_an_alarm_of_a_queue_rings_for_what_such_a_queue_shows(resources: Any, shown: str) -> None:
    all_read = read_by(resources, "Workpool-dead-letters")
    by_queue: dict[str, list[dict[str, Any]]] = {}
    for alarm in alarms(resources).values():
        if alarm["Namespace"] == "AWS/SQS":
            queue = alarm["Dimensions"][0]["Value"]["Fn::GetAtt"][0]
            by_queue.setdefault(queue, []).append(alarm)
    assert all_read < by_queue.keys()
    broken = shown in ("the function fails with each letter", "the function is not invoked")
    for queue, its in by_queue.items():
        rung = [it for it in its if rings(it, QUEUES[shown][METRICS[it["MetricName"]]])]
        # Where no function reads, a message stays visible.
        if queue in all_read or shown in ("empty", "the function is not invoked"):
            assert len(rung) == broken


def test_an_alarm_of_errors_rings_for_one_failed_invocation(resources: Any) -> None:
    found = [it for it in alarms(resources).values() if it["MetricName"] == "Errors"]
    assert len(found) == 7
    assert all(rings(it, [0, 0, 0, 1, 0]) and not rings(it, [0] * 30) for it in found)


@pytest.mark.promise("Alarms, dashboard, tracing", "A pool may set its own alarm thresholds")
def test_thresholds_are_a_pools_own(make_resources: Any) -> None:
    limits = {"oldestDueMs": 5000, "permanentFailureRate": 0.5}
    pools = {"a": {"maxParallelism": 1, "alarms": limits}, "b": {"maxParallelism": 1}}
    found = alarms(make_resources({"pools": pools}))
    assert (found["a-oldest-due"]["Threshold"], found["b-oldest-due"]["Threshold"]) == (
        5000,
        900_000,
    )
    assert found["a-permanent-failures"]["Threshold"] == 0.5


@pytest.mark.promise(
    "Alarms, dashboard, tracing", "Alarms are sent to the deployer's topic, or to none"
)
def test_alarms_are_sent_to_the_deployers_topic_or_to_none(
    resources: Any, make_resources: Any
) -> None:
    assert all("AlarmActions" not in it for it in alarms(resources).values())
    topic = "arn:aws:sns:us-east-1:123456789012:on-call"
    found = alarms(make_resources({"alarmTopicArn": topic}))
    assert {tuple(alarm["AlarmActions"]) for alarm in found.values()} == {(topic,)}


@pytest.mark.promise(
    "Alarms, dashboard, tracing",
    "The dashboard shows all published metrics, and metrics of AWS by their documented names",
)
def test_the_dashboard_shows_what_is_published_and_what_an_operator_asks_for(
    resources: Any,
) -> None:
    lines = graphed(resources)
    assert all(is_published(*line[:3]) for line in lines)
    assert {metric for _, metric, *_ in lines} >= PUBLISHED | {
        "ApproximateAgeOfOldestMessage",
        "ApproximateNumberOfMessagesVisible",
        "ConcurrentExecutions",
        "Duration",
        "Errors",
        "ExecutionsFailed",
        "ExecutionsStarted",
        "IteratorAge",
    }
    (dashboard,) = resources.of("AWS::CloudWatch::Dashboard").values()
    body = text(dashboard["DashboardBody"])
    assert dashboard["DashboardName"] == "Workpool"
    assert '"p50"' in body and '"p99"' in body
    assert '{"value":10,"label":"maxParallelism, as deployed"' in re.sub(r"\s", " ", body)


def resolved(value: Any, template: dict[str, Any], given: dict[str, str]) -> str:
    """A value of the template, as CloudFormation fills it in where these parameters are given."""
    match value:
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(resolved(part, template, given) for part in parts)
        case {"Ref": name}:
            return given[name]
        case {"Fn::If": [condition, yes, no]}:
            one, other = template["Conditions"][condition]["Fn::Equals"]
            same = resolved(one, template, given) == resolved(other, template, given)
            return resolved(yes if same else no, template, given)
    assert isinstance(value, str)
    return value


@pytest.mark.parametrize(
    ("partition", "region", "host"),
    [
        ("aws", "eu-west-1", "eu-west-1.console.aws.amazon.com"),
        ("aws-cn", "cn-north-1", "cn-north-1.console.amazonaws.cn"),
        ("aws-us-gov", "us-gov-west-1", "us-gov-west-1.console.amazonaws-us-gov.com"),
        ("aws-eusc", "eusc-de-east-1", "eusc-de-east-1.console.amazonaws-eusc.eu"),
    ],
)
def test_the_url_of_the_dashboard_leads_to_the_console_of_the_partition(
    partition: str, region: str, host: str, resources: Any
) -> None:
    url = resources.template["Outputs"]["DashboardUrl"]["Value"]
    given = {"AWS::Partition": partition, "AWS::Region": region}
    assert resolved(url, resources.template, given) == (
        f"https://{host}/cloudwatch/home?region={region}#dashboards/dashboard/Workpool"
    )


def test_a_dashboard_of_sixteen_pools_shows_each_and_stays_within_its_bounds(
    largest: Any,
) -> None:
    (dashboard,) = largest.of("AWS::CloudWatch::Dashboard").values()
    widgets = json.loads(text(dashboard["DashboardBody"]))["widgets"]
    assert len(widgets) <= 500
    for it in widgets:
        assert len(it["properties"].get("alarms", [])) <= 100
        assert it["x"] + it["width"] <= 24
    pools = {value for _, _, name, value in graphed(largest) if name == "Pool"}
    assert len(pools) == 16


@pytest.mark.promise("Alarms, dashboard, tracing", "Every alarm has a runbook")
def test_every_alarm_names_a_runbook_and_every_runbook_an_alarm(resources: Any) -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    named = {
        it["AlarmDescription"].rpartition("docs/runbooks.md#")[2]
        for it in alarms(resources).values()
    }
    assert named == set(headings)
