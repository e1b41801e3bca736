"""Collect orphans: objects that no run names, left by a submit or an attempt that lost its race or
its process between the object and the item. A missed deletion of the relay's is one, too.

Walks the bucket once a day, as far as there is time, from where the last walk stopped. Called by
the sweeper; safe beside everything else, since a name is never used again.
"""

from collections.abc import Callable, Iterable

from workpool.aws import logs, open_runs, payloads
from workpool.core import clock
from workpool.core.run import Run, run_key

DAY_MS = 24 * 3600 * 1000
"""An object is named within minutes, or never: no function runs longer than 15."""

BATCH = 100
"""Runs that are read in one request."""


def sweep(*, in_time: Callable[[], bool], older_than_seconds: float | None = None) -> None:
    """`collect`, beside what else a sweep does: a failure is logged, and the next sweep goes on."""
    try:
        if in_time():
            collect(in_time=in_time, older_than_seconds=older_than_seconds)
    except Exception as error:
        logs.log_error("orphans-failed", error)


def collect(*, in_time: Callable[[], bool], older_than_seconds: float | None = None) -> int:
    """Delete the orphans of a walk, begun a day after the last one. Answers how many.

    `older_than_seconds`: begin a walk now, and take objects of that age for old enough.
    """
    now = clock.now_ms()
    after, begins_at = open_runs.read_orphans_cursor()
    if older_than_seconds is not None:
        after = ""
    elif not after and now < begins_at:
        return 0
    before = now - (DAY_MS if older_than_seconds is None else round(older_than_seconds * 1000))
    count = 0
    while True:
        page = payloads.list_objects(after)
        orphans = list(_orphans(it.name for it in page if it.at_ms <= before))
        payloads.delete(orphans)
        count += len(orphans)
        after = page[-1].name if len(page) == payloads.PAGE else ""
        if not after or not in_time():
            break
    open_runs.save_orphans_cursor(after, begins_at=now + DAY_MS)
    logs.log("orphans-collected", count=count)
    return count


def _orphans(names: Iterable[str]) -> Iterable[str]:
    """Those that no item names, expired ones included; and none of an item that cannot be read."""
    of: dict[str, list[str]] = {}
    for name in names:
        key = payloads.key_of(name)
        if key is not None:
            of.setdefault(key, []).append(name)
    keys = sorted(of)
    for start in range(0, len(keys), BATCH):
        some = keys[start : start + BATCH]
        found = open_runs.read_runs_and_errors(some)
        runs = {run_key(it.pool, it.run_id): it for it in found if isinstance(it, Run)}
        if len(runs) < len(found):  # Which one is unreadable is not told: none of the unread.
            some = [key for key in some if key in runs]
        for key in some:
            named = runs[key].objects if key in runs else []
            yield from (name for name in of[key] if name not in named)
