"""Read the changes in an event of the runs table's stream, for the handlers of its two readers. It
decides nothing about a change."""

from typing import Any, NamedTuple

from workpool.core.changes import Change
from workpool.core.run import Item, Run
from workpool.errors import UnknownShape, as_unknown_shape


class Changes(NamedTuple):
    """What an event holds. One item that cannot be read stops no other change."""

    readable: list[Change]
    """In the event's order."""
    unreadable: dict[str, UnknownShape]
    """By its key, each item that cannot be read as it is now."""
    repaired: list[str]
    """The keys of runs that can be read as they are now, but not as they were before."""


def read_changes(event: dict[str, Any]) -> Changes:
    changes = Changes([], {}, [])
    for record in event.get("Records", []):
        images = record["dynamodb"]
        key = images["Keys"]["run"]["S"]
        try:
            new = _run(images.get("NewImage"))
        except Exception as error:
            changes.unreadable[key] = as_unknown_shape(error)
            continue
        try:
            old = _run(images.get("OldImage"))
        except Exception:  # What this change means cannot be known.
            if new is not None:
                changes.repaired.append(key)
            continue
        changes.readable.append(
            Change(
                old=old,
                new=new,
                sequence=images["SequenceNumber"],
                at_ms=round(images["ApproximateCreationDateTime"] * 1000),
            )
        )
    return changes


def _run(image: Item | None) -> Run | None:
    return Run.from_item(image) if image else None
