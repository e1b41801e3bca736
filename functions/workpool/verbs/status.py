"""Read runs: one by its id, or many by their ids. Changes nothing.

The other verbs use `describe` and `describe_many`, so that a run looks the same in every answer.
"""

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from workpool.aws import logs, open_runs, payloads, pools, store
from workpool.aws.clients import library_errors
from workpool.core import clock
from workpool.core.request import is_run_id
from workpool.core.run import Payload, Run, run_key
from workpool.errors import (
    Internal,
    InvalidRequest,
    PayloadLost,
    PayloadUnavailable,
    UnknownShape,
    as_unknown_shape,
)

MAX_IDS = 100
INCLUDES = ("args", "context", "attempts")

PARALLEL = 16
"""How many runs' return values are read in parallel."""

MAX_SHOWN_BYTES = 32_768
"""A larger return value is shown as a URL."""

MAX_ANSWER_BYTES = 5_000_000
"""The limit for many statuses together: further return values that objects hold are shown as URLs,
too. Lambda answers at most 6 MB, as a string of JSON in which each quote takes two bytes."""


@library_errors()
def status(pool: str, run_id: str, *, include: Sequence[str] = ()) -> dict[str, Any]:
    """The status of a run; kind `unknown` if the id is malformed, belongs to another pool or is
    forgotten. `include`: any of args, context, attempts. Raises UnknownPool, InvalidRequest."""
    for name in include:
        if name not in INCLUDES:
            raise InvalidRequest(f"include must be one of {', '.join(INCLUDES)}, got {name[:60]!r}")
    return describe(find(pool, run_id), run_id, include=include)


@library_errors()
def status_many(pool: str, run_ids: Any) -> list[dict[str, Any]]:
    """The statuses of up to 100 runs, in order. Raises UnknownPool, InvalidRequest."""
    pools.pool(pool)
    if not isinstance(run_ids, list) or not 1 <= len(run_ids) <= MAX_IDS:
        got = len(run_ids) if isinstance(run_ids, list) else type(run_ids).__name__
        raise InvalidRequest(f"runIds must be a list of 1 to {MAX_IDS} ids, got {got}")
    for run_id in run_ids:
        if not isinstance(run_id, str):
            raise InvalidRequest(f"runIds must hold strings, got {json.dumps(run_id)[:60]}")
    keys = {run_key(pool, run_id) for run_id in run_ids if is_run_id(run_id)}
    now = clock.now_ms()
    found = open_runs.read_runs_and_errors(sorted(keys)) if keys else {}
    readable = {
        key: run for key, run in found.items() if not (isinstance(run, Run) and run.expired(now))
    }
    return describe_many([(run_id, readable.get(run_key(pool, run_id))) for run_id in run_ids])


def find(pool: str, run_id: str) -> Run | None:
    """Read the run; None if there is none, or if the id cannot name one. Raises UnknownPool."""
    pools.pool(pool)
    return store.read(run_key(pool, run_id)) if is_run_id(run_id) else None


def describe_many(
    runs: Sequence[tuple[str, Run | UnknownShape | None]],
) -> list[dict[str, Any]]:
    """The statuses of runs by their ids, together no larger than one answer may be. The status of
    a run that cannot be read has kind `unknown` and an `error`."""
    if not any(_has_value_object(run) for _, run in runs):
        return [_describe_or_error(run, run_id) for run_id, run in runs]
    with ThreadPoolExecutor(PARALLEL) as threads:
        shapes = list(threads.map(lambda pair: _describe_or_error(pair[1], pair[0]), runs))
    total = 0
    for shape, (_, run) in zip(shapes, runs, strict=True):
        size = _answer_bytes(shape)
        if isinstance(run, Run) and _has_value_object(run) and total + size > MAX_ANSWER_BYTES:
            shape["result"] = _result_by_url(run)
            size = _answer_bytes(shape)
        total += size
    return shapes


def _describe_or_error(run: Run | UnknownShape | None, run_id: str) -> dict[str, Any]:
    """The status of one run among many: whatever its trouble is, the others are shown."""
    try:
        if isinstance(run, UnknownShape):
            raise run
        return describe(run, run_id)
    except Exception as error:
        unreadable = Internal(f"run {run_id} cannot be read: {as_unknown_shape(error)}")
        return {"runId": run_id, "kind": "unknown"} | unreadable.as_json()


def _answer_bytes(shape: dict[str, Any]) -> int:
    """The size of a status in Lambda's answer, which is a string of JSON."""
    text = json.dumps(shape, ensure_ascii=False)
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace"))


def describe(run: Run | None, run_id: str, *, include: Iterable[str] = ()) -> dict[str, Any]:
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
        shape["result"] = _describe_result(run)
    if run.completion is not None:
        shape["completion"] = run.completion
    if run.completion_error is not None:
        shape["completionError"] = run.completion_error
    return shape | _read_included(run, include)


def _read_included(run: Run, include: Iterable[str]) -> dict[str, Any]:
    by_name = {"args": run.args, "context": run.context, "attempts": Payload(run.attempts or "[]")}
    try:
        return {name: payloads.read_json(by_name[name]) for name in include}
    except (PayloadLost, PayloadUnavailable) as error:
        raise Internal(f"run {run.run_id}: {error}") from error


def _describe_result(run: Run) -> dict[str, Any]:
    """The result of an ended run, with its return value or with the URL of the value."""
    outcome = run.reported_result()
    if run.result != "success":
        return outcome
    value = run.return_value
    if value is not None and (value.size or 0) > MAX_SHOWN_BYTES:
        return _result_by_url(run)
    try:
        return outcome | {"returnValue": payloads.read_json(value)}
    except (PayloadLost, PayloadUnavailable) as error:
        if not _has_value_object(run):
            raise UnknownShape("an item whose returnValue is not JSON") from error
        # One unreadable value must not prevent the answer with the other statuses.
        logs.log("return-value-unread", run, error=str(error))
        return _result_by_url(run)


def _has_value_object(run: Run | UnknownShape | None) -> bool:
    """Whether an object holds the run's return value."""
    return isinstance(run, Run) and run.return_value is not None and run.return_value.at is not None


def _result_by_url(run: Run) -> dict[str, Any]:
    assert run.return_value is not None and run.return_value.at is not None
    return {"type": "success", "returnValueUrl": payloads.url(run.return_value.at)}
