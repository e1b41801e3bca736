"""Cancel a run, or all open runs of a pool.

A run that waits ends at once. A running action is not interrupted: the item only notes the
request. Then a success still counts, and a failure becomes a cancel. No completion handler is
called here: the relay announces each ended run, and `complete` follows.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from workpool.aws import logs, open_runs, overrides, pools, store, sweeper
from workpool.aws.clients import library_errors
from workpool.core import clock
from workpool.core.request import parse_before
from workpool.core.run import Run
from workpool.errors import UnknownShape
from workpool.verbs.status import describe, find

PARALLEL = 8
"""How many runs cancelAll cancels in parallel."""

CANCEL_PAGE = 100
"""How many runs cancelAll reads from the index of open runs in one request."""

INDEX_DELAY_MS = 60_000
"""The index of open runs follows the table with a delay. After this time it shows every run that
was created before the call of cancelAll."""


@library_errors()
def cancel(pool: str, run_id: str) -> dict[str, Any]:
    """Cancel a run. Returns its status after that. An ended or unknown run stays as it is. Raises
    UnknownPool."""
    return describe(_cancel_run(pool, run_id), run_id)


def _cancel_run(pool: str, run_id: str) -> Run | None:
    """Returns the run as it is after that. Reads no payloads: the sweeper has no right to."""
    run = find(pool, run_id)
    while run is not None and not run.ended and not run.cancel_requested:
        try:
            run = _cancel_once(run)
        except store.Refused as refused:  # The run has changed since it was read: look again.
            run = refused.run
    return run


def _cancel_once(run: Run) -> Run:
    """End a run that waits, or note the request on a running one. Raises Refused if the run has
    changed since it was read."""
    if run.kind == "running":
        return store.ask_to_cancel(run)
    now = clock.now_ms()
    canceled = store.cancel(run, finished_at=now, expires_at=pools.expiry(run.pool, now))
    logs.job_end(canceled)
    return canceled


@library_errors()
def cancel_all(pool_name: str, *, before: Any = None) -> dict[str, Any]:
    """Start to cancel every open run that was created before `before`, in epoch milliseconds, or
    before now. Raises UnknownPool or InvalidRequest.

    A caller who does not know whether a call arrived repeats it with the same `before`: then what
    was submitted between the two calls is not canceled. The pool's row keeps the time, and of
    several the latest, until all runs are canceled, so an interrupted walk is repeated. The sweeper
    function starts the walk immediately.
    """
    pool = pools.pool(pool_name)
    now = clock.now_ms()
    time = now if before is None else parse_before(before, now_ms=now)
    overrides.update(pool.name, cancel_before=time)
    sweeper.start_cancel_all(pool.name)
    return {"canceling": True}


def carry_out_cancel_all(pool: pools.Pool, *, in_time: Callable[[], bool]) -> int | None:
    """Walk over the open runs of the pool and cancel those that cancelAll was asked to cancel.
    Returns how many; None if nobody has called cancelAll.

    Each walk starts at the oldest run: runs that an earlier walk canceled have left the index, or
    are skipped. The request is forgotten only after a complete walk that started INDEX_DELAY_MS or
    more after the time that cancelAll named, and in which no cancel failed.
    """
    before = overrides.read(pool.name).cancel_before
    if before is None:
        return None
    is_last_walk = clock.now_ms() >= before + INDEX_DELAY_MS
    count, failed, after = 0, 0, (0, "")
    while in_time():
        page = open_runs.list_open_keys(pool.name, after=after, limit=CANCEL_PAGE)
        run_ids = [run_id for enqueued_at, run_id in page if enqueued_at < before]
        failed += _cancel_each(pool.name, run_ids)
        count += len(run_ids)
        if len(run_ids) < CANCEL_PAGE:
            if is_last_walk and not failed:
                overrides.forget_cancel_all(pool.name, before)
            break
        after = page[-1]
    logs.log("cancel-all", pool=pool.name, before=before, canceled=count)
    return count


def _cancel_each(pool: str, run_ids: Sequence[str]) -> int:
    """Cancel these runs, whatever the trouble with one of them is. Returns how many the next walk
    must try again."""
    with ThreadPoolExecutor(PARALLEL) as threads:
        return list(threads.map(lambda run_id: _is_canceled(pool, run_id), run_ids)).count(False)


def _is_canceled(pool: str, run_id: str) -> bool:
    """Whether the walk is done with the run."""
    try:
        _cancel_run(pool, run_id)
    except UnknownShape:  # No walk can cancel it. The sweep sets it aside.
        return True
    except Exception as error:
        logs.log_error("cancel-failed", error, pool=pool, runId=run_id)
        return False
    return True
