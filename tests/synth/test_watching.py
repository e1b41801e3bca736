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
    "dead-letters": ("ApproximateNumberOfMessagesVisible", 0),
    "parked-messages": ("ApproximateNumberOfMessagesVisible", 0),
    "retrier-failed": ("ExecutionsFailed", 0),
}
OF_PARTS = {
    "dead-letters-of-relay-retry": "ApproximateNumberOfMessagesVisible",
    "dead-letters-of-rule": "ApproximateNumberOfMessagesVisible",
    "dead-letters-of-completions": "ApproximateNumberOfMessagesVisible",
    "parked-messages-of-parts": "ApproximateNumberOfMessagesVisible",
    "relay-stream": "ApproximateNumberOfMessagesVisible",
    "relay-errors": "Errors",
    "counters-errors": "Errors",
    "relay-retry-errors": "Errors",
    "completion-errors": "Errors",
    "dead-letters-errors": "Errors",
    "sweeper-errors": "Errors",
    "stats-errors": "Errors",
}


@pytest.mark.promise(
    "Alarms, dashboard, tracing", "There is an alarm for everything that the workpool gives up on"
)
def test_whatever_gives_something_up_has_an_alarm(resources: Any) -> None:
    found = {name: (it["MetricName"], it["Threshold"]) for name, it in alarms(resources).items()}
    assert found == {
        **{f"default-{what}": its for what, its in OF_A_POOL.items()},
        **{name: (metric, 0) for name, metric in OF_PARTS.items()},
        "counters-lag": ("IteratorAge", 900_000),
    }


@pytest.mark.promise(
    "Alarms, dashboard, tracing", "An alarm watches one plain metric against a threshold"
)
def test_an_alarm_is_one_plain_metric_above_a_threshold_and_a_missing_value_is_none(
    largest: Any,
) -> None:
    assert not largest.of("AWS::CloudWatch::CompositeAlarm")
    found = largest.of(ALARM).values()
    assert len(found) == 16 * len(OF_A_POOL) + len(OF_PARTS) + len(["counters-lag"])
    assert len({it["AlarmName"] for it in found}) == len(found)
    for alarm in found:
        assert "Metrics" not in alarm
        assert alarm["ComparisonOperator"] == "GreaterThanThreshold"
        assert (alarm["EvaluationPeriods"], alarm["Period"]) == (1, 300)
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
    assert text(resources.template["Outputs"]["DashboardUrl"]["Value"]).endswith(
        "#dashboards/dashboard/Workpool"
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
