"""Invoked on a schedule: logs each pool's statistics and publishes them as CloudWatch metrics."""

from typing import Any

from workpool.aws.pools import pools
from workpool.verbs.stats import publish


def handler(event: Any, context: Any) -> None:
    for name in pools():
        publish(name)
