"""Faults caused on the deployed stack: killed processes, doubled messages and events."""

import json

import pytest

from workpool.core.message import Message

pytestmark = pytest.mark.e2e


@pytest.mark.fault(4)
def test_an_action_that_outlives_its_deadline_is_a_failed_attempt(stack, ledger):
    run_id = stack.submit({"action": "probe.overrun", "options": {"onComplete": "probe.settled"}})[
        "runId"
    ]
    scheduled = stack.wait("default", run_id, until=lambda it: it["kind"] == "scheduled")
    assert scheduled["retries"] == 1
    ended = stack.wait("default", run_id, until=lambda it: it.get("completion") == "done")
    assert ended["result"] == {"type": "success", "returnValue": "in time"}
    assert ended["retries"] == 1
    assert ledger.completions(run_id) == 1


@pytest.mark.fault(5)
def test_a_message_sent_five_times_more_does_nothing_more(stack, ledger):
    run_id = stack.submit(
        {
            "pool": "slow",
            "action": "probe.work",
            "args": {"seconds": 1},
            "options": {"onComplete": "probe.settled"},
        }
    )["runId"]
    item = stack.item("slow", run_id)
    message = Message(run=f"slow#{run_id}", due=int(item["due"]["N"]))
    for _ in range(5):
        stack.client("sqs").send_message(
            QueueUrl=stack.outputs["SlowQueueUrl"], MessageBody=message.body()
        )
    stack.wait("slow", run_id, until=lambda it: it.get("completion") == "done")
    stack.settled("slow", run_id)
    assert len(ledger.times(run_id, "start")) == 1
    assert ledger.completions(run_id) == 1


@pytest.mark.fault(13)
def test_an_ended_event_sent_three_times_more_does_nothing_more(stack, ledger):
    run_id = stack.submit({"action": "probe.work", "options": {"onComplete": "probe.settled"}})[
        "runId"
    ]
    before = stack.wait("default", run_id, until=lambda it: it.get("completion") == "done")
    detail = {
        "v": 1,
        "run": f"default#{run_id}",
        "pool": "default",
        "runId": run_id,
        "action": "probe.work",
        "kind": "completed",
        "result": "success",
        "onComplete": "probe.settled",
    }
    entry = {
        "EventBusName": stack.outputs["EventBusName"],
        "Source": "workpool",
        "DetailType": "Run Ended",
        "Detail": json.dumps(detail),
    }
    answer = stack.client("events").put_events(Entries=[entry] * 3)
    assert answer["FailedEntryCount"] == 0
    stack.settled("default", run_id)
    assert stack.status("default", run_id) == before
    assert [it for it in ledger.what(run_id) if it.startswith("completion")] == [
        "completion success None"
    ]
    assert ledger.completions(run_id) == 1


@pytest.mark.fault(8)
def test_a_poison_message_is_set_aside_at_once(stack):
    queue = stack.outputs["TwoQueueUrl"]
    sqs = stack.client("sqs")
    for body in ("no JSON", '{"v": 99, "run": "two#x", "due": "2026-01-01T00:00:00Z"}'):
        sqs.send_message(QueueUrl=queue, MessageBody=body)
    parked = sqs.get_queue_url(QueueName=f"{stack.name}-two-parked")["QueueUrl"]
    stack.until(lambda: stack.depth(parked), lambda depth: depth == 2)
    stack.until(lambda: stack.depth(queue), lambda depth: depth == 0)


# The lost worker and the killed handler are found when their messages' visibility timeouts are
# over, more than a minute later: both were submitted when the session began (conftest.py).


@pytest.mark.fault(1)
def test_a_killed_consumer_is_a_failed_attempt_and_the_run_ends(stack, ledger, early):
    ended = stack.wait(
        "default", early["crash"], timeout=120, until=lambda it: it.get("completion") == "done"
    )
    assert ended["result"] == {"type": "success", "returnValue": "recovered"}
    assert ended["retries"] == 1
    assert len(ledger.times(early["crash"], "start")) == 2
    assert ledger.completions(early["crash"]) == 1


@pytest.mark.fault(16)
def test_a_killed_handler_runs_again_and_its_writes_count_once(stack, ledger, early):
    stack.wait(
        "default", early["handler"], timeout=120, until=lambda it: it.get("completion") == "done"
    )
    assert "died" in ledger.what(early["handler"])
    assert ledger.completions(early["handler"]) == 1
