"""Read a run's status. Reads only the runs table; changes nothing."""

import json
from typing import Any

from workpool import store
from workpool.request import is_pool_name, is_run_id
from workpool.run import Run, run_key


def status(pool: str, run_id: str) -> dict[str, Any]:
    """The status of a run; `unknown` for an id that is malformed, foreign or forgotten."""
    return shown(find(pool, run_id), run_id)


def find(pool: str, run_id: str) -> Run | None:
    """The run, if the pool and the id can name one at all."""
    if not (is_pool_name(pool) and is_run_id(run_id)):
        return None
    return store.read(run_key(pool, run_id))


def shown(run: Run | None, run_id: str) -> dict[str, Any]:
    """The JSON of a status: camelCase, times in epoch milliseconds."""
    if run is None:
        return {"runId": run_id, "kind": "unknown"}
    shape: dict[str, Any] = {
        "runId": run.run_id,
        "pool": run.pool,
        "action": run.action,
        "kind": run.kind,
        "enqueuedAt": run.enqueued_at,
    }
    if run.annotation is not None:
        shape["annotation"] = run.annotation
    if run.kind in ("scheduled", "running", "completed"):
        shape["retries"] = run.retries
    if run.kind == "scheduled":
        shape["nextRun"] = run.due
    if run.ended:
        shape["finishedAt"] = run.finished_at
        shape["result"] = result(run)
    if run.completion is not None:
        shape["completion"] = run.completion
    return shape


def result(run: Run) -> dict[str, Any]:
    """An ended run's result, its value decoded."""
    outcome = run.outcome()
    if run.return_value is not None:
        outcome["returnValue"] = json.loads(run.return_value)
    return outcome
