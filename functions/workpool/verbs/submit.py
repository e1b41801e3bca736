"""Submit runs: check each request, store its run. The put is the commit point: the table's stream
tells the relay, and what was accepted is never lost. Large payloads are written before it, and are
nobody's until it names them. Starts nothing itself.
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
"""In one batch."""

AT_ONCE = 16


@library_errors()
def submit(body: Any, *, pool: str | None = None) -> dict[str, Any]:
    """Store the run of a request, or of each in {"runs": [...]}; of `pool`, where it is named
    elsewhere than in the request.

    One: answers {"runId"}, with "existing": True when the idempotency key was seen with the same
    request. Raises InvalidRequest, UnknownPool, UnknownAction, UnknownCompletion,
    PayloadTooLarge or IdempotencyConflict; then nothing was stored.
    Many: answers {"results"} in order, each such an answer or {"error"}. Raises InvalidRequest
    for a bad envelope.
    """
    if pool is not None:
        pools.pool(pool)
        if not isinstance(body, dict):
            raise InvalidRequest("the request must be a JSON object")
    if isinstance(body, dict) and "runs" in body:
        return {"results": _submit_many(_envelope(body), pool)}
    request, run = _asked(body, pool)
    return _stored(request, run)


def _envelope(body: dict[str, Any]) -> list[Any]:
    if len(body) > 1:
        other = next(name for name in body if name != "runs")
        raise InvalidRequest(f"runs stands alone: each run has its own {other}")
    runs = body["runs"]
    if not isinstance(runs, list) or not 1 <= len(runs) <= MAX_RUNS:
        given = len(runs) if isinstance(runs, list) else type(runs).__name__
        raise InvalidRequest(f"runs must be a list of 1 to {MAX_RUNS} requests, got {given}")
    return runs


def _asked(body: Any, pool: str | None) -> tuple[Request, Run]:
    """The run that a request asks for, its names checked."""
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


def _stored(request: Request, run: Run) -> dict[str, Any]:
    """Store one run, unless its idempotency key has one already."""
    # A key that was seen needs no objects: those of its run stand, and only they are read.
    seen = store.read(run.key) if run.request is not None and payloads.is_large(run) else None
    try:
        standing = seen or store.create(payloads.store_request(run))
    except store.Refused as refused:
        raise Internal("the run could not be stored") from refused
    if standing.request != run.request:
        raise IdempotencyConflict(
            f"options.idempotencyKey {request.idempotency_key!r} was used with another request, "
            f"for run {run.run_id}"
        )
    answer: dict[str, Any] = {"runId": run.run_id}
    return answer if standing.creation == run.creation else answer | {"existing": True}


def _submit_many(bodies: Sequence[Any], pool: str | None) -> list[dict[str, Any]]:
    """Each by itself, several at a time: a put under its condition, which may be repeated when an
    answer was lost. An unconditional BatchWriteItem may not: it would begin a run anew."""

    def submit_one(body: Any) -> dict[str, Any]:
        try:
            with library_errors():
                return _stored(*_asked(body, pool))
        except WorkpoolError as error:
            return error.as_json()

    with ThreadPoolExecutor(AT_ONCE) as together:
        return list(together.map(submit_one, bodies))
