"""Invoked with messages of the relay's retry queue: looks again at runs whose hint was not sent."""

from typing import Any

from handlers.records import for_each_record
from workpool.core.message import key_of
from workpool.verbs.look import look


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return for_each_record(event, lambda record: look(key_of(record["body"])), parallel=True)
