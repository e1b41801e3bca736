"""Relay changes of the runs table as hints: a queue message, a Retrier execution, an event.

The only reader of the table's stream. It acts on the change from old to new state alone, writes
nothing to the table, and repeats nothing by itself: what it cannot relay now goes, as a run's
key, to its retry queue (`look`), and the batch goes on, so that one pool's trouble holds up no
other's first attempts.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from workpool.aws import bus, clients, logs, payloads, queues, retrier
from workpool.core.run import Run

Change = tuple[Run | None, Run | None]
"""A run before and after; None for absent."""

STARTS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Hints:
    """What a batch of changes calls for, by the service that takes it."""

    deliver: list[Run] = field(default_factory=list)  # a first message to the work queue
    start: list[Run] = field(default_factory=list)  # a Retrier execution
    stop: list[Run] = field(default_factory=list)  # the execution of a run canceled meanwhile
    announce: list[Run] = field(default_factory=list)  # an event: it ended
    delete: list[str] = field(default_factory=list)  # objects of a run that is forgotten

    def add(self, old: Run | None, new: Run | None) -> None:
        """What one change calls for; a change that is none calls for nothing.

        | From | To | Hint |
        |---|---|---|
        | absent, or another creation | enqueued | deliver |
        | absent, or another creation | scheduled | start |
        | running | scheduled | start, unless the execution that sent the attempt is answered |
        | enqueued, scheduled, running | ended | announce |
        | scheduled | canceled | also stop the execution that waits for its due |
        | running | scheduled or ended, and no execution is answered | also stop the one, if any,
          that timed the attempt: its message is lost, or comes too late to be needed |
        | any | absent, or another creation | delete its objects, which no other run names |
        """
        if old is not None and (new is None or old.enqueued_at != new.enqueued_at):
            self.delete.extend(old.objects)
        if new is None:
            return
        if old is None or old.enqueued_at != new.enqueued_at:
            if new.kind == "enqueued":
                self.deliver.append(new)
            elif new.kind == "scheduled":
                self.start.append(new)
            return
        if old.ended or old.kind == new.kind:
            return
        unanswered = old.kind == "running" and new.kind != "enqueued" and new.execution is None
        if new.ended:
            self.announce.append(new)
        elif unanswered:
            self.start.append(new)
        if (unanswered and old.timed) or (new.ended and old.kind == "scheduled"):
            self.stop.append(old)

    def extend(self, more: "Hints") -> None:
        """Also what these call for."""
        self.deliver.extend(more.deliver)
        self.start.extend(more.start)
        self.stop.extend(more.stop)
        self.announce.extend(more.announce)
        self.delete.extend(more.delete)


def relay(changes: Iterable[Change]) -> None:
    """Send every hint that the changes call for. Raises only if neither a hint nor its run's key
    could be sent: then the whole batch comes again, and repeated hints are harmless."""
    hints = Hints()
    for old, new in changes:
        hints.add(old, new)
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
