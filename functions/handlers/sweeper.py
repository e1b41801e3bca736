"""Invoked on a schedule, and by cancelAll: walks over the open runs of all pools.

It repeats hints that were lost, cancels the runs that cancelAll was asked to cancel, repairs
settings of pools, corrects the count of pending runs, and once a day deletes the objects that no
run names.
"""

from typing import Any

from workpool.aws import logs, metrics, pools
from workpool.verbs import control, orphans, stats
from workpool.verbs.cancel import carry_out_cancel_all
from workpool.verbs.sweep import OVERDUE_MS, RESERVE_MS, sweep


def handler(event: Any, context: Any) -> dict[str, int]:
    """The event may hold:

    {"overdueSeconds": n}   repeat hints that have been overdue for this long
    {"orphanSeconds": n}    delete orphans now, if they are at least this old
    {"cancel": pool}        only cancel the runs of this pool that cancelAll was asked to cancel

    Returns how many hints were repeated, or how many runs were canceled, by pool.
    """
    remaining_ms = context.get_remaining_time_in_millis

    def in_time() -> bool:
        return bool(remaining_ms() > RESERVE_MS)

    event = event if isinstance(event, dict) else {}
    if "cancel" in event:
        name = event["cancel"]
        return {name: carry_out_cancel_all(pools.pool(name), in_time=in_time) or 0}
    for pool in pools.pools().values():
        try:
            carry_out_cancel_all(pool, in_time=in_time)
            control.repair(pool)
        except Exception as error:  # Trouble with one pool must not stop the sweep of the others.
            logs.log_error("pool-failed", error, pool=pool.name)
    seconds = event.get("overdueSeconds")
    overdue_ms = OVERDUE_MS if seconds is None else round(seconds * 1000)
    result = sweep(remaining_ms=remaining_ms, overdue_ms=overdue_ms)
    orphans.collect_or_log(in_time=in_time, older_than_seconds=event.get("orphanSeconds"))
    for name in pools.pools():
        values = {"HintsRepeated": result.repeated[name]}
        try:
            if result.saw_all:  # The stats function reads only the oldest open runs.
                values |= stats.measure_due(name, result.oldest_due.get(name, 0))
                stats.recount(name, result.pending[name])
        except Exception as error:
            logs.log_error("pool-failed", error, pool=name)
        metrics.publish(name, **values)
    return dict(result.repeated)
