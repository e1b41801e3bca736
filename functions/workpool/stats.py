"""A pool's statistics, read in constant time: from the relay's counters and the open index."""

from typing import Any

from workpool import clock, counters, events, settings, store
from workpool.run import run_key

WINDOWS = 60
"""Rows that a pool's window is cut into; one is at least a second wide."""

OLDEST_LOOKED_AT = 25
"""Keys per partition of the open index: runs whose completion is due stand between the pending."""

PARKED_COUNTED = 100
"""Keys per partition: there should be none, and more is not news."""


def stats(pool: str) -> dict[str, Any]:
    """The statistics of a deployed pool. Rates are 0 where there is nothing to divide by.

    `pending`: runs not yet ended; `oldestPending`: ms since the oldest was created;
    `recentExecutions`: attempts that ended in the window; `recentErrorRate`: those that failed;
    `recentPermanentFailureRate`: ended runs that failed; `recentJobAverageMs`: mean of finishedAt
    - enqueuedAt; the window's edge is exact to a sixtieth of it, or a second.
    """
    deployed = settings.pool(pool)
    now = clock.now_ms()
    sums = counters.window(
        pool, since_ms=now - deployed.stats_window_ms, width_ms=width_ms(deployed.stats_window_ms)
    )
    return {
        "pending": counters.pending(pool),
        "oldestPending": oldest_pending_ms(pool, now),
        "recentExecutions": sums["executions"],
        "recentErrorRate": _rate(sums["errors"], sums["executions"]),
        "recentPermanentFailureRate": _rate(sums["failed"], sums["ended"]),
        "recentJobAverageMs": _rate(sums["duration_ms"], sums["ended"]),
        "statsWindowMs": deployed.stats_window_ms,
    }


def log_stats(pool: str) -> dict[str, Any]:
    """Log the statistics as one event, whatever the log level."""
    found = stats(pool)
    events.always("stats", pool=pool, **found)
    return found


def oldest_pending_ms(pool: str, now_ms: int) -> int:
    """Milliseconds since the oldest run that has not ended was created; 0 if there is none."""
    oldest = store.open_keys(pool, limit=OLDEST_LOOKED_AT)
    keys = [run_key(pool, run_id) for _, run_id in oldest]
    for start in range(0, len(keys), 100):
        pending = [run for run in store.read_runs(keys[start : start + 100]) if not run.ended]
        if pending:
            return max(0, now_ms - min(run.enqueued_at for run in pending))
    return 0


def oldest_due_ms(pool: str) -> int:
    """For how long the oldest run that is due has not been started, of the oldest open ones; 0 if
    none is due. One that is scheduled for later is not due."""
    now = clock.now_ms()
    oldest = store.open_keys(pool, limit=OLDEST_LOOKED_AT)
    keys = [run_key(pool, run_id) for _, run_id in oldest]
    due = [
        run.due
        for start in range(0, len(keys), 100)
        for run in store.read_runs(keys[start : start + 100])
        if run.kind in ("enqueued", "scheduled") and run.due <= now
    ]
    return now - min(due) if due else 0


def parked(pool: str) -> int:
    """Runs whose completion is parked; counted up to a hundred per partition of the index."""
    return len(store.open_keys(pool, parked=True, limit=PARKED_COUNTED))


def width_ms(window_ms: int) -> int:
    """The width of the rows that a window of this length is counted in."""
    return max(1000, window_ms // WINDOWS // 1000 * 1000)


def _rate(part: int, whole: int) -> float:
    return part / whole if whole else 0
