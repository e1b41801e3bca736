"""Submit a run: check the request, store the run. That one put is the commit point: the table's
stream tells the relay, and what was accepted is never lost. Starts nothing itself.
"""

from typing import Any

from workpool import clock, lookup, settings, store
from workpool.errors import IdempotencyConflict, Internal
from workpool.request import Request, parse


def submit(body: Any) -> dict[str, Any]:
    """Store the run that a request asks for.

    Answers {"runId"}, with "existing": True when the idempotency key was seen with the same
    request. Raises InvalidRequest, UnknownPool, UnknownAction, UnknownCompletion,
    PayloadTooLarge or IdempotencyConflict; then nothing was stored.
    """
    request = parse(body)
    check(request)
    run = request.to_run(now_ms=clock.now_ms())
    try:
        standing = store.create(run)
    except store.Refused as refused:
        raise Internal("the run could not be stored") from refused
    if standing.request != run.request:
        raise IdempotencyConflict(
            f"options.idempotencyKey {request.idempotency_key!r} was used with another request, "
            f"for run {run.run_id}"
        )
    answer: dict[str, Any] = {"runId": run.run_id}
    return answer if standing.creation == run.creation else answer | {"existing": True}


def check(request: Request) -> None:
    """Raise unless the names in the request are deployed."""
    settings.pool(request.pool)
    lookup.check(request.action, "action")
    if request.on_complete is not None:
        lookup.check(request.on_complete, "completion")
