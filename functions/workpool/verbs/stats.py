"""A pool's statistics, read in constant time: from the relay's counters and the open index."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from workpool.aws import counters, logs, metrics, open_runs, overrides, pools
from workpool.aws.clients import library_errors
from workpool.core import clock
from workpool.core.run import Run, run_key

PAGE = 100
LOOKED_AT = 3 * PAGE
"""Of the oldest open runs; among them are ended ones whose completion is due, and some that are
scheduled for later. The sweeper looks at all."""

PARKED_COUNTED = 100
"""There should be none, and more is not news."""

WEDGED_MS = 15 * 60 * 1000


@library_errors()
def stats(pool: str) -> dict[str, Any]:
    """The statistics of a deployed pool. Rates are 0 where there is nothing to divide by.

    `pending`: runs not yet ended; `oldestPending`: ms since the oldest was created;
    `recentExecutions`: attempts that ended in the window; `recentErrorRate`: those that failed;
    `recentPermanentFailureRate`: ended runs that failed; `recentJobAverageMs`: mean of finishedAt
    - enqueuedAt; the window's edge is exact to a sixtieth of it, or a second. Raises UnknownPool.
    """
    deployed, now = pools.pool(pool), clock.now_ms()
    sums = counters.read_window(deployed, now)
    return {
        "pending": counters.read_pending(pool),
        "oldestPending": oldest_pending_ms(pool, now),
        "recentExecutions": sums["executions"],
        "recentErrorRate": _rate(sums["errors"], sums["executions"]),
        "recentPermanentFailureRate": _rate(sums["failed"], sums["ended"]),
        "recentJobAverageMs": _rate(sums["duration_ms"], sums["ended"]),
        "statsWindowMs": deployed.stats_window_ms,
    }


def log_stats(pool: str) -> dict[str, Any]:
    """Log the statistics as one event, whatever the log level. Returns them."""
    found = stats(pool)
    logs.log_always("stats", pool=pool, **found)
    return found


def publish(pool: str) -> None:
    """Log the statistics, and publish them as metrics."""
    found = log_stats(pool)
    metrics.publish(
        pool,
        Pending=found["pending"],
        OldestPending=found["oldestPending"],
        Executions=found["recentExecutions"],
        ErrorRate=found["recentErrorRate"],
        PermanentFailureRate=found["recentPermanentFailureRate"],
        JobAverageMs=found["recentJobAverageMs"],
        Parked=parked(pool),
        **due_metrics(pool, oldest_due_ms(pool)),
    )


def due_metrics(pool: str, oldest_due_ms: int) -> dict[str, int]:
    """For how long the oldest run has been due, and whether the pool is wedged: a run has been due
    for so long, and no attempt has ended in the window. In a paused pool nothing is due."""
    due_ms = 0 if overrides.read(pool).paused else oldest_due_ms
    wedged = due_ms > WEDGED_MS and not _window(pool)["executions"]
    return {"OldestDue": due_ms, "Wedged": int(wedged)}


def oldest_pending_ms(pool: str, now_ms: int) -> int:
    """Milliseconds since the oldest run that has not ended was created; 0 if there is none. If all
    that were looked at have ended: how long it is at most."""
    looked, at = 0, now_ms
    for at, run in _oldest_open(pool):
        looked += 1
        if run is not None and not run.ended:
            return max(0, now_ms - at)
    return max(0, now_ms - at) if looked == LOOKED_AT else 0


def oldest_due_ms(pool: str) -> int:
    """For how long the oldest run that is due has not been started, of those looked at; 0 if none
    is due. One that is scheduled for later is not due."""
    now = clock.now_ms()
    return max((due_ms(run, now) for _, run in _oldest_open(pool) if run is not None), default=0)


def due_ms(run: Run, now_ms: int) -> int:
    """For how long the run has been due and not started; 0 if it is neither."""
    waits = run.kind in ("enqueued", "scheduled")
    return max(0, now_ms - run.due) if waits else 0


def _oldest_open(pool: str) -> Iterator[tuple[int, Run | None]]:
    """When the oldest open runs were created, and each, unless it is gone; at most LOOKED_AT."""
    after: open_runs.OpenKey = (0, "")
    for _ in range(LOOKED_AT // PAGE):
        page = open_runs.list_open_keys(pool, after=after, limit=PAGE)
        runs = open_runs.read_runs([run_key(pool, run_id) for _, run_id in page])
        found = {run.run_id: run for run in runs}
        yield from ((at, found.get(run_id)) for at, run_id in page)
        if len(page) < PAGE:
            return
        after = page[-1]


def parked(pool: str) -> int:
    """Runs whose completion is parked; counted up to a hundred."""
    return len(open_runs.list_open_keys(pool, parked=True, limit=PARKED_COUNTED))


def recount(pool: str, pending: int) -> None:
    """Put the counter of pending runs right, if it went astray: a walk saw `pending` of them.

    The counter follows the table a little later, and a walk takes a while. So a difference is put
    right only when two walks in a row found the same one, and nothing was counted between them.
    """
    counted = counters.read_pending(pool)
    drift = pending - counted
    if drift == 0:
        return
    finding = f"{drift} beside {counted}, after {counters.read_newest_window(pool)}"
    if counters.correct_pending(pool, drift, finding=finding):
        logs.log("pending-corrected", pool=pool, counted=counted, by=drift)
    else:
        counters.note_drift(pool, finding)


def _window(pool: str) -> Counter[str]:
    return counters.read_window(pools.pool(pool), clock.now_ms())


def _rate(part: int, whole: int) -> float:
    return part / whole if whole else 0
