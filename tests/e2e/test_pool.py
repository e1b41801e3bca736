"""The pool as a whole on the deployed stack: batches, lists, statistics, and its operation."""

import time

import pytest

from workpool import InvalidRequest

pytestmark = pytest.mark.e2e

KINDS = [
    {"action": "probe.work"},
    {"action": "probe.work", "args": {"failures": 1}},
    {"action": "probe.work", "args": {"failures": 9}, "options": {"maxRetries": 1}},
    {"action": "probe.refuse"},
    {"action": "probe.work", "options": {"runAfterMs": 3_600_000}},
]


def ended(stack, pool, run_ids, timeout=60):
    """Wait until all of them have ended; their statuses. One is asked for until the last may be."""
    pool.wait(run_ids[-1], timeout=timeout)

    def statuses():
        return pool.status_batch(run_ids)

    return stack.until(statuses, lambda them: all(it.ended for it in them), timeout)


@pytest.fixture(scope="module")
def thousand(stack):
    """Ids by pool of a thousand runs that one call submitted: half of them gentle, half of all
    kinds."""
    gentle = [{"pool": "bulk", "action": "probe.gently"}] * 500
    mixed = [{"pool": "counted"} | kind for kind in KINDS * 100]
    answer = stack.submit({"runs": [*gentle, *mixed]})
    run_ids = [it["runId"] for it in answer["results"]]
    return {"bulk": run_ids[:500], "counted": run_ids[500:]}


def test_a_thousand_runs_in_one_call_are_accepted_and_all_end(stack, pool, thousand):
    assert len({run_id for its in thousand.values() for run_id in its}) == 1000
    for status in ended(stack, pool("bulk"), thousand["bulk"], timeout=120):
        assert status.result == {"type": "success", "returnValue": "async"}


def test_a_batch_is_answered_in_order_each_by_itself(stack, pool):
    good = {"action": "probe.gently"}
    answers = pool("default").run_batch([good, {"action": "probe.gently", "args": []}, good])
    assert isinstance(answers[1], InvalidRequest)
    assert "args must be an object" in str(answers[1])
    ended(stack, pool("default"), [answers[0], answers[2]])


def test_statistics_equal_a_recount(stack, pool, thousand):
    stats, run_ids = pool("counted"), thousand["counted"]
    waiting = run_ids[4::5]
    stack.until(lambda: stats.stats()["pending"], lambda pending: pending == 100, 90)
    assert stats.stats()["oldestPending"] > 0
    for run_id in waiting[:50]:
        stats.cancel(run_id)
    expected = {
        "pending": 50,
        "recentExecutions": 100 + 200 + 200 + 100,
        "recentErrorRate": (100 + 200 + 100) / 600,
        "recentPermanentFailureRate": 200 / 450,
        "statsWindowMs": 300_000,
    }

    def shown():
        now = stats.stats()
        return {name: now[name] for name in expected}

    assert stack.until(shown, lambda it: it == expected, 60) == expected
    pages = [stats.status_batch(run_ids[at : at + 100]) for at in range(0, 500, 100)]
    over = [it for page in pages for it in page if it.ended]
    mean = sum(it.finished_at - it.enqueued_at for it in over) / len(over)
    assert stats.stats()["recentJobAverageMs"] == pytest.approx(mean)
    stats.cancel_all()
    stack.until(lambda: stats.stats()["pending"], lambda pending: pending == 0, 60)
    assert stats.stats()["oldestPending"] == 0


def test_runs_are_listed_oldest_first_by_kind_and_in_pages(stack, pool):
    listed = pool("listed")
    later = [listed.run_after(3_600_000, "probe.work", {"n": n}) for n in range(5)]
    assert [it.run_id for it in listed.runs()] == later
    assert [it.run_id for it in listed.runs("scheduled")] == later
    assert list(listed.runs("running")) == []
    code, page = stack.http("GET", "/pools/listed/runs?limit=2")
    assert (code, [it["runId"] for it in page["runs"]]) == (200, later[:2])
    code, page = stack.http("GET", f"/pools/listed/runs?limit=2&cursor={page['cursor']}")
    assert [it["runId"] for it in page["runs"]] == later[2:4]
    code, status = stack.http("GET", f"/pools/listed/runs/{later[3]}?include=args,attempts")
    assert (status["args"], status["attempts"]) == ({"n": 3}, [])
    listed.cancel_all()


def test_a_paused_pool_starts_nothing_and_goes_on_when_it_is_resumed(stack, pool, ledger):
    paused = pool("paused")
    running = paused.run("probe.work", {"seconds": 1.5})
    stack.until(lambda: paused.status(running).kind, lambda kind: kind == "running")
    assert paused.pause()["paused"] is True
    waiting = paused.run_batch([{"action": "probe.work"}] * 50)
    assert paused.wait(running, timeout=10).result["type"] == "success"
    time.sleep(1)
    assert {it.kind for it in paused.status_batch(waiting)} == {"enqueued"}
    assert paused.resume()["paused"] is False
    ended(stack, paused, waiting)


def test_a_pool_is_scaled_under_load_and_the_limit_in_force_holds(stack, pool, ledger):
    """By the actions' own times: of those that began while a limit was in force. The eight
    processes stand before, since one that is still being loaded calls its action later."""
    scaled = pool("scaled")
    scaled.scale(8)
    runs = scaled.run_batch([{"action": "probe.work", "args": {"seconds": 2.5}}] * 8)
    ended(stack, scaled, runs)
    assert 2 < ledger.most_at_once(in_order(ledger, runs)) <= 8

    runs = scaled.run_batch([{"action": "probe.work", "args": {"seconds": 0.4}}] * 90)
    in_force = []
    for limit in (1, 2, 8, 2, 1):
        assert scaled.scale(limit)["maxParallelism"] == limit
        since = time.time() * 1000 + 500
        time.sleep(2.5)
        in_force.append((since, time.time() * 1000, limit))
    assert any(it.kind == "enqueued" for it in scaled.status_batch(runs))  # It was under load.
    scaled.scale(8)
    ended(stack, scaled, runs)
    spans = in_order(ledger, runs)
    seen = [
        (ledger.most_at_once([it for it in spans if since <= it[0] < until]), limit)
        for since, until, limit in in_force
    ]
    assert all(at_once <= limit for at_once, limit in seen), seen
    assert seen[2][0] > 2, seen
    shown = {it["name"]: it for it in stack.http("GET", "/pools")[1]["pools"]}
    assert (shown["scaled"]["maxParallelism"], shown["scaled"]["deadLetters"]) == (8, 0)


def in_order(ledger, run_ids):
    """When each run's attempts began and ended."""
    return sorted(
        span
        for it in run_ids
        for span in zip(ledger.times(it, "start"), ledger.times(it, "end"), strict=True)
    )
