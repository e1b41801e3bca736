"""Invoked with one message of a pool's work queue: one attempt of a run.

Batch size 1, and as many at once as the pool's maxParallelism: the invocation is the slot.
"""

from typing import Any

from handlers.records import Record, each_record
from workpool import events, queues
from workpool.attempt import attempt
from workpool.errors import Unreadable
from workpool.message import read
from workpool.settings import settings


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    def do(record: Record) -> float | None:
        try:
            message = read(record["body"])
            return attempt(message, remaining_ms=context.get_remaining_time_in_millis)
        except Unreadable as unreadable:  # Waiting would not help: aside, at once.
            pool = settings().pool_of_work_queue(record["eventSourceARN"]) or ""
            queues.park(pool, record["body"], reason=str(unreadable))
            events.log("message-parked", pool=pool, error=str(unreadable))
            return None

    return each_record(event, do)
