"""The stack's queues and the functions that read them, with their times, as they are deployed."""

from collections.abc import Callable
from typing import Any, NamedTuple

from handlers import completion, consumer, dead_letters, relay_retry
from tests.support.environment import STACK
from tests.support.invocations import answer_of

WORK, LETTERS, PARKED = (f"{STACK}-default-{it}" for it in ("work", "dead-letters", "parked"))
COMPLETIONS, COMPLETION_LETTERS = f"{STACK}-completions", f"{STACK}-dead-letters-completions"
RETRY, RETRY_LETTERS = f"{STACK}-relay-retry", f"{STACK}-dead-letters-relay-retry"

DEAD_LETTERS = {WORK: LETTERS, COMPLETIONS: COMPLETION_LETTERS, RETRY: RETRY_LETTERS}
"""Where a message goes that was received too often."""

MOST_RECEIVES = {WORK: 1000, COMPLETIONS: 100, RETRY: 100}
"""How often that may be."""


class Reader(NamedTuple):
    function: str
    handles: Callable[[Any, Any], Any]

    def handler(self, event: Any, context: Any) -> Any:
        """What the mapping takes from the function."""
        return answer_of(self.handles, event, context)


READERS = {
    WORK: Reader("consumer", consumer.handler),
    COMPLETIONS: Reader("completion", completion.handler),
    RETRY: Reader("relay-retry", relay_retry.handler),
    **dict.fromkeys(DEAD_LETTERS.values(), Reader("dead-letters", dead_letters.handler)),
}
"""By queue: the function that reads it."""

SECONDS = {
    "consumer": 70,
    "completion": 60,
    "relay": 60,
    "relay-retry": 60,
    "counters": 60,
    "dead-letters": 60,
    "sweeper": 240,
    "submit": 30,
}
"""By function: how long it may run. The handlers were promised 40 seconds of the completion's."""

HIDDEN_SECONDS = 30
"""A message that was received stays hidden for its function's time and so much longer."""
