"""maxParallelism on the deployed stack, by the actions' own times."""

import time

import pytest

pytestmark = pytest.mark.e2e


def test_a_pool_of_two_runs_two_at_once_and_no_more(stack, ledger):
    run_ids = [
        stack.submit({"pool": "two", "action": "probe.work", "args": {"seconds": 1}})["runId"]
        for _ in range(8)
    ]
    for run_id in run_ids:
        assert stack.wait("two", run_id)["result"]["type"] == "success"
    spans = [(*ledger.times(it, "start"), *ledger.times(it, "end")) for it in run_ids]
    assert ledger.most_at_once(spans) == 2
    took = max(end for _, end in spans) - min(start for start, _ in spans)
    assert 3900 <= took <= 6000


@pytest.mark.promise("Retries", "Ready runs start in about the order in which they became ready")
def test_a_pool_of_one_runs_one_after_the_other(stack, ledger):
    run_ids = [
        stack.submit({"pool": "one", "action": "probe.work", "args": {"seconds": 0.3}})["runId"]
        for _ in range(5)
    ]
    for run_id in run_ids:
        assert stack.wait("one", run_id)["result"]["type"] == "success"
    spans = [(*ledger.times(it, "start"), *ledger.times(it, "end")) for it in run_ids]
    assert ledger.most_at_once(spans) == 1


@pytest.mark.promise("Retries", "A run that waits for its retry holds no slot")
def test_runs_that_back_off_take_no_slot(stack, ledger):
    backing_off = [
        stack.submit(
            {
                "pool": "two",
                "action": "probe.work",
                "args": {"failures": 1},
                "options": {"initialBackoffMs": 60_000},
            }
        )["runId"]
        for _ in range(20)
    ]
    for run_id in backing_off:
        stack.wait("two", run_id, until=lambda it: it["kind"] == "scheduled")
    before = time.time() * 1000
    run_id = stack.submit({"pool": "two", "action": "probe.work"})["runId"]
    assert stack.wait("two", run_id)["result"]["type"] == "success"
    assert ledger.times(run_id, "start")[0] - before < 3000
    for run_id in backing_off:
        assert stack.http("POST", f"/pools/two/runs/{run_id}/cancel")[1]["kind"] == "canceled"
