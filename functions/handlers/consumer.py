"""Invoked with one message of a pool's work queue: one attempt of a run.

The batch size is 1, and at most maxParallelism invocations run in parallel: an invocation is a slot
of the pool.
"""

from typing import Any

from handlers.records import Record, for_each_record
from workpool.aws.environment import environment
from workpool.core.message import parse
from workpool.verbs.attempt import attempt


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    def attempt_run(record: Record) -> float | None:
        pool = environment().pool_of_queue(record["eventSourceARN"])
        message = parse(record["body"], pool=pool)
        return attempt(message, remaining_ms=context.get_remaining_time_in_millis)

    return for_each_record(event, attempt_run)
