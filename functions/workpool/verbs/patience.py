"""Repeat a write while AWS refuses it for reasons of its own: throttling, a conflict, an outage.

Such trouble must not cost a run an attempt or a completion a try. So whoever holds a claim or a
lease keeps the write in hand and repeats it while there is time. Called by `attempt` and
`complete`; knows nothing about runs.
"""

from collections.abc import Callable
from random import SystemRandom
from typing import TypeVar

from workpool.aws import clients
from workpool.core import clock

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0

Answer = TypeVar("Answer")


def repeat(write: Callable[[], Answer], *, until_ms: int) -> Answer:
    """Call `write` until it answers, with growing pauses, which are random so that two writers of
    one item do not meet again.

    `write` must be safe to repeat if its answer was lost. Raises its last AWSError if the next call
    would begin after `until_ms`. Raises it at once if the function lacks a right: waiting would not
    help soon, and the messages behind this one can go on.
    """
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return write()
        except clients.AWSError as error:
            seconds = SystemRandom().uniform(0.5, 1.5) * pause
            if clients.lacks_right(error) or clock.now_ms() + seconds * 1000 > until_ms:
                raise
        clock.sleep(seconds)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
