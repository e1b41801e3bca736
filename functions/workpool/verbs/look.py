"""Look at a run again: the one verb for whatever suspects that a hint was lost.

Reads the item consistently and repeats the hint that its state calls for. Decides nothing about
the run: a repeated hint is judged like any other. Called for the relay's retry queue and for
dead letters.
"""

from workpool.aws import store
from workpool.core import clock
from workpool.core.run import Run
from workpool.verbs.relay import Hints, send


def look(key: str) -> None:
    """Repeat the hint. Raises RuntimeError if the service did not take it."""
    run = store.read(key)
    if run is not None and send(hints(run, clock.now_ms())):
        raise RuntimeError(f"the hint for {key} was not taken")


def hints(run: Run, now_ms: int) -> Hints:
    """What the state of a run calls for.

    | The run is | Hint |
    |---|---|
    | enqueued; scheduled and due; running, lease over | a queue message |
    | scheduled, not yet due | its Retrier execution (harmless when it waits already) |
    | running, lease alive | none: its worker lives |
    | ended, completion pending | an event |
    | ended, nothing left to do | none |
    """
    found = Hints()
    if run.kind == "scheduled" and now_ms < run.due:
        found.start.append(run)
    elif run.ended:
        if run.completion == "pending":
            found.announce.append(run)
    elif run.kind != "running" or now_ms >= (run.lease or 0):
        found.deliver.append(run)
    return found
