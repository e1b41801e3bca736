"""Sweep the open runs for those whose hint was lost, and repeat it.

Walks the index of open runs for as long as it has time, from where the last sweep stopped, reads
each item consistently, and repeats the hint of what is overdue. Decides nothing about a run. In
a healthy system it finds nothing. Called on a schedule; safe beside itself and the normal flow.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from workpool.aws import clients, logs, open_runs, store
from workpool.core import clock
from workpool.core.hints import Hints
from workpool.core.run import Item, Run
from workpool.errors import UnknownShape
from workpool.verbs.relay import send
from workpool.verbs.stats import due_ms

OVERDUE_MS = 15 * 60 * 1000
"""How long a run waits for a hint before it is repeated the first time."""

PAGE = 100
MAX_PAGES = 5000
RESERVE_MS = 20_000
"""Kept of the function's time for the last page and the cursor."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did and saw, by pool."""

    repeated: Counter[str]  # hints
    pending: Counter[str]  # runs that have not ended
    oldest_due: dict[str, int]  # for how many ms a run has been due and not started, at most
    whole: bool  # whether every open run was seen


def sweep(*, remaining_ms: Callable[[], int], overdue_ms: int = OVERDUE_MS) -> Swept:
    """Walk from where the last sweep stopped, at most once round, and repeat what is overdue."""
    first = cursor = open_runs.read_sweeper_cursor()
    repeated: Counter[str] = Counter()
    pending: Counter[str] = Counter()
    oldest_due: dict[str, int] = {}
    looked = 0
    for _ in range(MAX_PAGES):
        page, cursor = _page(cursor)
        looked += len(page)
        overdue = Hints()
        for run in page:
            pending[run.pool] += not run.ended
            due = due_ms(run, clock.now_ms())
            oldest_due[run.pool] = max(due, oldest_due.get(run.pool, 0))
            if _note(run, overdue_ms):
                overdue.add_state(run, clock.now_ms())
                repeated[run.pool] += 1
        refused = send(overdue)
        for run in refused:  # It is noted as repeated: the next time is later, and it is counted.
            logs.log("hint-refused", run)
        if cursor is None or remaining_ms() < RESERVE_MS:
            break
    open_runs.save_sweeper_cursor(cursor)
    logs.log("swept", looked=looked, repeated=dict(repeated))
    return Swept(repeated, pending, oldest_due, whole=first is None and cursor is None)


def next_hint(run: Run, overdue_ms: int) -> int | None:
    """When the hint that the run waits for is to be repeated: at first after `overdue_ms`, then
    after twice as long each time, so that a long backlog is not multiplied. None: never."""
    since = run.waits_since
    if since is None:
        return None
    if run.hinted_at is None or run.hinted_at < since:  # That note was about an earlier wait.
        return since + overdue_ms
    return int(run.hinted_at + overdue_ms * 2**run.hints)


def _note(run: Run, overdue_ms: int) -> bool:
    """Whether to repeat the run's hint now; then that is noted on the item."""
    now = clock.now_ms()
    at = next_hint(run, overdue_ms)
    if at is None or now < at:
        return False
    again = run.hinted_at is not None and run.hinted_at >= (run.waits_since or 0)
    try:
        store.note_hint(run, now_ms=now, hints=run.hints + 1 if again else 1)
    except store.Refused:  # It moved on, or another sweeper was faster.
        return False
    except clients.AWSError as error:  # One run's trouble holds up no other's hint.
        logs.log("hint-not-noted", run, error=str(error))
        return False
    return True


def _page(cursor: Item | None) -> tuple[list[Run], Item | None]:
    """The next page of open runs, and the cursor behind it."""
    keys, cursor = open_runs.scan_open_keys(cursor, limit=PAGE)
    found = open_runs.read_runs_and_errors(keys)
    for it in found:
        if isinstance(it, UnknownShape):
            logs.log("item-unreadable", error=str(it))
    return [it for it in found if isinstance(it, Run)], cursor
