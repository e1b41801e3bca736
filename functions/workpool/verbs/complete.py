"""Call a run's completion handler: exactly once in effect, whatever crashes.

The handler runs under a lease on the item. Then "completion done" is written in one transaction
with the DynamoDB writes that it returned. A handler that raises is called again with growing
delays, its tries counted on the item, then parked for a person. The run's result never changes.
"""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from workpool.aws import logs, payloads, pools, store
from workpool.context import CompletionContext
from workpool.core import clock
from workpool.core.retry import printable
from workpool.core.run import Run
from workpool.errors import PayloadLost, PayloadUnavailable
from workpool.verbs import user_code

MAX_TRIES = 8
"""Calls of a handler that keeps raising before it is parked: about two minutes."""

Payloads = tuple[str | None, str | None]
"""Context and return value, as JSON; None for none."""

DIED = "the handler's process died each time"

MAX_WRITES = 90
"""Of the 100 entries of a transaction, the handler's."""


def complete(key: str, *, remaining_ms: Callable[[], int]) -> float | None:
    """Complete a run once. Answers None: done; else the seconds after which to come again.

    `remaining_ms` is the time until the function's deadline, which is also the lease.
    """
    run = store.read(key)
    if run is None or run.completion != "pending":
        return None
    now = clock.now_ms()
    if run.completion_lease is not None and now < run.completion_lease:
        return (run.completion_lease - now) / 1000
    try:
        read = _read_payloads(run)  # Before the lease: S3 denied or slow costs no try.
        now = clock.now_ms()  # Reading may be slow: take the time again.
        leased = store.lease_completion(
            run, claim=uuid4().hex, now_ms=now, lease=now + remaining_ms()
        )
        if leased.completion_tries > MAX_TRIES:  # Each try before ended with its process.
            return _failed(leased, leased.completion_error or DIED)
        if isinstance(read, PayloadLost):
            _park(leased, f"what the handler is told is lost: {read}")
            return None
        return _call(leased, read)
    except PayloadUnavailable as error:  # Nothing is leased yet: it costs no try.
        logs.log("completion-unread", run, error=str(error))
        return payloads.RETRY_SECONDS
    except store.Refused as refused:  # Another call holds the lease, or was faster.
        standing = refused.run
        return 1 if standing is not None and standing.completion == "pending" else None


def _read_payloads(run: Run) -> Payloads | PayloadLost:
    """Raises PayloadUnavailable for what may pass."""
    try:
        return payloads.read(run.context), payloads.read(run.return_value)
    except PayloadLost as lost:
        return lost


def _call(run: Run, read: Payloads) -> float | None:
    """Call the handler of a leased run, and mark the completion together with its writes."""
    ctx = CompletionContext(**user_code.context_fields(run))
    try:
        writes = _handle(run, read, ctx)
        store.complete(run, expires_at=pools.expiry(run.pool, clock.now_ms()), writes=writes)
    except store.Refused:
        raise
    except BaseException as error:  # SystemExit too: a handler must not end the batch.
        ctx.logger.warning("the completion handler failed", exc_info=True)
        return _failed(run, printable(user_code.error_text(error)))
    logs.log("completion-done", run, tries=run.completion_tries)
    return None


def _handle(run: Run, read: Payloads, ctx: CompletionContext) -> list[dict[str, Any]]:
    """The writes that the handler returns. Raises whatever it raises."""
    context, return_value = (None if text is None else json.loads(text) for text in read)
    result = run.reported_result()
    if run.result == "success":
        result["returnValue"] = return_value
    value = user_code.call(run.on_complete or "", "completion", ctx, context, result)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_WRITES:
        raise TypeError(
            "a completion handler returns None or a list of at most "
            f"{MAX_WRITES} TransactWriteItems entries"
        )
    return value


def _failed(run: Run, error: str) -> float | None:
    if run.completion_tries >= MAX_TRIES:
        _park(run, error)
        return None
    delay = retry_in(run.completion_tries)
    store.retry_completion(run, at_ms=clock.now_ms() + delay * 1000, error=error)
    logs.log("completion-retry", run, tries=run.completion_tries, retryInMs=delay * 1000)
    return delay


def _park(run: Run, error: str) -> None:
    store.park_completion(run, error=error)
    logs.log("completion-parked", run, tries=run.completion_tries, error=error)


def retry_in(tries: int) -> int:
    """Seconds between a handler's try and the next: 1, 2, 4, ..., at most 15 minutes."""
    return int(min(2 ** (tries - 1), 900))
