"""The metrics that the stack itself publishes: namespace `Workpool`, dimension `Pool`.

CloudWatch reads them from lines that this module writes to the log (embedded metric format). No
other module of the functions names a metric; `infra/metrics.py` names them for the alarms and the
dashboard.
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
