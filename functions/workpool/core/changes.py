"""A change of a run, as the table's stream reports it, and what the change adds to the counters.

Pure. The relay derives hints from a change (`hints`); the counters add its `deltas`.
"""

from collections import Counter
from dataclasses import dataclass

from workpool.core.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A run before and after a change (None: absent), and the change's place in the stream."""

    old: Run | None
    new: Run | None
    sequence: str = "0"
    """The number that the stream gave the change: it grows along a shard."""
    at_ms: int = 0
    """When the change was made, in epoch milliseconds."""

    @property
    def run(self) -> Run:
        """The run after the change, or before it if the run is gone."""
        run = self.new or self.old
        assert run is not None
        return run

    @property
    def created(self) -> bool:
        """Whether the change created a run: where there was none, or instead of a forgotten one."""
        if self.new is None:
            return False
        return self.old is None or self.old.enqueued_at != self.new.enqueued_at

    @property
    def forgotten(self) -> Run | None:
        """The run that the change removed: it was deleted, or a new run overwrote it."""
        return self.old if self.new is None or self.created else None


def deltas(change: Change) -> Counter[str]:
    """What a change adds to its pool's counters.

    `executions` counts attempts that ended, and `errors` those of them that failed. `ended`,
    `failed` and `duration_ms` are about runs. A run that is canceled before it starts counts as
    ended, without an attempt.
    """
    added: Counter[str] = Counter()
    old, new = change.old, change.new
    if change.created:
        added["pending"] = 1
    if old is None or new is None or change.created or old.kind == new.kind or old.ended:
        return added
    if old.kind == "running":
        added["executions"] = 1
        added["errors"] = int(new.result != "success")
    if new.ended:
        added["pending"] = -1
        added["ended"] = 1
        added["failed"] = int(new.result == "failed")
        added["duration_ms"] = (new.finished_at or new.enqueued_at) - new.enqueued_at
    return added
