"""Submit runs: check each request and store its run. Starts nothing itself.

The put of the item is the commit point: from then on the table's stream tells the relay about the
run, and an accepted run is never lost. Large payloads are written as objects before that; they
belong to no run until the item names them.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from workpool import lookup
from workpool.aws import lambda_actions, payloads, pools, store, trace
from workpool.aws.clients import library_errors
from workpool.core import clock
from workpool.core.request import Request, parse
from workpool.core.run import Run
from workpool.errors import (
    IdempotencyConflict,
    Internal,
    InvalidRequest,
    UnknownAction,
    WorkpoolError,
)

MAX_RUNS = 1000
"""How many runs one request may submit."""

PARALLEL = 16
"""How many runs of one request are stored in parallel."""


@library_errors()
def submit(body: Any, *, pool: str | None = None) -> dict[str, Any]:
    """Store the run of a request, or one run for each request in {"runs": [...]}. If `pool` is
    given, it is the pool of all of them, and the requests name none.

    One request: returns {"runId"}, with "existing": True if the idempotency key was used before
    with the same request. Raises InvalidRequest, UnknownPool, UnknownAction, UnknownCompletion,
    PayloadTooLarge or IdempotencyConflict; then nothing was stored.
    Many requests: returns {"results"} in order, each of them {"runId"} as above or {"error"}.
    Raises InvalidRequest if the envelope around the requests is malformed.
    """
    if pool is not None:
        pools.pool(pool)
        if not isinstance(body, dict):
            raise InvalidRequest("the request must be a JSON object")
    if isinstance(body, dict) and "runs" in body:
        return {"results": _submit_many(_parse_envelope(body), pool)}
    request, run = _check(body, pool)
    return _store_run(request, run)


def _parse_envelope(body: dict[str, Any]) -> list[Any]:
    if len(body) > 1:
        other = next(name for name in body if name != "runs")
        raise InvalidRequest(f"runs must be the only field: each run has its own {other}")
    runs = body["runs"]
    if not isinstance(runs, list) or not 1 <= len(runs) <= MAX_RUNS:
        got = len(runs) if isinstance(runs, list) else type(runs).__name__
        raise InvalidRequest(f"runs must be a list of 1 to {MAX_RUNS} requests, got {got}")
    return runs


def _check(body: Any, pool: str | None) -> tuple[Request, Run]:
    """Check a request: its fields, and that its pool, action and completion handler exist. Returns
    it with the run that it asks for."""
    if pool is not None and isinstance(body, dict):
        if "pool" in body:
            raise InvalidRequest("pool is not a field here: the path names it")
        body = {**body, "pool": pool}
    request = parse(body)
    deployed = pools.pool(request.pool)
    if not lambda_actions.is_lambda_action(request.action):
        lookup.check(request.action, "action")
    elif request.action.removeprefix(lambda_actions.PREFIX) not in deployed.lambda_actions:
        raise UnknownAction(
            f"pool {deployed.name!r} has no {request.action!r}: its lambdaActions in cdk.json are "
            f"{', '.join(sorted(deployed.lambda_actions)) or 'none'}"
        )
    if request.on_complete is not None:
        lookup.check(request.on_complete, "completion")
    run = request.to_run(now_ms=clock.now_ms())
    return request, replace(run, trace=trace.header()) if deployed.tracing else run


def _store_run(request: Request, run: Run) -> dict[str, Any]:
    """Store the run, unless its idempotency key already has a run."""
    # A key that is already in use needs no new objects: only those of its run are ever read.
    seen = store.read(run.key) if run.request is not None and payloads.is_large(run) else None
    try:
        stored = seen or store.create(payloads.store_request(run))
    except store.Refused as refused:
        raise Internal("the run could not be stored") from refused
    if stored.request != run.request:
        raise IdempotencyConflict(
            f"options.idempotencyKey {request.idempotency_key!r} was used with another request, "
            f"for run {run.run_id}"
        )
    answer: dict[str, Any] = {"runId": run.run_id}
    return answer if stored.creation == run.creation else answer | {"existing": True}


def _submit_many(bodies: Sequence[Any], pool: str | None) -> list[dict[str, Any]]:
    """Store each run with its own conditional put, several in parallel. A conditional put can be
    repeated if its answer was lost. A BatchWriteItem cannot: it has no condition, so a repetition
    would replace a run that has already started."""

    def submit_one(body: Any) -> dict[str, Any]:
        try:
            with library_errors():
                return _store_run(*_check(body, pool))
        except WorkpoolError as error:
            return error.as_json()

    with ThreadPoolExecutor(PARALLEL) as threads:
        return list(threads.map(submit_one, bodies))
