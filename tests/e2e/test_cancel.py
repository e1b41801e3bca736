"""Cancel on the deployed stack: in each state, each with its one completion."""

import pytest

pytestmark = pytest.mark.e2e

OPTIONS = {"onComplete": "probe.settled"}


def cancel(stack, pool, run_id):
    return stack.http("POST", f"/pools/{pool}/runs/{run_id}/cancel")


def completed(stack, ledger, pool, run_id, result):
    stack.wait(pool, run_id, until=lambda it: it.get("completion") == "done")
    assert ledger.completions(run_id) == 1
    assert [it.split()[1] for it in ledger.what(run_id) if it.startswith("completion")] == [result]


def test_an_enqueued_run_ends_at_once_and_never_starts(stack, ledger):
    blocking = stack.submit({"pool": "one", "action": "probe.work", "args": {"seconds": 2}})
    stack.wait("one", blocking["runId"], until=lambda it: it["kind"] == "running")
    run_id = stack.submit({"pool": "one", "action": "probe.work", "options": OPTIONS})["runId"]
    code, status = cancel(stack, "one", run_id)
    assert (code, status["kind"], status["result"]) == (200, "canceled", {"type": "canceled"})
    completed(stack, ledger, "one", run_id, "canceled")
    stack.wait("one", blocking["runId"])
    after = stack.submit({"pool": "one", "action": "probe.work"})["runId"]
    stack.wait("one", after)  # Queued behind it, and done: its own message has come and gone.
    assert ledger.times(run_id, "start") == []


def test_a_scheduled_run_ends_at_once_and_its_execution_is_stopped(stack, ledger):
    run_id = stack.submit(
        {"action": "probe.work", "options": {**OPTIONS, "runAfterMs": 3_600_000}}
    )["runId"]
    executions = stack.client("stepfunctions")
    machine = stack.outputs["DefaultRetrierArn"]

    def mine(state):
        found = executions.list_executions(stateMachineArn=machine, statusFilter=state)
        return [it for it in found["executions"] if it["name"].startswith(run_id)]

    stack.until(lambda: mine("RUNNING"), bool)
    assert cancel(stack, "default", run_id)[1]["kind"] == "canceled"
    completed(stack, ledger, "default", run_id, "canceled")
    stack.until(lambda: mine("ABORTED"), bool)
    assert ledger.times(run_id, "start") == []


def test_a_run_waiting_for_its_retry_is_never_retried(stack, ledger):
    run_id = stack.submit(
        {
            "action": "probe.work",
            "args": {"failures": 9},
            "options": {**OPTIONS, "initialBackoffMs": 30_000},
        }
    )["runId"]
    stack.wait("default", run_id, until=lambda it: it["kind"] == "scheduled")
    assert cancel(stack, "default", run_id)[1]["kind"] == "canceled"
    completed(stack, ledger, "default", run_id, "canceled")
    assert len(ledger.times(run_id, "start")) == 1


@pytest.mark.fault(18)
@pytest.mark.parametrize(("failures", "result"), [(0, "success"), (9, "canceled")])
def test_a_running_run_is_not_interrupted(stack, ledger, failures, result):
    """Its success stands; its failure becomes a cancel, whatever retries are left."""
    run_id = stack.submit(
        {
            "pool": "slow",
            "action": "probe.work",
            "args": {"seconds": 2, "failures": failures},
            "options": OPTIONS,
        }
    )["runId"]
    stack.wait("slow", run_id, until=lambda it: it["kind"] == "running")
    assert cancel(stack, "slow", run_id)[1]["kind"] == "running"
    assert cancel(stack, "slow", run_id)[1]["kind"] == "running"
    assert stack.wait("slow", run_id)["result"]["type"] == result
    completed(stack, ledger, "slow", run_id, result)
    assert len(ledger.times(run_id, "start")) == 1


@pytest.mark.fault(19)
def test_canceling_an_ended_or_unknown_run_changes_nothing(stack, ledger):
    run_id = stack.submit({"action": "probe.work", "options": OPTIONS})["runId"]
    before = stack.wait("default", run_id, until=lambda it: it.get("completion") == "done")
    assert cancel(stack, "default", run_id) == (200, before)
    assert ledger.completions(run_id) == 1
    for unknown in ("nobody", "a%20b", "..", "x" * 200):
        code, status = cancel(stack, "default", unknown)
        assert (code, status["kind"]) == (404, "unknown")
