"""Redrive parked completions: call their handlers again, with a new count of tries."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from workpool.aws import bus, logs, open_runs, pools, store
from workpool.aws.clients import library_errors
from workpool.core.request import is_run_id
from workpool.core.run import Run, run_key
from workpool.errors import InvalidRequest, UnknownShape

PARALLEL = 8
"""How many runs are written in parallel."""

BATCH = 100
"""How many runs are read in one request."""

MAX_RUNS = 1000
"""How many runs one call redrives at most. A caller may repeat the call while it returns that
many."""


@library_errors()
def redrive(pool: str, run_ids: Any = None) -> int:
    """Redrive these parked runs of the pool, or all of them. Returns how many were redriven: runs
    that are not parked are skipped. If the bus does not accept an event, the sweeper repeats it.
    Raises UnknownPool, InvalidRequest."""
    pools.pool(pool)
    if run_ids is None:
        ids = [run_id for _, run_id in open_runs.list_open_keys(pool, parked=True, limit=MAX_RUNS)]
    else:
        ids = _parse_run_ids(run_ids)
    keys = [run_key(pool, run_id) for run_id in dict.fromkeys(ids[:MAX_RUNS])]
    redriven: list[Run] = []
    for start in range(0, len(keys), BATCH):
        runs = open_runs.read_runs(keys[start : start + BATCH])
        redriven += _redrive_each([run for run in runs if run.completion == "parked"])
    bus.announce(redriven)
    for run in redriven:
        logs.log("completion-redriven", run)
    return len(redriven)


def _parse_run_ids(run_ids: Any) -> list[str]:
    """The run ids of a request, without those that cannot name a run. Raises InvalidRequest."""
    if not isinstance(run_ids, list) or not 1 <= len(run_ids) <= MAX_RUNS:
        raise InvalidRequest(f"runIds must be a list of 1 to {MAX_RUNS} ids")
    return [run_id for run_id in run_ids if isinstance(run_id, str) and is_run_id(run_id)]


def _redrive_each(runs: Sequence[Run]) -> list[Run]:
    def redrive_one(run: Run) -> Run | None:
        try:
            return store.redrive_completion(run)
        except (store.Refused, UnknownShape):
            return None

    with ThreadPoolExecutor(PARALLEL) as threads:
        return [run for run in threads.map(redrive_one, runs) if run is not None]
