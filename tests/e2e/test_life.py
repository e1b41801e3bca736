"""A run's life on the deployed stack, as a caller sees it: over the SDK and over HTTP."""

import time
from itertools import pairwise

import pytest

pytestmark = pytest.mark.e2e


def test_a_run_that_fails_twice_is_seen_at_each_step_and_completes_once(stack, ledger):
    run_id = stack.submit(
        {
            "action": "probe.work",
            "args": {"failures": 2, "seconds": 0.7},
            "options": {"onComplete": "probe.settled", "context": {"order": 7}, "annotation": "o7"},
        }
    )["runId"]
    seen = []
    while not seen or seen[-1]["kind"] != "completed":
        code, status = stack.http("GET", f"/pools/default/runs/{run_id}")
        assert code == 200
        assert (status["runId"], status["pool"], status["action"], status["annotation"]) == (
            run_id,
            "default",
            "probe.work",
            "o7",
        )
        seen.append(status)
        time.sleep(0.05)

    kinds = [
        kind
        for at, kind in enumerate(it["kind"] for it in seen)
        if kind != ([""] + [it["kind"] for it in seen])[at]
    ]
    assert kinds in (
        ["enqueued", "running", "scheduled", "running", "scheduled", "running", "completed"],
        ["running", "scheduled", "running", "scheduled", "running", "completed"],
    )
    assert seen[-1]["result"] == {"type": "success", "returnValue": {"attempts": 3}}
    assert seen[-1]["retries"] == 2
    next_runs = sorted({it["nextRun"] for it in seen if it["kind"] == "scheduled"})
    starts = ledger.times(run_id, "start")
    assert len(starts) == 3
    assert len(next_runs) == 2
    for next_run, start in zip(next_runs, starts[1:], strict=True):
        assert next_run % 1000 == 0
        assert next_run <= start < next_run + 3000

    done = stack.wait("default", run_id, until=lambda it: it.get("completion") == "done")
    assert done["finishedAt"] >= done["enqueuedAt"]
    assert ledger.completions(run_id) == 1
    assert ledger.what(run_id)[-1] == "completion success {'order': 7}"


def test_by_default_there_are_five_attempts_with_doubling_jittered_delays(stack, ledger):
    run_id = stack.submit({"action": "probe.work", "args": {"failures": 99}})["runId"]
    ended = stack.wait("default", run_id)
    assert ended["result"] == {"type": "failed", "error": "attempt 4 fails on purpose"}
    assert ended["retries"] == 4
    starts = ledger.times(run_id, "start")
    assert len(starts) == 5
    for nominal, (before, after) in zip((250, 500, 1000, 2000), pairwise(starts), strict=True):
        assert after - before >= nominal * 0.5
        assert after - before <= nominal * 1.5 + 1000 + 2500  # rounding, and the emulator's pace


def test_a_runs_own_options_override_the_pools(stack, ledger):
    run_id = stack.submit(
        {
            "action": "probe.work",
            "args": {"failures": 99},
            "options": {"initialBackoffMs": 25, "base": 2.71, "maxRetries": 2},
        }
    )["runId"]
    assert stack.wait("default", run_id)["retries"] == 2
    assert len(ledger.times(run_id, "start")) == 3


def test_a_pools_options_are_its_runs_defaults(stack, ledger):
    run_id = stack.submit({"pool": "two", "action": "probe.work", "args": {"failures": 99}})[
        "runId"
    ]
    assert stack.wait("two", run_id)["retries"] == 1
    assert len(ledger.times(run_id, "start")) == 2


def test_a_non_retryable_error_gives_exactly_one_attempt(stack, ledger):
    run_id = stack.submit({"action": "probe.refuse", "options": {"onComplete": "probe.settled"}})[
        "runId"
    ]
    ended = stack.wait("default", run_id, until=lambda it: it.get("completion") == "done")
    assert ended["result"] == {"type": "failed", "error": "no such card"}
    assert len(ledger.times(run_id, "start")) == 1
    assert ledger.completions(run_id) == 1


def test_a_run_in_the_future_waits_until_its_whole_second(stack, ledger):
    at = int(time.time() * 1000) + 2500
    code, answer = stack.http(
        "POST", "/pools/default/runs", {"action": "probe.work", "options": {"runAt": at}}
    )
    assert code == 202
    _, status = stack.http("GET", f"/pools/default/runs/{answer['runId']}")
    assert (status["kind"], status["retries"]) == ("scheduled", 0)
    assert status["nextRun"] == -(-at // 1000) * 1000
    assert stack.wait("default", answer["runId"])["result"]["type"] == "success"
    assert ledger.times(answer["runId"], "start")[0] >= status["nextRun"]


def test_actions_may_be_async_and_submit_further_runs(stack):
    first = stack.submit({"action": "probe.gently"})["runId"]
    second = stack.submit({"action": "probe.spread"})["runId"]
    assert stack.wait("default", first)["result"] == {"type": "success", "returnValue": "async"}
    child = stack.wait("default", second)["result"]["returnValue"]
    assert stack.wait("default", child)["result"]["type"] == "success"


def test_a_handler_that_raises_is_called_again_until_it_does_not(stack, ledger):
    run_id = stack.submit(
        {"action": "probe.gently", "options": {"onComplete": "probe.raises_twice"}}
    )["runId"]
    stack.wait("default", run_id, until=lambda it: it.get("completion") == "done")
    assert ledger.what(run_id) == ["called", "called", "called"]


@pytest.mark.fault(20)
def test_an_idempotency_key_names_one_run(stack):
    request = {"action": "probe.work", "options": {"idempotencyKey": "order-1"}}
    first = stack.submit(request)
    assert stack.submit(request) == {**first, "existing": True}
    with pytest.raises(RuntimeError, match=r"^IdempotencyConflict: "):
        stack.submit(request | {"args": {"other": 1}})


def test_a_run_logs_its_start_its_retries_and_its_end(stack):
    run_id = stack.submit(
        {"action": "probe.work", "args": {"failures": 1}, "options": {"annotation": "logged"}}
    )["runId"]
    stack.wait("default", run_id)
    lines = stack.until(
        lambda: [
            line
            for line in stack.logs(stack.outputs["DefaultConsumerFunctionName"])
            if line.get("runId") == run_id and str(line.get("event", "")).startswith("job-")
        ],
        lambda lines: len(lines) == 3,
    )
    start, retry, end = lines
    about = {"runId": run_id, "pool": "default", "action": "probe.work", "annotation": "logged"}
    for line in lines:
        assert about.items() <= line.items()
    assert start["event"] == "job-start"
    assert start["options"]["maxRetries"] == 4
    assert (retry["event"], retry["retries"]) == ("job-retry", 1)
    assert retry["error"] == "attempt 0 fails on purpose"
    assert 0 < retry["retryInMs"] <= 1400
    assert (end["event"], end["result"], end["retries"]) == ("job-end", "success", 1)
    assert end["durationMs"] >= retry["durationMs"]
