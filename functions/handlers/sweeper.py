"""Invoked by a schedule, and by cancelAll: walks the open runs of the pools.

It repeats hints that were lost, cancels what cancelAll asked for, repairs drifted settings,
recounts the pending runs, and once a day collects the objects that no run names.
"""

from typing import Any

from aws_lambda_powertools.metrics import MetricUnit, single_metric

from workpool.aws import logs, overrides
from workpool.aws.pools import pool, pools
from workpool.verbs import control, orphans
from workpool.verbs.recount import recount
from workpool.verbs.stats import wedged
from workpool.verbs.sweep import OVERDUE_MS, RESERVE_MS, sweep


def handler(event: Any, context: Any) -> dict[str, int]:
    """The event may carry {"overdueSeconds": n}, {"orphanSeconds": n} (collect now, what is so old)
    or {"cancel": pool}; the answer is how many hints were repeated, or runs canceled, by pool."""
    remaining_ms = context.get_remaining_time_in_millis

    def in_time() -> bool:
        return bool(remaining_ms() > RESERVE_MS)

    event = event if isinstance(event, dict) else {}
    if "cancel" in event:
        return {event["cancel"]: control.walk_cancel(pool(event["cancel"]), in_time=in_time) or 0}
    for it in pools().values():
        try:
            control.walk_cancel(it, in_time=in_time)
            control.repair(it)
        except Exception as error:  # One pool's trouble keeps no other pool from being swept.
            logs.failed("pool-failed", error, pool=it.name)
    seconds = event.get("overdueSeconds")
    overdue_ms = OVERDUE_MS if seconds is None else round(seconds * 1000)
    swept = sweep(remaining_ms=remaining_ms, overdue_ms=overdue_ms)
    orphans.sweep(in_time=in_time, older_than_seconds=event.get("orphanSeconds"))
    for name in pools():
        _metric(name, "HintsRepeated", MetricUnit.Count, swept.repeated[name])
        if swept.whole:  # The statistics' own OldestDue is of a bounded look at the oldest runs.
            oldest_due = 0 if overrides.read(name).paused else swept.oldest_due.get(name, 0)
            _metric(name, "OldestDue", MetricUnit.Milliseconds, oldest_due)
            _metric(name, "Wedged", MetricUnit.Count, int(wedged(name, oldest_due)))
            recount(name, swept.pending[name])
    return dict(swept.repeated)


def _metric(pool: str, name: str, unit: MetricUnit, value: int) -> None:
    with single_metric(name=name, unit=unit, value=value, namespace="Workpool") as metric:
        metric.add_dimension(name="Pool", value=pool)
