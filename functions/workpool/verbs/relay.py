"""Relay changes of the runs table as hints: a queue message, a Retrier execution, an event.

The only reader of the table's stream. It acts on the change from old to new state alone, writes
nothing to the table, and repeats nothing by itself: what it cannot relay now goes, as a run's
key, to its retry queue (`look`), and the batch goes on, so that one pool's trouble holds up no
other's first attempts.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from workpool.aws import bus, clients, logs, payloads, queues, retrier
from workpool.core.changes import Change
from workpool.core.hints import Hints
from workpool.core.run import Run

STARTS_AT_ONCE = 8


def relay(changes: Iterable[Change]) -> None:
    """Send every hint that the changes call for. Raises only if neither a hint nor its run's key
    could be sent: then the whole batch comes again, and repeated hints are harmless."""
    hints = Hints()
    for change in changes:
        hints.add_change(change)
    undone = send(hints)
    if undone:
        queues.relay_later([run.key for run in undone])
    logs.log(
        "relayed",
        delivered=len(hints.deliver),
        started=len(hints.start),
        stopped=len(hints.stop),
        announced=len(hints.announce),
        deleted=len(hints.delete),
        later=len(undone),
    )


def send(hints: Hints) -> list[Run]:
    """Send the hints. Answers the runs whose hint was not taken."""
    undone = queues.deliver(hints.deliver) + bus.announce(hints.announce)
    undone += _each(retrier.start, hints.start)
    _each(retrier.stop, hints.stop)  # Only a saving: an execution that goes on finds it ended.
    payloads.delete(hints.delete)
    return undone


def _each(call: Callable[[Run], None], runs: Sequence[Run]) -> list[Run]:
    """Call for each run, some at once. Answers the runs for which AWS refused."""

    def tried(run: Run) -> bool:
        try:
            call(run)
        except clients.AWSError as error:
            logs.log("relay-refused", run, error=str(error))
            return False
        return True

    if not runs:
        return []
    with ThreadPoolExecutor(min(STARTS_AT_ONCE, len(runs))) as pool:
        return [run for run, done in zip(runs, pool.map(tried, runs), strict=True) if not done]
