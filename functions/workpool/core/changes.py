"""A change of a run, as the table's stream tells it, and what it counts. Pure.

The relay reads what a change calls for (`hints`), the counters what it adds.
"""

from collections import Counter
from dataclasses import dataclass

from workpool.core.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A run before and after, None for absent, and the change's place in the stream."""

    old: Run | None
    new: Run | None
    sequence: str = "0"
    """The stream's number of the change: it grows along a shard."""
    at_ms: int = 0

    @property
    def run(self) -> Run:
        """The run as it is now, or as it was."""
        run = self.new or self.old
        assert run is not None
        return run

    @property
    def created(self) -> bool:
        """Whether a new run stands there: where there was none, or in place of a forgotten one."""
        if self.new is None:
            return False
        return self.old is None or self.old.enqueued_at != self.new.enqueued_at

    @property
    def forgotten(self) -> Run | None:
        """The run that is gone, deleted or overwritten by a new one."""
        return self.old if self.new is None or self.created else None


def deltas(change: Change) -> Counter[str]:
    """What a change adds to its pool's counters.

    `executions` and `errors` are attempts that ended and that failed; `ended`, `failed` and
    `duration_ms` are runs. A run canceled before it started is an ended one without an attempt.
    """
    found: Counter[str] = Counter()
    old, new = change.old, change.new
    if change.created:
        found["pending"] = 1
    if old is None or new is None or change.created or old.kind == new.kind or old.ended:
        return found
    if old.kind == "running":
        found["executions"] = 1
        found["errors"] = int(new.result != "success")
    if new.ended:
        found["pending"] = -1
        found["ended"] = 1
        found["failed"] = int(new.result == "failed")
        found["duration_ms"] = (new.finished_at or new.enqueued_at) - new.enqueued_at
    return found
