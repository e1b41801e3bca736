"""Collect orphans: delete the objects of the payloads bucket that no run names.

A submit or an attempt leaves an orphan if it loses a race, or its process ends, after it wrote the
object and before an item names it. An object that the relay failed to delete is an orphan, too.

Walks over the bucket once a day. A walk that runs out of time goes on in the next sweep from where
it stopped. Called by the sweeper function. It can run beside everything else, since no object name
is ever used again.
"""

from collections.abc import Callable, Iterable

from workpool.aws import logs, open_runs, payloads
from workpool.core import clock
from workpool.errors import UnknownShape

DAY_MS = 24 * 3600 * 1000
"""Younger objects are left alone. A run names an object within minutes or never, since no function
runs longer than 15 minutes."""

BATCH = 100
"""How many runs are read in one request."""


def collect_or_log(*, in_time: Callable[[], bool], older_than_seconds: float | None = None) -> None:
    """`collect` as a part of a sweep: log a failure instead of raising it, so that it cannot stop
    the other parts. The next sweep tries again."""
    try:
        if in_time():
            collect(in_time=in_time, older_than_seconds=older_than_seconds)
    except Exception as error:
        logs.log_error("orphans-failed", error)


def collect(*, in_time: Callable[[], bool], older_than_seconds: float | None = None) -> int:
    """Delete the orphans of one walk, as far as there is time. Returns how many. Does nothing until
    a day after the last walk began.

    `older_than_seconds`: start a walk now, and delete orphans that are at least this old.
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
        orphans = list(_find_orphans(item.name for item in page if item.at_ms <= before))
        payloads.delete(orphans)
        count += len(orphans)
        after = page[-1].name if len(page) == payloads.PAGE else ""
        if not after or not in_time():
            break
    open_runs.save_orphans_cursor(after, begins_at=now + DAY_MS)
    logs.log("orphans-collected", count=count)
    return count


def _find_orphans(names: Iterable[str]) -> Iterable[str]:
    """The objects that no item names. An expired item still names its objects, until DynamoDB
    deletes the item. Objects of an item that cannot be read are no orphans."""
    names_by_key: dict[str, list[str]] = {}
    for name in names:
        key = payloads.key_of(name)
        if key is not None:
            names_by_key.setdefault(key, []).append(name)
    all_keys = sorted(names_by_key)
    for start in range(0, len(all_keys), BATCH):
        keys = all_keys[start : start + BATCH]
        found = open_runs.read_runs_and_errors(keys)
        for key in keys:
            run = found.get(key)
            if isinstance(run, UnknownShape):  # We cannot tell which objects it names.
                continue
            named = [] if run is None else run.objects
            yield from (name for name in names_by_key[key] if name not in named)
