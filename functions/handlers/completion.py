"""Invoked with the completion queue: calls the completion handlers of runs that ended."""

from typing import Any

from handlers.records import Record, each_record
from workpool.core.message import key_of
from workpool.verbs.complete import complete

AT_ONCE = 0.0


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """A batch shares the function's time: what is not begun in its first half comes again."""
    remaining_ms = context.get_remaining_time_in_millis
    half = remaining_ms() / 2
    begun = False

    def do(record: Record) -> float | None:
        nonlocal begun
        if begun and remaining_ms() < half:
            return AT_ONCE
        begun = True
        return complete(key_of(record["body"]), remaining_ms=remaining_ms)

    return each_record(event, do)
