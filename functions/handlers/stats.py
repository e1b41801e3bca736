"""Invoked on a schedule: logs each pool's statistics and publishes them as CloudWatch metrics."""

from typing import Any

from workpool.aws import logs
from workpool.aws.pools import pools
from workpool.verbs.stats import publish


def handler(event: Any, context: Any) -> None:
    """Raises RuntimeError at the end if a pool failed, so that the function's alarm shows it."""
    failed = []
    for name in pools():
        try:
            publish(name)
        except Exception as error:  # Trouble with one pool must not hide the metrics of others.
            logs.log_error("stats-failed", error, pool=name)
            failed.append(name)
    if failed:
        raise RuntimeError(f"no statistics of {', '.join(failed)}")
