"""Invoked by a schedule, and by cancelAll: walks the open runs of the pools.

It repeats hints that were lost, cancels what cancelAll asked for, repairs drifted settings,
recounts the pending runs, and once a day collects the objects that no run names.
"""

from typing import Any

from workpool.aws import logs, metrics
from workpool.aws.pools import pool, pools
from workpool.verbs import control, orphans, stats
from workpool.verbs.cancel import walk_cancel
from workpool.verbs.sweep import OVERDUE_MS, RESERVE_MS, sweep


def handler(event: Any, context: Any) -> dict[str, int]:
    """The event may carry {"overdueSeconds": n}, {"orphanSeconds": n} (collect now, what is so old)
    or {"cancel": pool}; the answer is how many hints were repeated, or runs canceled, by pool."""
    remaining_ms = context.get_remaining_time_in_millis

    def in_time() -> bool:
        return bool(remaining_ms() > RESERVE_MS)

    event = event if isinstance(event, dict) else {}
    if "cancel" in event:
        return {event["cancel"]: walk_cancel(pool(event["cancel"]), in_time=in_time) or 0}
    for it in pools().values():
        try:
            walk_cancel(it, in_time=in_time)
            control.repair(it)
        except Exception as error:  # One pool's trouble keeps no other pool from being swept.
            logs.log_error("pool-failed", error, pool=it.name)
    seconds = event.get("overdueSeconds")
    overdue_ms = OVERDUE_MS if seconds is None else round(seconds * 1000)
    swept = sweep(remaining_ms=remaining_ms, overdue_ms=overdue_ms)
    orphans.sweep(in_time=in_time, older_than_seconds=event.get("orphanSeconds"))
    for name in pools():
        found = {"HintsRepeated": swept.repeated[name]}
        if swept.whole:  # The statistics look at the oldest runs only; this walk saw all of them.
            found |= stats.due_metrics(name, swept.oldest_due.get(name, 0))
            stats.recount(name, swept.pending[name])
        metrics.publish(name, **found)
    return dict(swept.repeated)
