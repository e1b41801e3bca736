"""Read the changes in an event of the runs table's stream, for the handlers of its two readers. It
decides nothing about a change."""

from typing import Any

from workpool.core.changes import Change
from workpool.core.run import Item, Run
from workpool.errors import UnknownShape


def read_changes(event: dict[str, Any]) -> tuple[list[Change], dict[str, UnknownShape]]:
    """The changes, in the event's order; and by key the runs that this version cannot read."""
    changes: list[Change] = []
    unreadable: dict[str, UnknownShape] = {}
    for record in event.get("Records", []):
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
            unreadable[images["Keys"]["run"]["S"]] = error
    return changes, unreadable


def _run(image: Item | None) -> Run | None:
    return Run.from_item(image) if image else None
