"""Invoked with the runs table's stream: relays a batch of changes, then counts them."""

from typing import Any

from workpool.aws import counters, logs, pools, queues
from workpool.aws.counters import Counted
from workpool.core.run import Item, Run
from workpool.errors import UnknownShape
from workpool.verbs.relay import relay
from workpool.verbs.stats import width_ms


def handler(event: dict[str, Any], context: Any) -> None:
    """Hints first; counters last, since they alone must not be repeated."""
    changes: list[Counted] = []
    unreadable: list[str] = []
    for record in event["Records"]:
        images = record["dynamodb"]
        try:
            changes.append(
                Counted(
                    sequence=images["SequenceNumber"],
                    at_ms=round(images["ApproximateCreationDateTime"] * 1000),
                    old=_run(images.get("OldImage")),
                    new=_run(images.get("NewImage")),
                )
            )
        except UnknownShape as error:
            unreadable.append(images["Keys"]["run"]["S"])
            logs.log("item-unreadable", key=unreadable[-1], error=str(error))
    if unreadable:  # Parked from there; the sweeper looks when code that reads them is back.
        queues.relay_later(unreadable)
    relay([(it.old, it.new) for it in changes])
    windows = {pool.name: width_ms(pool.stats_window_ms) for pool in pools.pools().values()}
    counters.count(changes, window_ms=windows)


def _run(image: Item | None) -> Run | None:
    return Run.from_item(image) if image else None
