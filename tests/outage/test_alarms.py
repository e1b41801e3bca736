"""What an operator is woken by: each condition caused, its printed metric fed to CloudWatch as
AWS would from the log, its alarm seen. The emulator makes no metrics of what is logged."""

import json
import time

import pytest

from tests.support.command import Command

pytestmark = pytest.mark.e2e

MINUTES_16 = 16 * 60 * 1000


def printed(stack, part, pool):
    """The data that a function printed for a pool, oldest first."""
    lines = stack.logs(f"{stack.name}-{part}")
    return [it for it in lines if "_aws" in it and it["Pool"] == pool]


def published(stack, pool, until=lambda metrics: True):
    """The metrics that the statistics function prints, and their line, as soon as they are as
    wanted: changes are counted some seconds after they happen."""

    def values(line):
        (described,) = line["_aws"]["CloudWatchMetrics"]
        return {it["Name"]: line[it["Name"]][0] for it in described["Metrics"]}

    line = prints(stack, "stats", pool, {}, lambda it: "Pending" in it and until(values(it)))
    return values(line), line


def prints(stack, part, pool, event, good):
    """The first such line that a function prints for a pool from now on. It is invoked for each
    look: what the emulator is slow to read, it logs with the next invocation."""
    since = time.time() * 1000

    def look():
        stack.invoke(part, event)
        lines = printed(stack, part, pool)
        return [it for it in lines if it["_aws"]["Timestamp"] >= since and good(it)]

    return stack.until(look, bool)[0]


def feed(stack, line):
    """As CloudWatch does with a line of the embedded metric format."""
    (told,) = line["_aws"]["CloudWatchMetrics"]
    (dimensions,) = told["Dimensions"]
    stack.client("cloudwatch").put_metric_data(
        Namespace=told["Namespace"],
        MetricData=[
            {
                "MetricName": it["Name"],
                "Unit": it["Unit"],
                "Dimensions": [{"Name": name, "Value": line[name]} for name in dimensions],
                "Value": line[it["Name"]][0],
            }
            for it in told["Metrics"]
        ],
    )


def becomes(stack, name, state):
    """Returns when the alarm is in that state."""

    def now():
        answer = stack.client("cloudwatch").describe_alarms(AlarmNames=[f"{stack.name}-{name}"])
        return answer["MetricAlarms"][0]["StateValue"]

    stack.until(now, lambda it: it == state)


def backdate(stack, pool, run_id):
    """Make a run due since sixteen minutes: nobody waits for them here."""
    stack.client("dynamodb").update_item(
        TableName=stack.outputs["RunsTableName"],
        Key={"run": {"S": f"{pool}#{run_id}"}},
        UpdateExpression="SET due = due - :ago",
        ExpressionAttributeValues={":ago": {"N": str(MINUTES_16)}},
    )


@pytest.mark.promise(
    "Alarms, dashboard, tracing", "A wedged pool raises an alarm, and a paused pool does not"
)
def test_a_wedged_pool_is_alarmed_a_paused_one_is_not_and_the_sweeper_mends_it(stack, pool):
    awslambda = stack.client("lambda")
    (mapping,) = awslambda.list_event_source_mappings(FunctionName=f"{stack.name}-wedged-consumer")[
        "EventSourceMappings"
    ]
    awslambda.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    wedged, paused = pool("wedged"), pool("paused")
    paused.pause()
    time.sleep(1)  # What a poll under way may still take.
    stuck, held = wedged.run("probe.work"), paused.run("probe.work")
    backdate(stack, "wedged", stuck)
    backdate(stack, "paused", held)
    healthy, line = published(stack, "paused", lambda it: it["Pending"] == 1)
    assert (healthy["Wedged"], healthy["OldestDue"]) == (0, 0)
    assert healthy["Pending"] == 1
    feed(stack, line)  # First: the emulator's alarms do not look at dimensions.
    becomes(stack, "paused-wedged", "OK")
    becomes(stack, "paused-oldest-due", "OK")
    sick, line = published(stack, "wedged")
    assert sick["Wedged"] == 1
    assert sick["OldestDue"] > MINUTES_16
    feed(stack, line)
    becomes(stack, "wedged-wedged", "ALARM")
    becomes(stack, "wedged-oldest-due", "ALARM")

    overdue = {"overdueSeconds": 900}
    line = prints(stack, "sweeper", "wedged", overdue, lambda it: any(it.get("HintsRepeated", [])))
    feed(stack, line)
    becomes(stack, "wedged-hints-repeated", "ALARM")
    assert wedged.wait(stuck, timeout=60).succeeded
    paused.cancel(held)
    paused.resume()


@pytest.mark.promise(
    "Alarms, dashboard, tracing", "A run that is scheduled for next month raises no alarm"
)
def test_a_run_for_next_month_alarms_nobody(stack, pool):
    later = pool("wedged").run_after(30 * 24 * 3600 * 1000, "probe.work")
    metrics, _ = published(stack, "wedged", lambda it: it["Pending"] >= 1)
    assert (metrics["Wedged"], metrics["OldestDue"]) == (0, 0)
    assert metrics["Pending"] >= 1
    pool("wedged").cancel(later)


@pytest.mark.promise(
    "The command workpool", "`workpool redrive` redrives parked completions and says how many"
)
@pytest.mark.promise(
    "Alarms, dashboard, tracing", "Runs that failed for good and parked completions raise alarms"
)
@pytest.mark.fault(17)
def test_failed_runs_and_parked_completions_are_alarmed_and_redriven(stack, pool):
    emails = pool("emails")
    run_id = emails.run("probe.refuse", on_complete="probe.raises_twice")
    stack.wait("emails", run_id, until=lambda it: "completionError" in it)
    stack.client("dynamodb").update_item(  # As if it had raised eight times, in two minutes.
        TableName=stack.outputs["RunsTableName"],
        Key={"run": {"S": f"emails#{run_id}"}},
        UpdateExpression="SET completionTries = :tries",
        ExpressionAttributeValues={":tries": {"N": "8"}},
    )
    stack.wait("emails", run_id, until=lambda it: it["completion"] == "parked")
    metrics, line = published(stack, "emails", lambda it: it["PermanentFailureRate"] > 0.05)
    assert metrics["Parked"] == 1
    feed(stack, line)
    becomes(stack, "emails-parked-completions", "ALARM")
    becomes(stack, "emails-permanent-failures", "ALARM")

    workpool = Command(stack.environment, pool="emails")
    listed = workpool("runs", "--kind", "parked", "--json").json["runs"]
    assert [(it["runId"], it["completionError"]) for it in listed] == [(run_id, "not yet")]
    assert workpool("redrive", "--json").json == {"redriving": 1}
    stack.wait("emails", run_id, until=lambda it: it["completion"] == "done")


@pytest.mark.promise(
    "Alarms, dashboard, tracing",
    "The dashboard shows all published metrics, and metrics of AWS by their documented names",
)
def test_the_deployed_dashboard_shows_every_published_metric(stack):
    answer = stack.client("cloudwatch").get_dashboard(DashboardName=stack.name)
    lines = [
        line
        for it in json.loads(answer["DashboardBody"])["widgets"]
        for line in it["properties"].get("metrics", [])
    ]
    own = {(line[1], line[3]) for line in lines if line[0] == "Workpool"}
    told = {
        metric["Name"]
        for part in ("stats", "sweeper")
        for line in printed(stack, part, "emails")
        for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]
    }
    assert {metric for metric, pool in own if pool == "emails"} == told
    assert stack.outputs["DashboardUrl"].endswith(f"#dashboards/dashboard/{stack.name}")
