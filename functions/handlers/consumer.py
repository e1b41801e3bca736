"""Invoked with one message of a pool's work queue: one attempt of a run.

Batch size 1, and as many at once as the pool's maxParallelism: the invocation is the slot.
"""

from typing import Any

from handlers.records import Record, each_record
from workpool.core.message import parse
from workpool.verbs.attempt import attempt


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    def do(record: Record) -> float | None:
        message = parse(record["body"])
        return attempt(message, remaining_ms=context.get_remaining_time_in_millis)

    return each_record(event, do)
