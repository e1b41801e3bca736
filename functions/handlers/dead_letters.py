"""Invoked with the messages of every dead-letter queue whose messages name runs."""

from typing import Any

from handlers.records import Record, for_each_record
from workpool.aws.environment import environment
from workpool.verbs import dead_letters

LOOK_AGAIN_SECONDS = 60
"""After this time a letter comes back if a worker still works on its run."""


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    def handle_letter(record: Record) -> float | None:
        pool = environment().pool_of_queue(record["eventSourceARN"])
        if pool is None:
            dead_letters.handle_other_letter(record["body"])
            return None
        handled = dead_letters.handle_work_letter(pool, record["body"])
        return None if handled else LOOK_AGAIN_SECONDS

    return for_each_record(event, handle_letter, parallel=True)
