"""Invoked by a schedule: logs each pool's statistics and publishes them as CloudWatch metrics."""

from typing import Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

from workpool.aws import overrides
from workpool.aws.pools import pools
from workpool.verbs.stats import log_stats, oldest_due_ms, parked, wedged


def handler(event: Any, context: Any) -> None:
    for pool in pools().values():
        found = log_stats(pool.name)
        oldest_due = 0 if overrides.read(pool.name).paused else oldest_due_ms(pool.name)
        metrics = Metrics(namespace="Workpool")
        metrics.add_dimension(name="Pool", value=pool.name)
        for name, unit, value in (
            ("Pending", MetricUnit.Count, found["pending"]),
            ("OldestPending", MetricUnit.Milliseconds, found["oldestPending"]),
            ("OldestDue", MetricUnit.Milliseconds, oldest_due),
            ("Executions", MetricUnit.Count, found["recentExecutions"]),
            ("ErrorRate", MetricUnit.NoUnit, found["recentErrorRate"]),
            ("PermanentFailureRate", MetricUnit.NoUnit, found["recentPermanentFailureRate"]),
            ("JobAverageMs", MetricUnit.Milliseconds, found["recentJobAverageMs"]),
            ("Wedged", MetricUnit.Count, int(wedged(pool.name, oldest_due))),
            ("Parked", MetricUnit.Count, parked(pool.name)),
        ):
            metrics.add_metric(name=name, unit=unit, value=value)
        metrics.flush_metrics()
