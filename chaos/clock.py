"""The plan's own time. It stands still while the emulator does not run.

So load and faults go on after a restart as planned, and not all at the same moment. The load and
the monkey wait on it.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds since the plan began, without those during which the clock was held."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._held_since: float | None = None

    def start(self) -> None:
        self._began = time.monotonic()

    @property
    def now(self) -> float:
        return (self._held_since or time.monotonic()) - self._began

    @contextmanager
    def held(self) -> Iterator[None]:
        self._held_since = since = time.monotonic()
        try:
            yield
        finally:
            self._began += time.monotonic() - since
            self._held_since = None

    def wait(self, at: float, stop: threading.Event) -> bool:
        """Wait until the plan's time is `at`. True: `stop` was set first."""
        while (left := at - self.now) > 0:
            if stop.wait(min(left, 0.2)):
                return True
        return stop.is_set()
