"""Invoked with a batch of changes of the runs table's stream: relays them."""

from typing import Any

from handlers.stream import read_changes
from workpool.aws import logs
from workpool.verbs.relay import relay


def handler(event: dict[str, Any], context: Any) -> None:
    changes, unreadable = read_changes(event)
    for key, error in unreadable.items():
        logs.log("item-unreadable", key=key, error=str(error))
    # `relay_retry` sets unreadable ones aside, until a newer version looks at them again.
    relay(changes, unreadable=list(unreadable))
