"""Invoked with the runs table's stream: relays a batch of changes."""

from typing import Any

from workpool import events, queues
from workpool.errors import Unreadable
from workpool.relay import Change, relay
from workpool.run import Item, Run


def handler(event: dict[str, Any], context: Any) -> None:
    changes: list[Change] = []
    unreadable: list[str] = []
    for record in event["Records"]:
        images = record["dynamodb"]
        try:
            changes.append((_run(images.get("OldImage")), _run(images.get("NewImage"))))
        except Unreadable as error:
            unreadable.append(images["Keys"]["run"]["S"])
            events.log("item-unreadable", key=unreadable[-1], error=str(error))
    if unreadable:  # The retry queue keeps them until code that reads them is back.
        queues.relay_later(unreadable)
    relay(changes)


def _run(image: Item | None) -> Run | None:
    return Run.from_item(image) if image else None
