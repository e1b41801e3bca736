"""Look at a run again: the one verb for everything that suspects that a hint was lost.

Reads the item consistently and repeats the hint that the run's state calls for. Decides nothing
about the run: a repeated hint is judged like any other. Called for messages of the relay's retry
queue and for dead letters.
"""

from workpool.aws import store
from workpool.core import clock
from workpool.core.hints import Hints
from workpool.verbs.relay import send


def look(key: str) -> None:
    """Repeat the run's hint. Raises RuntimeError if AWS did not accept it."""
    run = store.read(key)
    if run is None:
        return
    hints = Hints()
    hints.add_state(run, clock.now_ms())
    if send(hints):
        raise RuntimeError(f"AWS did not accept the hint for {key}")
