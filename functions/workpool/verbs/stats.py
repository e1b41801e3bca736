"""A pool's statistics, read in constant time: from the relay's counters and the open index."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from workpool.aws import counters, logs, open_runs, pools
from workpool.core import clock
from workpool.core.run import Run, run_key

WINDOWS = 60
"""Rows that a pool's window is cut into; one is at least a second wide."""

PAGE = 100
LOOKED_AT = 3 * PAGE
"""Of the oldest open runs; among them are ended ones whose completion is due, and some that are
scheduled for later. The sweeper looks at all."""

PARKED_COUNTED = 100
"""There should be none, and more is not news."""

WEDGED_MS = 15 * 60 * 1000


def stats(pool: str) -> dict[str, Any]:
    """The statistics of a deployed pool. Rates are 0 where there is nothing to divide by.

    `pending`: runs not yet ended; `oldestPending`: ms since the oldest was created;
    `recentExecutions`: attempts that ended in the window; `recentErrorRate`: those that failed;
    `recentPermanentFailureRate`: ended runs that failed; `recentJobAverageMs`: mean of finishedAt
    - enqueuedAt; the window's edge is exact to a sixtieth of it, or a second.
    """
    sums = _window(pool)
    return {
        "pending": counters.pending(pool),
        "oldestPending": oldest_pending_ms(pool, clock.now_ms()),
        "recentExecutions": sums["executions"],
        "recentErrorRate": _rate(sums["errors"], sums["executions"]),
        "recentPermanentFailureRate": _rate(sums["failed"], sums["ended"]),
        "recentJobAverageMs": _rate(sums["duration_ms"], sums["ended"]),
        "statsWindowMs": pools.pool(pool).stats_window_ms,
    }


def log_stats(pool: str) -> dict[str, Any]:
    """Log the statistics as one event, whatever the log level."""
    found = stats(pool)
    logs.always("stats", pool=pool, **found)
    return found


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


def wedged(pool: str, oldest_due_ms: int) -> bool:
    """Whether a run has been due for so long, and no attempt has ended in the pool's window. Of a
    paused pool nothing is due."""
    return oldest_due_ms > WEDGED_MS and not _window(pool)["executions"]


def due_ms(run: Run, now_ms: int) -> int:
    """For how long the run has been due and not started; 0 if it is neither."""
    waits = run.kind in ("enqueued", "scheduled")
    return max(0, now_ms - run.due) if waits else 0


def _oldest_open(pool: str) -> Iterator[tuple[int, Run | None]]:
    """When the oldest open runs were created, and each, unless it is gone; at most LOOKED_AT."""
    after: open_runs.OpenKey = (0, "")
    for _ in range(LOOKED_AT // PAGE):
        page = open_runs.open_keys(pool, after=after, limit=PAGE)
        runs = open_runs.read_runs([run_key(pool, run_id) for _, run_id in page])
        found = {run.run_id: run for run in runs}
        yield from ((at, found.get(run_id)) for at, run_id in page)
        if len(page) < PAGE:
            return
        after = page[-1]


def parked(pool: str) -> int:
    """Runs whose completion is parked; counted up to a hundred."""
    return len(open_runs.open_keys(pool, parked=True, limit=PARKED_COUNTED))


def _window(pool: str) -> Counter[str]:
    """The sums of the pool's window, up to now."""
    length = pools.pool(pool).stats_window_ms
    return counters.window(pool, since_ms=clock.now_ms() - length, width_ms=width_ms(length))


def width_ms(window_ms: int) -> int:
    """The width of the rows that a window of this length is counted in."""
    return max(1000, window_ms // WINDOWS // 1000 * 1000)


def _rate(part: int, whole: int) -> float:
    return part / whole if whole else 0
