"""Invoked with a batch of changes of the runs table's stream: relays them, then counts them."""

from typing import Any

from workpool.aws import counters, logs, queues
from workpool.core.changes import Change
from workpool.core.run import Item, Run
from workpool.errors import UnknownShape
from workpool.verbs.relay import relay


def handler(event: dict[str, Any], context: Any) -> None:
    """Counters come last, since only they must not be repeated: if an earlier step raises, Lambda
    repeats the whole batch."""
    changes: list[Change] = []
    unreadable: list[str] = []
    for record in event["Records"]:
        images = record["dynamodb"]
        try:
            changes.append(
                Change(
                    old=_run(images.get("OldImage")),
                    new=_run(images.get("NewImage")),
                    sequence=images["SequenceNumber"],
                    at_ms=round(images["ApproximateCreationDateTime"] * 1000),
                )
            )
        except UnknownShape as error:
            unreadable.append(images["Keys"]["run"]["S"])
            logs.log("item-unreadable", key=unreadable[-1], error=str(error))
    if unreadable:  # `relay_retry` sets them aside, until a newer version looks at them again.
        queues.relay_later(unreadable)
    relay(changes)
    counters.count(changes)


def _run(image: Item | None) -> Run | None:
    return Run.from_item(image) if image else None
