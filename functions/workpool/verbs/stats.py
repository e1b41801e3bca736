"""A pool's statistics, read in constant time: from the counters and the open index.

Called by the API, by the stats function once a minute, and by the sweeper, which corrects the
counter of pending runs.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from workpool.aws import counters, logs, metrics, open_runs, overrides, pools
from workpool.aws.clients import library_errors
from workpool.core import clock
from workpool.core.run import Run, run_key

PAGE = 100

MAX_LOOKED_AT = 3 * PAGE
"""How many of the oldest open runs are read. Among them may be ended runs that wait for their
completion, and runs that are scheduled for later. The sweeper reads all open runs."""

MAX_PARKED = 100
"""Parked runs are counted up to this number. There should be none, and more than that is no
news."""

WEDGED_MS = 15 * 60 * 1000
"""A pool is wedged if a run has been due for longer and no attempt has ended in the window."""


@library_errors()
def stats(pool: str) -> dict[str, Any]:
    """The statistics of a deployed pool. Rates are 0 where there is nothing to divide by.

    `pending`: runs that have not ended; `oldestPending`: ms since the oldest of them was created;
    `recentExecutions`: attempts that ended in the window; `recentErrorRate`: the share of them that
    failed; `recentPermanentFailureRate`: the share of the ended runs that failed;
    `recentJobAverageMs`: mean of finishedAt - enqueuedAt. The start of the window is exact to a
    sixtieth of the window, or to a second. Raises UnknownPool.
    """
    deployed, now = pools.pool(pool), clock.now_ms()
    sums = counters.read_window(deployed, now)
    return {
        "pending": counters.read_pending(pool),
        "oldestPending": read_oldest_pending_ms(pool, now),
        "recentExecutions": sums["executions"],
        "recentErrorRate": _rate(sums["errors"], sums["executions"]),
        "recentPermanentFailureRate": _rate(sums["failed"], sums["ended"]),
        "recentJobAverageMs": _rate(sums["duration_ms"], sums["ended"]),
        "statsWindowMs": deployed.stats_window_ms,
    }


def log_stats(pool: str) -> dict[str, Any]:
    """Log the statistics as one event, whatever the log level. Returns them."""
    values = stats(pool)
    logs.log_always("stats", pool=pool, **values)
    return values


def publish(pool: str) -> None:
    """Log the statistics, and publish them as metrics."""
    values = log_stats(pool)
    metrics.publish(
        pool,
        Pending=values["pending"],
        OldestPending=values["oldestPending"],
        Executions=values["recentExecutions"],
        ErrorRate=values["recentErrorRate"],
        PermanentFailureRate=values["recentPermanentFailureRate"],
        JobAverageMs=values["recentJobAverageMs"],
        Parked=count_parked(pool),
        **measure_due(pool, read_oldest_due_ms(pool)),
    )


def measure_due(pool: str, oldest_due_ms: int) -> dict[str, int]:
    """The metrics OldestDue and Wedged: how long the oldest run has been due, and whether the pool
    is wedged. In a paused pool no run is due."""
    due_ms = 0 if overrides.read(pool).paused else oldest_due_ms
    wedged = due_ms > WEDGED_MS and not _read_window(pool)["executions"]
    return {"OldestDue": due_ms, "Wedged": int(wedged)}


def read_oldest_pending_ms(pool: str, now_ms: int) -> int:
    """Milliseconds since the oldest run that has not ended was created; 0 if there is none. If all
    runs that were read have ended, this is an upper bound."""
    looked_at, enqueued_at = 0, now_ms
    for enqueued_at, run in _read_oldest_open(pool):
        looked_at += 1
        if run is not None and not run.ended:
            return max(0, now_ms - enqueued_at)
    return max(0, now_ms - enqueued_at) if looked_at == MAX_LOOKED_AT else 0


def read_oldest_due_ms(pool: str) -> int:
    """The longest time in ms for which one of the runs that were read has been due and not started;
    0 if none is due. A run that is scheduled for later is not due."""
    now = clock.now_ms()
    runs = (run for _, run in _read_oldest_open(pool) if run is not None)
    return max((due_ms(run, now) for run in runs), default=0)


def due_ms(run: Run, now_ms: int) -> int:
    """For how long the run has been due and not started; 0 if it has started or is not due."""
    waits = run.kind in ("enqueued", "scheduled")
    return max(0, now_ms - run.due) if waits else 0


def _read_oldest_open(pool: str) -> Iterator[tuple[int, Run | None]]:
    """The oldest open runs, at most MAX_LOOKED_AT, each with the time of its creation. None stands
    for a run that has left the table."""
    after: open_runs.OpenKey = (0, "")
    for _ in range(MAX_LOOKED_AT // PAGE):
        page = open_runs.list_open_keys(pool, after=after, limit=PAGE)
        runs = open_runs.read_runs([run_key(pool, run_id) for _, run_id in page])
        by_id = {run.run_id: run for run in runs}
        yield from ((enqueued_at, by_id.get(run_id)) for enqueued_at, run_id in page)
        if len(page) < PAGE:
            return
        after = page[-1]


def count_parked(pool: str) -> int:
    """Count the runs whose completion is parked, up to MAX_PARKED."""
    return len(open_runs.list_open_keys(pool, parked=True, limit=MAX_PARKED))


def recount(pool: str, pending: int) -> None:
    """Correct the counter of pending runs if it differs from `pending`, the number of runs that a
    walk over all open runs saw.

    The counter follows the table with a delay, and a walk takes some time. So a difference is
    corrected only if two walks in a row found the same one, and nothing was counted in between.
    """
    counted = counters.read_pending(pool)
    drift = pending - counted
    if drift == 0:
        return
    finding = f"{drift} beside {counted}, after {counters.read_places(pool)}"
    if counters.correct_pending(pool, drift, finding=finding):
        logs.log("pending-corrected", pool=pool, counted=counted, by=drift)
    else:
        counters.note_drift(pool, finding)


def _read_window(pool: str) -> Counter[str]:
    return counters.read_window(pools.pool(pool), clock.now_ms())


def _rate(part: int, whole: int) -> float:
    return part / whole if whole else 0
