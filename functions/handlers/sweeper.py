"""Invoked by a schedule: sweeps the open runs, and counts what had to be repeated."""

from typing import Any

from aws_lambda_powertools.metrics import MetricUnit, single_metric

from workpool.settings import pools
from workpool.sweep import OVERDUE_MS, sweep


def handler(event: Any, context: Any) -> dict[str, int]:
    """The event may carry {"overdueSeconds": n}; the answer is what was repeated, by pool."""
    seconds = event.get("overdueSeconds") if isinstance(event, dict) else None
    overdue_ms = OVERDUE_MS if seconds is None else round(seconds * 1000)
    repeated = sweep(remaining_ms=context.get_remaining_time_in_millis, overdue_ms=overdue_ms)
    for pool in pools():
        with single_metric(
            name="HintsRepeated",
            unit=MetricUnit.Count,
            value=repeated[pool],
            namespace="Workpool",
        ) as metric:
            metric.add_dimension(name="Pool", value=pool)
    return dict(repeated)
