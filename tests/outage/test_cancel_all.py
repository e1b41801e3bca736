"""A thousand runs canceled at once, by a sweeper whose process is killed on its way."""

import time
from collections import Counter

import pytest

pytestmark = pytest.mark.e2e


def test_cancel_all_over_a_thousand_runs_finishes_though_its_walk_is_killed(stack, pool, ledger):
    canceled = pool("canceled")
    canceled.pause()
    work = {"action": "probe.work", "options": {"onComplete": "probe.settled"}}
    runs = canceled.run_batch([work] * 1000)

    def kinds():
        pages = [canceled.status_batch(runs[at : at + 100]) for at in range(0, 1000, 100)]
        return Counter(it.kind for page in pages for it in page)

    canceled.cancel_all()
    later = canceled.run("probe.work", on_complete="probe.settled")
    stack.until(kinds, lambda them: them["canceled"] >= 100)
    stack.kill("sweeper")
    time.sleep(1)
    left = kinds()["enqueued"]
    assert left > 0
    stack.invoke("sweeper", {})  # As its schedule does.
    assert kinds() == {"canceled": 1000}
    assert canceled.status(later).kind == "enqueued"
    canceled.resume()
    assert canceled.wait(later, timeout=30).result["type"] == "success"
    stack.until(lambda: ledger.completions(runs[-1]), bool, timeout=120)
    stack.until(ledger.all_completions, lambda done: all(it in done for it in runs), timeout=120)
    time.sleep(1)
    done = ledger.all_completions()
    assert {done[it] for it in runs} == {1}
    for run_id in runs[::20]:
        assert ledger.what(run_id) == ["completion canceled None"]  # It never started.
