"""Redrive parked completions: their handlers are called again, as if for the first time."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from workpool.aws import bus, logs, open_runs, pools, store
from workpool.aws.clients import library_errors
from workpool.core.request import is_run_id
from workpool.core.run import Run, run_key
from workpool.errors import InvalidRequest

AT_ONCE = 8
MAX_RUNS = 1000
"""In one call; it may be repeated while it answers that many."""


@library_errors()
def redrive(pool: str, run_ids: Any = None) -> int:
    """Redrive these parked runs of the pool, or all. Answers how many were parked and are not
    now. The sweeper repeats an event that the bus does not take. Raises UnknownPool,
    InvalidRequest."""
    pools.pool(pool)
    if run_ids is None:
        ids = [run_id for _, run_id in open_runs.list_open_keys(pool, parked=True, limit=MAX_RUNS)]
    else:
        ids = _checked(run_ids)
    keys = [run_key(pool, run_id) for run_id in dict.fromkeys(ids[:MAX_RUNS])]
    redriven: list[Run] = []
    for start in range(0, len(keys), 100):
        parked = [it for it in open_runs.read_runs(keys[start : start + 100])]
        redriven += _each([it for it in parked if it.completion == "parked"])
    bus.announce(redriven)
    for run in redriven:
        logs.log("completion-redriven", run)
    return len(redriven)


def _checked(run_ids: Any) -> list[str]:
    if not isinstance(run_ids, list) or not 1 <= len(run_ids) <= MAX_RUNS:
        raise InvalidRequest(f"runIds must be a list of 1 to {MAX_RUNS} ids")
    return [it for it in run_ids if isinstance(it, str) and is_run_id(it)]


def _each(runs: Sequence[Run]) -> list[Run]:
    def tried(run: Run) -> Run | None:
        try:
            return store.redrive_completion(run)
        except store.Refused:
            return None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [run for run in pool.map(tried, runs) if run is not None]
