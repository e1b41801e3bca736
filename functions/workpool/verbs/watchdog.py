"""The watchdog of an attempt: the time that an action may take, and the end of its process.

Python cannot end a function alone. So when the time is up the watchdog reports the attempt as
overrun and ends the whole process. Called by `attempt`; knows nothing about runs.
"""

import os
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def guard(work: Callable[[], Result], *, limit_ms: int, overrun: Callable[[], None]) -> Result:
    """What `work` returns, if it returns within `limit_ms`. Otherwise `overrun` is called once, and
    then the process ends: whoever is first, the work or the watchdog, decides; the other never
    does."""
    decided = threading.Lock()

    def end() -> None:
        if decided.acquire(blocking=False):
            try:
                overrun()
            finally:
                os._exit(1)

    timer = threading.Timer(limit_ms / 1000, end)
    timer.daemon = True
    timer.start()
    try:
        result = work()
    finally:
        timer.cancel()
    if not decided.acquire(blocking=False):
        threading.Event().wait()  # The watchdog was first, and is ending this process.
    return result
