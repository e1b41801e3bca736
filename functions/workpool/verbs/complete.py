"""Call a run's completion handler: exactly once in effect, whatever crashes.

The handler runs under a lease on the item. Then "completion done" is written in one transaction
with the DynamoDB writes that it returned. A handler that raises is called again with growing
delays, its tries counted on the item, then parked for a person. The run's result never changes.
"""

import asyncio
import inspect
import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from workpool import lookup
from workpool.aws import logs, payloads, pools, store
from workpool.context import CompletionContext, about
from workpool.core import clock
from workpool.core.retry import message_of, printable
from workpool.core.run import Run
from workpool.errors import PayloadLost, PayloadUnavailable

MAX_TRIES = 8
"""Calls of a handler that keeps raising before it is parked: about two minutes."""

Told = tuple[str | None, str | None]
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
        told = _told(run)
        now = clock.now_ms()  # That took its time.
        leased = store.lease_completion(
            run, claim=uuid4().hex, now_ms=now, lease=now + remaining_ms()
        )
        if leased.completion_tries > MAX_TRIES:  # Each try before ended with its process.
            return _failed(leased, leased.completion_error or DIED)
        if isinstance(told, PayloadLost):
            _park(leased, f"what the handler is told is lost: {told}")
            return None
        return _call(leased, told)
    except PayloadUnavailable as unread:  # Nothing was leased: no try is lost by it.
        logs.log("completion-unread", run, error=str(unread))
        return payloads.UNREAD_SECONDS
    except store.Refused as refused:  # Another call holds the lease, or was faster.
        standing = refused.run
        return 1 if standing is not None and standing.completion == "pending" else None


def _told(run: Run) -> Told | PayloadLost:
    """What the handler gets, read before the lease. Raises PayloadUnavailable for what may
    pass."""
    try:
        return (
            payloads.read(run.context, run.context_at),
            payloads.read(run.return_value, run.return_value_at),
        )
    except PayloadLost as gone:
        return gone


def _call(run: Run, told: Told) -> float | None:
    context = CompletionContext(**about(run))
    try:
        writes = _handle(run, told, context)
        store.complete(run, expires_at=pools.expiry(run.pool, clock.now_ms()), writes=writes)
    except store.Refused:
        raise
    except BaseException as error:  # SystemExit too: a handler must not end the batch.
        context.logger.warning("the completion handler failed", exc_info=True)
        return _failed(run, printable(message_of(error)))
    logs.log("completion-done", run, tries=run.completion_tries)
    return None


def _handle(run: Run, told: Told, ctx: CompletionContext) -> list[dict[str, Any]]:
    """Call the handler. Answers the writes that it returned."""
    handler = lookup.find(run.on_complete or "", "completion")
    context, return_value = (None if text is None else json.loads(text) for text in told)
    result = run.outcome()
    if run.result == "success":
        result["returnValue"] = return_value
    value = handler(ctx, context, result)
    if inspect.iscoroutine(value):
        value = asyncio.run(value)
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
