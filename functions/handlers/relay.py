"""Invoked with a batch of changes of the runs table's stream: relays them."""

from typing import Any

from handlers.stream import read_changes
from workpool.aws import unreadable
from workpool.verbs.relay import hand_over, relay


def handler(event: dict[str, Any], context: Any) -> None:
    changes = read_changes(event)
    # `relay_retry` looks at repaired runs as they are now.
    relay(changes.readable, look_again=changes.repaired)
    aside = True
    later: list[str] = []
    for key, error in changes.unreadable.items():
        aside = aside and unreadable.set_aside(key, str(error))
        if not aside:  # `relay_retry` finds it unreadable, too, and sets it aside.
            later.append(key)
    if later:
        hand_over(later)
