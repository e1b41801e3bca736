"""The watchdog of an attempt: it limits the time of an action by ending the whole process.

Python cannot end a function alone. So when the time is over, the watchdog has the attempt written
as failed, and then ends the process. Called by `attempt`; knows nothing about runs.
"""

import os
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def guard(work: Callable[[], Result], *, limit_ms: int, on_overrun: Callable[[], None]) -> Result:
    """Call `work` and return what it returns, if that takes at most `limit_ms`. Otherwise call
    `on_overrun` once, and then end the process.

    Exactly one of the two happens: `decided` is acquired by the first, and stops the other.
    """
    decided = threading.Lock()

    def end_process() -> None:
        if decided.acquire(blocking=False):
            try:
                on_overrun()
            finally:
                os._exit(1)

    timer = threading.Timer(limit_ms / 1000, end_process)
    timer.daemon = True
    timer.start()
    try:
        result = work()
    finally:
        timer.cancel()
    if not decided.acquire(blocking=False):
        threading.Event().wait()  # The watchdog was first; wait until it ends this process.
    return result
