"""Call a run's completion handler. Its writes take effect exactly once, whatever crashes.

The handler runs under a lease on the item. Then the completion is marked as done, in one
transaction with the DynamoDB writes that the handler returned. A handler that raises is called
again after a growing delay. The item counts the calls as tries. After MAX_TRIES calls, the
completion is parked: it waits until a person redrives it. Only the handler's own failures count: if
AWS does not accept the mark, the call is not counted. The run's result never changes. Called by the
completion function.
"""

from collections.abc import Callable
from random import SystemRandom
from typing import Any
from uuid import uuid4

from workpool.aws import clients, logs, payloads, pools, store
from workpool.aws.environment import environment
from workpool.context import CompletionContext
from workpool.core import clock
from workpool.core.retry import printable
from workpool.core.run import Run
from workpool.errors import PayloadLost, PayloadUnavailable
from workpool.verbs import patience, promise, user_code

MAX_TRIES = 8
"""How many times a handler that keeps raising is called before its completion is parked. The
delays between the calls add up to about two minutes."""

MAX_WRITES = 90
"""How many of the 100 entries of a transaction the handler may use."""

MARK_MARGIN_MS = 10_000
"""The last part of the lease. No repetition of the mark begins in this time. It is reserved for
the last repetition to finish, and for taking the call off the count if AWS did not accept the
mark."""

UNMARKED_SECONDS = 30
"""If AWS did not accept the mark, the handler is called again after about this time."""

PROCESS_DIED = "the handler's process died each time"

HandlerInput = tuple[Any, Any]
"""The run's context and its return value."""


def complete(key: str, *, remaining_ms: Callable[[], int]) -> float | None:
    """Try once to complete a run. Returns None if nothing is left to do, or the number of seconds
    to wait before the next call of this function.

    `remaining_ms` returns the time that is left until the Lambda function's deadline. The lease
    ends at that deadline, too.
    """
    run = store.read(key)
    if run is None or run.completion != "pending":
        return None
    now = clock.now_ms()
    if run.completion_lease is not None and now < run.completion_lease:
        return (run.completion_lease - now) / 1000
    if not _has_time(run, remaining_ms):  # Earlier records of the batch used up the time.
        return promise.BACK_SECONDS
    try:
        # Read before leasing: if S3 denies access or is slow, that does not count as a try.
        handler_input = _read_payloads(run)
        if not _has_time(run, remaining_ms):
            return promise.BACK_SECONDS
        now = clock.now_ms()  # Reading may be slow: take the time again.
        leased = store.lease_completion(
            run, claim=uuid4().hex, now_ms=now, lease=now + remaining_ms()
        )
        if leased.completion_tries > MAX_TRIES:  # The last call left no outcome: its process died.
            return _retry_or_park(leased, leased.completion_error or PROCESS_DIED)
        if isinstance(handler_input, PayloadLost):
            _park(leased, f"the handler's context or return value is lost: {handler_input}")
            return None
        return _complete_leased(leased, handler_input)
    except PayloadUnavailable as error:  # Nothing is leased yet, so this is not a try.
        logs.log("completion-unread", run, error=str(error))
        return payloads.RETRY_SECONDS
    except store.Refused as refused:  # Another call holds the lease, or has completed the run.
        stored = refused.run
        return 1 if stored is not None and stored.completion == "pending" else None


def _has_time(run: Run, remaining_ms: Callable[[], int]) -> bool:
    """Whether enough time is left: what the handler was promised, and the margin for the mark."""
    promised_ms, left_ms = environment().completion_timeout_ms, remaining_ms()
    kept = promise.is_kept(promised_ms, margin_ms=MARK_MARGIN_MS, remaining_ms=left_ms)
    if not kept:
        logs.log("completion-postponed", run, remainingMs=left_ms)
    return kept


def _read_payloads(run: Run) -> HandlerInput | PayloadLost:
    """Read the run's context and return value for the handler. Returns PayloadLost if one of them
    is lost. Raises PayloadUnavailable if they may be readable later."""
    try:
        return payloads.read_json(run.context), payloads.read_json(run.return_value)
    except PayloadLost as lost:
        return lost


def _complete_leased(run: Run, handler_input: HandlerInput) -> float | None:
    """Call the handler, and mark the completion as done together with the handler's writes."""
    ctx = CompletionContext(**user_code.context_fields(run))
    try:
        writes = _call_handler(run, handler_input, ctx)
    except BaseException as error:  # SystemExit, too: a handler must not end the batch.
        return _handler_failed(run, ctx, error)
    try:
        _mark_done(run, writes)
    except store.Refused:
        raise
    except clients.AWSError as error:
        return _return_try(run, error)
    except Exception as error:  # The writes cannot be sent, or DynamoDB refused them.
        return _handler_failed(run, ctx, error)
    logs.log("completion-done", run, tries=run.completion_tries)
    return None


def _mark_done(run: Run, writes: list[dict[str, Any]]) -> None:
    """Mark the completion as done, with the handler's writes. Raises AWSError if AWS did not accept
    the mark in time, HandlerWritesRefused if DynamoDB refused the handler's writes, and Refused if
    this call no longer holds the lease."""
    expires_at = pools.expiry(run.pool, clock.now_ms())  # The same in each repetition.
    patience.repeat(
        lambda: store.complete(run, expires_at=expires_at, writes=writes),
        until_ms=(run.completion_lease or 0) - MARK_MARGIN_MS,
    )


def _return_try(run: Run, error: Exception) -> float:
    """Take the handler's call off the count: it is not the handler's fault that AWS did not accept
    the mark. Returns the number of seconds until the handler is called again."""
    delay_ms = round(SystemRandom().uniform(0.5, 1.5) * UNMARKED_SECONDS * 1000)
    logs.log("completion-unmarked", run, error=str(error), retryInMs=delay_ms)
    try:
        store.return_try(run, at_ms=clock.now_ms() + delay_ms)
    except clients.AWSError as another:  # This try stays counted: the table is out of reach.
        logs.log("completion-try-kept", run, error=str(another))
    return delay_ms / 1000


def _call_handler(
    run: Run, handler_input: HandlerInput, ctx: CompletionContext
) -> list[dict[str, Any]]:
    """Call the handler. Returns the handler's writes. Raises what the handler raises, or TypeError
    if the handler returned neither None nor a list of at most MAX_WRITES entries."""
    context, return_value = handler_input
    result = run.reported_result()
    if run.result == "success":
        result["returnValue"] = return_value
    writes = user_code.call(run.on_complete or "", "completion", ctx, context, result)
    if writes is None:
        return []
    if not isinstance(writes, list) or len(writes) > MAX_WRITES:
        raise TypeError(
            "a completion handler returns None or a list of at most "
            f"{MAX_WRITES} TransactWriteItems entries"
        )
    return writes


def _handler_failed(run: Run, ctx: CompletionContext, error: BaseException) -> float | None:
    user_code.log_raised(ctx.logger, "the completion handler failed", error)
    return _retry_or_park(run, printable(user_code.error_text(error)))


def _retry_or_park(run: Run, error: str) -> float | None:
    if run.completion_tries >= MAX_TRIES:
        _park(run, error)
        return None
    delay = retry_delay_seconds(run.completion_tries)
    store.retry_completion(run, at_ms=clock.now_ms() + delay * 1000, error=error)
    logs.log("completion-retry", run, tries=run.completion_tries, retryInMs=delay * 1000)
    return delay


def _park(run: Run, error: str) -> None:
    store.park_completion(run, error=error)
    logs.log("completion-parked", run, tries=run.completion_tries, error=error)


def retry_delay_seconds(tries: int) -> int:
    """The delay between a failed call of the handler and the next call: 1, 2, 4, ... s, at most 15
    minutes."""
    return int(min(2 ** (tries - 1), 900))
