"""Invoked with every dead-letter queue whose letters name runs."""

from typing import Any

from handlers.records import Record, each_record
from workpool.aws.environment import environment
from workpool.verbs import dead_letters

KEPT_SECONDS = 60
"""How long a letter stays whose run's worker still lives, before the next look."""


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    def do(record: Record) -> float | None:
        pool = environment().pool_of_queue(record["eventSourceARN"])
        if pool is None:
            dead_letters.from_elsewhere(record["body"])
            return None
        return None if dead_letters.from_work_queue(pool, record["body"]) else KEPT_SECONDS

    return each_record(event, do)
