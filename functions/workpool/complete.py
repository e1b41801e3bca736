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

from workpool import clock, events, lookup, settings, store
from workpool.context import CompletionContext, about
from workpool.retry import message_of, printable
from workpool.run import Run
from workpool.status import result

MAX_TRIES = 8
"""Calls of a handler that keeps raising before it is parked: about two minutes."""

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
        leased = store.lease_completion(
            run, claim=uuid4().hex, now_ms=now, lease=now + remaining_ms()
        )
        if leased.completion_tries > MAX_TRIES:  # Each try before ended with its process.
            return _failed(leased, leased.completion_error or DIED)
        return _call(leased)
    except store.Refused as refused:  # Another call holds the lease, or was faster.
        standing = refused.run
        return 1 if standing is not None and standing.completion == "pending" else None


def _call(run: Run) -> float | None:
    context = CompletionContext(**about(run))
    try:
        writes = _handle(run, context)
        store.complete(run, expires_at=settings.expiry(run.pool, clock.now_ms()), writes=writes)
    except store.Refused:
        raise
    except BaseException as error:  # SystemExit too: a handler must not end the batch.
        context.logger.warning("the completion handler failed", exc_info=True)
        return _failed(run, printable(message_of(error)))
    events.log("completion-done", run, tries=run.completion_tries)
    return None


def _handle(run: Run, context: CompletionContext) -> list[dict[str, Any]]:
    """Call the handler. Answers the writes that it returned."""
    handler = lookup.find(run.on_complete or "", "completion")
    value = handler(context, None if run.context is None else json.loads(run.context), result(run))
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
        store.park_completion(run, error=error)
        events.log("completion-parked", run, tries=run.completion_tries, error=error)
        return None
    delay = retry_in(run.completion_tries)
    store.retry_completion(run, at_ms=clock.now_ms() + delay * 1000, error=error)
    events.log("completion-retry", run, tries=run.completion_tries, retryInMs=delay * 1000)
    return delay


def retry_in(tries: int) -> int:
    """Seconds between a handler's try and the next: 1, 2, 4, ..., at most 15 minutes."""
    return int(min(2 ** (tries - 1), 900))
