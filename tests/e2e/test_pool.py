"""The pool as a whole on the deployed stack: batches, lists, statistics, and its operation."""

import time

import pytest

from workpool import IdempotentWorkpool, InvalidRequest

pytestmark = pytest.mark.e2e


@pytest.fixture
def pool(stack, monkeypatch):
    for name, value in stack.environment.items():
        monkeypatch.setenv(name, value)
    return IdempotentWorkpool


def ended(stack, pool, run_ids, timeout=60):
    """Wait until all of them have ended; their statuses."""

    def statuses():
        return pool.status_batch(run_ids)

    return stack.until(statuses, lambda them: all(it.ended for it in them), timeout)


def test_a_thousand_runs_in_one_call_are_accepted_at_once_and_all_end(stack, pool):
    before = time.monotonic()
    answer = stack.submit({"runs": [{"pool": "bulk", "action": "probe.gently"}] * 1000})
    assert time.monotonic() - before < 5
    run_ids = [it["runId"] for it in answer["results"]]
    assert len(set(run_ids)) == 1000
    for status in ended(stack, pool("bulk"), run_ids, timeout=120):
        assert status.result == {"type": "success", "returnValue": "async"}


def test_a_batch_is_answered_in_order_each_by_itself(stack, pool):
    good = {"action": "probe.gently"}
    answers = pool("default").run_batch([good, {"action": "probe.gently", "args": []}, good])
    assert isinstance(answers[1], InvalidRequest)
    assert "args must be an object" in str(answers[1])
    ended(stack, pool("default"), [answers[0], answers[2]])


def test_statistics_equal_a_recount(stack, pool):
    stats = pool("counted")
    assert stats.stats()["pending"] == 0
    kinds = [
        {"action": "probe.work"},
        {"action": "probe.work", "args": {"failures": 1}},
        {"action": "probe.work", "args": {"failures": 9}, "options": {"maxRetries": 1}},
        {"action": "probe.refuse"},
        {"action": "probe.work", "options": {"runAfterMs": 3_600_000}},
    ]
    run_ids = [it for it in stats.run_batch(kinds * 20)]
    waiting = run_ids[4::5]
    stack.until(lambda: stats.stats()["pending"], lambda pending: pending == 20, 60)
    assert stats.stats()["oldestPending"] > 0
    for run_id in waiting[:10]:
        stats.cancel(run_id)
    expected = {
        "pending": 10,
        "recentExecutions": 20 + 40 + 40 + 20,
        "recentErrorRate": (20 + 40 + 20) / 120,
        "recentPermanentFailureRate": 40 / 90,
        "statsWindowMs": 300_000,
    }

    def shown():
        now = stats.stats()
        return {name: now[name] for name in expected}

    assert stack.until(shown, lambda it: it == expected, 60) == expected
    over = [it for it in stats.status_batch(run_ids) if it.ended]
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
    scaled = pool("scaled")
    before = scaled.run_batch([{"action": "probe.work", "args": {"seconds": 0.3}}] * 8)
    ended(stack, scaled, before)
    assert scaled.scale(4)["maxParallelism"] == 4
    wide = scaled.run_batch([{"action": "probe.work", "args": {"seconds": 1}}] * 12)
    ended(stack, scaled, wide)
    assert scaled.scale(1)["maxParallelism"] == 1
    narrow = scaled.run_batch([{"action": "probe.work", "args": {"seconds": 0.2}}] * 6)
    ended(stack, scaled, narrow)

    def at_once(run_ids):
        return ledger.most_at_once(
            [(*ledger.times(it, "start"), *ledger.times(it, "end")) for it in run_ids]
        )

    assert at_once(before) <= 2
    assert 2 < at_once(wide) <= 4
    assert at_once(narrow) == 1
    shown = {it["name"]: it for it in stack.http("GET", "/pools")[1]["pools"]}
    assert (shown["scaled"]["maxParallelism"], shown["scaled"]["deadLetters"]) == (1, 0)


def test_cancel_all_ends_what_is_open_and_nothing_that_comes_later(stack, pool, ledger):
    canceled = pool("canceled")
    options = {"runAfterMs": 3_600_000, "onComplete": "probe.settled"}
    runs = canceled.run_batch([{"action": "probe.work", "options": options}] * 200)
    canceled.cancel_all()
    later = canceled.run_after(3_600_000, "probe.work")
    for status in ended(stack, canceled, runs):
        assert status.kind == "canceled"
    assert canceled.status(later).kind == "scheduled"
    stack.until(
        lambda: canceled.status_batch(runs),
        lambda them: all(it.completion == "done" for it in them),
        60,
    )
    assert {ledger.completions(it) for it in runs[::20]} == {1}
    stack.until(
        lambda: stack.http("GET", "/pools")[1]["pools"],
        lambda pools: not any("cancelingBefore" in it for it in pools),
    )
