"""Invoked with a batch of changes of the runs table's stream, beside the relay: counts them."""

from typing import Any

from handlers.stream import read_changes
from workpool.aws import counters, logs

ONLY_SHARD = "only"
"""The local emulator has one shard per stream, and does not name it."""


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda names the shard only if the mapping has a tumbling window (`infra/counters.py`). It
    then wants a state in the answer, which we do not use, and invokes the function once more,
    without changes, when a window is over."""
    changes = read_changes(event).readable
    counters.count(changes, shard=event.get("shardId", ONLY_SHARD))
    logs.log("counted", changes=len(changes))
    return {"state": {}}
