"""Invoked with messages of the completion queue: calls the completion handlers of ended runs."""

from typing import Any

from handlers.records import Record, for_each_record
from workpool.core.message import key_of
from workpool.verbs.complete import complete


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """The records of a batch share the function's time. Records that are not started in the first
    half of the time go back to the queue immediately."""
    remaining_ms = context.get_remaining_time_in_millis
    half = remaining_ms() / 2
    started = False

    def complete_run(record: Record) -> float | None:
        nonlocal started
        if started and remaining_ms() < half:
            return 0
        started = True
        return complete(key_of(record["body"]), remaining_ms=remaining_ms)

    return for_each_record(event, complete_run)
