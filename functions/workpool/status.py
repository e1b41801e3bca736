"""Read runs: one by its id, many by theirs, or a pool's open runs. Changes nothing."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from workpool import store
from workpool.errors import InvalidRequest
from workpool.request import is_pool_name, is_run_id
from workpool.run import Run, run_key

MAX_IDS = 100
INCLUDES = ("args", "context", "attempts")


def status(pool: str, run_id: str, *, include: Iterable[str] = ()) -> dict[str, Any]:
    """The status of a run; `unknown` for an id that is malformed, foreign or forgotten."""
    return shown(find(pool, run_id), run_id, include=include)


def status_many(pool: str, run_ids: Any) -> list[dict[str, Any]]:
    """The statuses of up to 100 runs, in order."""
    if not isinstance(run_ids, list) or not 1 <= len(run_ids) <= MAX_IDS:
        given = len(run_ids) if isinstance(run_ids, list) else type(run_ids).__name__
        raise InvalidRequest(f"runIds must be a list of 1 to {MAX_IDS} ids, got {given}")
    for run_id in run_ids:
        if not isinstance(run_id, str):
            raise InvalidRequest(f"runIds must hold strings, got {json.dumps(run_id)[:60]}")
    keys = {run_key(pool, run_id) for run_id in run_ids if is_run_id(run_id)}
    found = {run.run_id: run for run in store.read_runs(sorted(keys))}
    return [shown(found.get(run_id), run_id) for run_id in run_ids]


def find(pool: str, run_id: str) -> Run | None:
    """The run, if the pool and the id can name one at all."""
    if not (is_pool_name(pool) and is_run_id(run_id)):
        return None
    return store.read(run_key(pool, run_id))


def includes(text: str | None) -> Sequence[str]:
    """The names in `?include=`. Raises InvalidRequest for one that there is not."""
    names = [name for name in (text or "").split(",") if name]
    for name in names:
        if name not in INCLUDES:
            raise InvalidRequest(f"include must be of {', '.join(INCLUDES)}, got {name[:60]!r}")
    return names


def shown(run: Run | None, run_id: str, *, include: Iterable[str] = ()) -> dict[str, Any]:
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
    if run.completion_error is not None:
        shape["completionError"] = run.completion_error
    return shape | _included(run, include)


def _included(run: Run, include: Iterable[str]) -> dict[str, Any]:
    texts = {"args": run.args, "context": run.context or "null", "attempts": run.attempts or "[]"}
    return {name: json.loads(texts[name]) for name in include}


def result(run: Run) -> dict[str, Any]:
    """An ended run's result, its value decoded."""
    outcome = run.outcome()
    if run.return_value is not None:
        outcome["returnValue"] = json.loads(run.return_value)
    return outcome
