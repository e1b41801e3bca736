"""The metrics that the stack publishes itself: namespace `Workpool`, dimension `Pool`.

CloudWatch reads them from the lines that this writes to the log (embedded metric format). The only
place that names one; `infra/metrics.py` names them for the alarms and the dashboard.
"""

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

NAMESPACE = "Workpool"

UNITS = {
    "Pending": MetricUnit.Count,
    "OldestPending": MetricUnit.Milliseconds,
    "OldestDue": MetricUnit.Milliseconds,
    "Executions": MetricUnit.Count,
    "ErrorRate": MetricUnit.NoUnit,
    "PermanentFailureRate": MetricUnit.NoUnit,
    "JobAverageMs": MetricUnit.Milliseconds,
    "Wedged": MetricUnit.Count,
    "Parked": MetricUnit.Count,
    "HintsRepeated": MetricUnit.Count,
}


def publish(pool: str, **values: float) -> None:
    """Write the values of a pool as one line."""
    metrics = Metrics(namespace=NAMESPACE)
    metrics.add_dimension(name="Pool", value=pool)
    for name, value in values.items():
        metrics.add_metric(name=name, unit=UNITS[name], value=value)
    metrics.flush_metrics()
