"""Which hints a change of a run, or its state, calls for. A hint asks a service to look at the run.

Pure. The relay sends the hints of changes; `look` and the sweeper repeat the hints of states.
"""

from dataclasses import dataclass, field

from workpool.core.changes import Change
from workpool.core.run import Run


@dataclass(frozen=True, slots=True)
class Hints:
    """Runs by the hint that they need."""

    deliver: list[Run] = field(default_factory=list)
    """Send the run's first message to the work queue."""
    start: list[Run] = field(default_factory=list)
    """Start the run's Retrier execution."""
    stop: list[Run] = field(default_factory=list)
    """Stop the run's Retrier execution: nothing needs it any more."""
    announce: list[Run] = field(default_factory=list)
    """Put an event on the bus: the run ended."""
    delete: list[str] = field(default_factory=list)
    """Delete these objects: their run is forgotten."""

    def add_change(self, change: Change) -> None:
        """Add the hints that a change calls for. A change within one kind calls for none.

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
        if change.forgotten is not None:
            self.delete.extend(change.forgotten.objects)
        old, new = change.old, change.new
        if new is None:
            return
        if old is None or change.created:
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

    def add_state(self, run: Run, now_ms: int) -> None:
        """Add the hint that the state of a run calls for.

        | The run is | Hint |
        |---|---|
        | enqueued; scheduled and due; running, lease over | a queue message |
        | scheduled, not yet due | its Retrier execution (harmless when it waits already) |
        | running, lease alive | none: its worker lives |
        | ended, completion pending | an event |
        | ended, nothing left to do | none |
        """
        if run.kind == "scheduled" and now_ms < run.due:
            self.start.append(run)
        elif run.ended:
            if run.completion == "pending":
                self.announce.append(run)
        elif run.kind != "running" or now_ms >= (run.lease or 0):
            self.deliver.append(run)
