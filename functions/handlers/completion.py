"""Invoked with messages of the completion queue: calls the completion handlers of ended runs."""

from typing import Any

from handlers.records import Record, for_each_record
from workpool.core.message import key_of
from workpool.verbs.complete import complete


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """The records of a batch share the function's time: `complete` sends those back for which too
    little of it is left."""

    def complete_run(record: Record) -> float | None:
        key = key_of(record["body"])
        return complete(key, remaining_ms=context.get_remaining_time_in_millis)

    return for_each_record(event, complete_run)
