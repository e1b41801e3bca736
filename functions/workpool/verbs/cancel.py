"""Cancel a run, or all open runs of a pool. What has not started ends at once; what runs is asked,
and is not interrupted: its success stands, its failure becomes a cancel. The relay and the
completion do the rest.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from workpool.aws import logs, open_runs, overrides, pools, store, sweeper
from workpool.aws.clients import library_errors
from workpool.core import clock
from workpool.core.run import Run
from workpool.errors import UnknownShape
from workpool.verbs.status import find, shown

CANCELS_AT_ONCE = 8
CANCEL_PAGE = 100
INDEX_FOLLOWS_MS = 60_000
"""Long enough for the index to show every run that was created before."""


@library_errors()
def cancel(pool: str, run_id: str) -> dict[str, Any]:
    """Cancel, and answer the status after it. An ended or unknown run stays as it is. Raises
    UnknownPool."""
    run = find(pool, run_id)
    while run is not None and not run.ended and not run.cancel_requested:
        try:
            run = _cancel(run)
        except store.Refused as refused:  # It moved on meanwhile: look again.
            run = refused.run
    return shown(run, run_id)


def _cancel(run: Run) -> Run:
    if run.kind == "running":
        return store.ask_to_cancel(run)
    now = clock.now_ms()
    canceled = store.cancel(run, finished_at=now, expires_at=pools.expiry(run.pool, now))
    logs.job_end(canceled)
    return canceled


@library_errors()
def cancel_all(pool_name: str) -> dict[str, Any]:
    """Cancel every open run created before now. The time stands in the pool's row until the walk
    is through, so that an interruption costs nothing; the walk is begun at once. Raises
    UnknownPool."""
    pool = pools.pool(pool_name)
    overrides.update(pool.name, cancel_before=clock.now_ms())
    sweeper.start_cancel_all(pool.name)
    return {"canceling": True}


def _cancel_each(pool: str, run_ids: Sequence[str]) -> None:
    with ThreadPoolExecutor(CANCELS_AT_ONCE) as together:
        list(together.map(lambda run_id: _cancel_readable(pool, run_id), run_ids))


def _cancel_readable(pool: str, run_id: str) -> None:
    try:
        cancel(pool, run_id)
    except UnknownShape as error:  # Kept for the version that reads it; it holds up no other run.
        logs.log("item-unreadable", error=str(error))


def walk_cancel(pool: pools.Pool, *, in_time: Callable[[], bool]) -> int | None:
    """Cancel what cancelAll asked for. Answers how many; None if nothing was asked. Begins anew
    each time: what it canceled before leaves the index, or is passed by. A walk that began soon
    after the call is not the last: the index follows the table a little later."""
    before = overrides.read(pool.name).cancel_before
    if before is None:
        return None
    last = clock.now_ms() >= before + INDEX_FOLLOWS_MS
    count, after = 0, (0, "")
    while in_time():
        page = open_runs.list_open_keys(pool.name, after=after, limit=CANCEL_PAGE)
        todo = [run_id for at, run_id in page if at < before]
        _cancel_each(pool.name, todo)
        count += len(todo)
        if len(todo) < CANCEL_PAGE:
            if last:
                overrides.forget_cancel_all(pool.name, before)
            break
        after = page[-1]
    logs.log("cancel-all", pool=pool.name, before=before, canceled=count)
    return count
