"""Relay changes of the runs table as hints: a queue message, a Retrier execution, an event.

The relay function, which calls this, reads the table's stream. `relay` looks at
nothing but the change from the old to the new state. It writes nothing to the table and repeats
nothing itself: if it cannot send a hint now, it puts the run's key on the relay's retry queue, so
that `look` repeats the hint later. Then it goes on with the batch, so that trouble in one pool does
not delay other pools.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from workpool.aws import bus, clients, logs, payloads, queues, retrier
from workpool.core.changes import Change
from workpool.core.hints import Hints
from workpool.core.run import Run

PARALLEL = 8
"""How many Retrier executions are started or stopped in parallel."""


def relay(changes: Iterable[Change]) -> None:
    """Send every hint that the changes call for. Raises only if neither a hint nor its run's key
    could be sent. Then Lambda repeats the whole batch; repeated hints are harmless."""
    hints = Hints()
    for change in changes:
        hints.add_change(change)
    unsent = send(hints)
    if unsent:
        queues.relay_later([run.key for run in unsent])
    logs.log(
        "relayed",
        delivered=len(hints.deliver),
        started=len(hints.start),
        stopped=len(hints.stop),
        announced=len(hints.announce),
        deleted=len(hints.delete),
        later=len(unsent),
    )


def send(hints: Hints) -> list[Run]:
    """Send the hints. Returns the runs whose hint AWS did not accept."""
    unsent = queues.deliver(hints.deliver) + bus.announce(hints.announce)
    unsent += _for_each(hints.start, retrier.start)
    # Stopping only saves money: an execution that goes on finds that its run has ended.
    _for_each(hints.stop, retrier.stop)
    payloads.delete(hints.delete)
    return unsent


def _for_each(runs: Sequence[Run], act: Callable[[Run], None]) -> list[Run]:
    """Call `act` for the runs, in parallel. Returns the runs for which AWS refused."""

    def succeeds(run: Run) -> bool:
        try:
            act(run)
        except clients.AWSError as error:
            logs.log("relay-refused", run, error=str(error))
            return False
        return True

    if not runs:
        return []
    with ThreadPoolExecutor(min(PARALLEL, len(runs))) as threads:
        done = threads.map(succeeds, runs)
        return [run for run, succeeded in zip(runs, done, strict=True) if not succeeded]
