"""Sweep the open runs: find runs whose hint was lost, and repeat the hint.

A sweep walks over the index of open runs for as long as it has time, from where the last sweep
stopped. It reads each item consistently, and repeats the hint of runs that are overdue. It decides
nothing about a run. In a healthy system it finds nothing. The sweeper function calls it on a
schedule; it can run beside another sweep and beside the normal flow.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from workpool.aws import logs, open_runs, store, unreadable
from workpool.core import clock
from workpool.core.hints import Hints
from workpool.core.run import Item, Run
from workpool.errors import UnknownShape
from workpool.verbs.relay import send
from workpool.verbs.stats import due_ms

OVERDUE_MS = 15 * 60 * 1000
"""How long a run waits for a hint until the hint is repeated for the first time."""

PAGE = 100
MAX_PAGES = 5000

RESERVE_MS = 20_000
"""The last part of the function's time, kept for the last page and for saving the cursor."""


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a sweep did and saw, by pool."""

    repeated: Counter[str]
    """How many hints it repeated."""
    pending: Counter[str]
    """How many runs it saw that have not ended."""
    oldest_due: dict[str, int]
    """The longest time in ms for which a run has been due and not started."""
    saw_all: bool
    """Whether it saw every open run."""


def sweep(*, remaining_ms: Callable[[], int], overdue_ms: int = OVERDUE_MS) -> SweepResult:
    """Walk on from where the last sweep stopped, at most to the end of the index, and repeat the
    hints of overdue runs."""
    first = cursor = open_runs.read_sweeper_cursor()
    repeated: Counter[str] = Counter()
    pending: Counter[str] = Counter()
    oldest_due: dict[str, int] = {}
    looked = 0
    for _ in range(MAX_PAGES):
        page, cursor = _read_page(cursor)
        looked += len(page)
        overdue = Hints()
        for run in page:
            pending[run.pool] += not run.ended
            due = due_ms(run, clock.now_ms())
            oldest_due[run.pool] = max(due, oldest_due.get(run.pool, 0))
            if _note_if_overdue(run, overdue_ms):
                overdue.add_state(run, clock.now_ms())
                repeated[run.pool] += 1
        unsent = send(overdue)
        for run in unsent:  # It counts as repeated, so the next repetition comes later.
            logs.log("hint-refused", run)
        if cursor is None or remaining_ms() < RESERVE_MS:
            break
    open_runs.save_sweeper_cursor(cursor)
    logs.log("swept", looked=looked, repeated=dict(repeated))
    return SweepResult(repeated, pending, oldest_due, saw_all=first is None and cursor is None)


def next_hint_at(run: Run, overdue_ms: int) -> int | None:
    """When to repeat the hint that the run waits for; None: never.

    The first repetition is `overdue_ms` after the wait began. Each further one waits twice as long
    as the last, so that a long backlog does not get many copies of its messages.
    """
    since = run.waits_since
    if since is None:
        return None
    if run.hinted_at is None or run.hinted_at < since:  # That note belongs to an earlier wait.
        return since + overdue_ms
    return int(run.hinted_at + overdue_ms * 2**run.hints)


def _note_if_overdue(run: Run, overdue_ms: int) -> bool:
    """If the run's hint is overdue, note on the item that it is repeated now. Returns whether that
    was noted: only then may the hint be repeated."""
    now = clock.now_ms()
    at = next_hint_at(run, overdue_ms)
    if at is None or now < at:
        return False
    again = run.hinted_at is not None and run.hinted_at >= (run.waits_since or 0)
    try:
        store.note_hint(run, now_ms=now, hints=run.hints + 1 if again else 1)
    except store.Refused:  # The run has changed, or another sweep has noted it.
        return False
    except Exception as error:  # Trouble with one run must not delay the hints of others.
        logs.log_error("hint-not-noted", error, key=run.key)
        return False
    return True


def _read_page(cursor: Item | None) -> tuple[list[Run], Item | None]:
    """The next page of open runs, and the cursor behind it."""
    keys, cursor = open_runs.scan_open_keys(cursor, limit=PAGE)
    runs: list[Run] = []
    for key, found in open_runs.read_runs_and_errors(keys).items():
        if isinstance(found, UnknownShape):
            unreadable.set_aside(key, str(found))
        else:
            runs.append(found)
    return runs, cursor
