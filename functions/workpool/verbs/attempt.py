"""One attempt of a run: judge the message, claim the run, call the action, write the outcome.

Called by the consumer for each message, in the pool's slot that the message took. It must not
return while the action still runs: a second one would start in the same slot.
"""

import asyncio
import inspect
import json
import os
import random
import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from workpool import lookup
from workpool.aws import clients, lambda_actions, logs, payloads, pools, retrier, store
from workpool.context import ActionContext, about
from workpool.core import clock
from workpool.core.message import Message, Verdict, judge
from workpool.core.request import MAX_RESULT_BYTES, is_too_deep
from workpool.core.retry import (
    Failure,
    Outcome,
    Reschedule,
    Success,
    decide,
    message_of,
    with_attempt,
)
from workpool.core.run import Run
from workpool.errors import NonRetryableError, PayloadLost, PayloadUnavailable

LOST = "worker lost: it crashed, ran out of memory or was ended at its deadline"

MARGIN_MS = 5_000
"""Kept of the function's time for writing a failed attempt before the deadline."""


def attempt(message: Message, *, remaining_ms: Callable[[], int]) -> float | None:
    """Do what the message may do. Answers None: acknowledge it; else the seconds after which it
    should come back.

    `remaining_ms` is the time until the function's deadline, which is also the claim's lease.
    """
    run = store.read(message.run)
    while True:
        now = clock.now_ms()
        verdict = judge(run, message, now)
        if verdict is Verdict.BACK:
            return _back(run, now)
        try:
            if run is None or verdict in (Verdict.ENDED, Verdict.AGAIN, Verdict.STALE):
                drop(run, message, verdict)
            elif verdict is Verdict.LOSE:
                _settle(run, Failure(LOST), message)
            else:
                args = _args(run)
                lease = clock.now_ms() + remaining_ms()  # The arguments took their time.
                claimed = store.claim(run, claim=uuid4().hex, lease=lease)
                _perform(claimed, args, message, remaining_ms)
        except PayloadUnavailable as unread:  # Nothing was claimed: no attempt is lost by it.
            logs.log("arguments-unread", run, error=str(unread))
            return payloads.UNREAD_SECONDS
        except store.Refused as refused:  # It moved on meanwhile: judge again.
            run = refused.run
        else:
            return None


def _back(run: Run | None, now_ms: int) -> float:
    """A copy of a message whose run is being worked on, or one that is early, comes back."""
    logs.log("message-back", run)
    until = 0 if run is None else run.lease or run.due
    return max(1, (until - now_ms) / 1000)


def drop(run: Run | None, message: Message, verdict: Verdict) -> None:
    """A message that may do nothing: its execution, if one waits, learns what to do."""
    if verdict is Verdict.STALE:
        logs.log("message-stale", run)
    if message.token is None:
        return
    if verdict is Verdict.AGAIN and run is not None:
        retrier.answer_retry(message.token, run.due)
    else:
        retrier.answer_ended(message.token, run)


def _args(run: Run) -> str | PayloadLost:
    """The arguments, read before the claim. Raises PayloadUnavailable for what may pass."""
    try:
        return payloads.read(run.args, run.args_at) or "{}"
    except PayloadLost as gone:
        return gone


def _perform(
    run: Run, args: str | PayloadLost, message: Message, remaining_ms: Callable[[], int]
) -> None:
    """Call the action under a watchdog, and write how it ended.

    The watchdog writes a failed attempt when the time is up, and then ends the process, since
    Python cannot end the action alone. Whichever of the two comes first writes; the other
    never does.
    """
    if run.retries == 0:
        logs.job_start(run, pools.policy(run))
    pool_limit_ms = pools.pool(run.pool).action_timeout_ms
    limit_ms = max(0, min(pool_limit_ms, remaining_ms() - MARGIN_MS))
    deadline = clock.now_ms() + limit_ms
    written = threading.Lock()

    def overrun() -> None:
        if written.acquire(blocking=False):
            try:
                error = f"the action ran longer than its {limit_ms / 1000:g} s and was ended"
                _settle(run, Failure(error), message)
            finally:
                os._exit(1)

    watchdog = threading.Timer(limit_ms / 1000, overrun)
    watchdog.daemon = True
    watchdog.start()
    try:
        if isinstance(args, PayloadLost):
            outcome: Outcome = Failure(f"the arguments are lost: {args}", retryable=False)
        elif lambda_actions.is_remote(run.action):
            outcome = lambda_actions.call(run, args, limit_ms=limit_ms, pool_limit_ms=pool_limit_ms)
        else:
            outcome = _call(run, args, lambda: max(0, deadline - clock.now_ms()))
        outcome = _carried(run, outcome)
    finally:
        watchdog.cancel()
    if not written.acquire(blocking=False):
        threading.Event().wait()  # The watchdog was first, and ends this process.
    _settle(run, outcome, message)


def _call(run: Run, args: str, remaining_ms: Callable[[], int]) -> Outcome:
    """The action's outcome; nothing that it raises or returns gets past this."""
    context = ActionContext(**about(run), remaining_ms=remaining_ms)
    try:
        value = lookup.find(run.action, "action")(context, json.loads(args))
        if inspect.iscoroutine(value):
            value = asyncio.run(value)
    except NonRetryableError as error:
        return Failure(message_of(error), retryable=False)
    except BaseException as error:  # SystemExit too: an action must not end the consumer.
        context.logger.warning("the action raised", exc_info=True)
        return Failure(message_of(error))
    return _returned(value)


def _returned(value: Any) -> Outcome:
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        return Failure(f"the return value is no JSON: {error}", retryable=False)
    return lambda_actions.TOO_DEEP if is_too_deep(value) else Success(text)


def _carried(run: Run, outcome: Outcome) -> Outcome:
    """The outcome, its value where its size belongs: in the item, in an object, or nowhere."""
    if isinstance(outcome, Failure):
        return outcome
    size = len((outcome.return_value or "").encode())
    if size > MAX_RESULT_BYTES:
        return Failure(
            f"the return value must be at most {MAX_RESULT_BYTES} bytes of JSON, got {size}",
            retryable=False,
        )
    try:
        return payloads.with_object(run, outcome)
    except clients.AWSError as error:
        return Failure(f"the return value could not be stored: {error}")


def _settle(run: Run, outcome: Outcome, message: Message) -> None:
    """Write an attempt's outcome and answer the execution that sent it. Raises Refused when the
    attempt is no longer this claim's."""
    claim = run.claim
    while True:
        now = clock.now_ms()
        to = decide(run, outcome, policy=pools.policy(run), now_ms=now, u=random.uniform(0.5, 1.5))
        attempts = with_attempt(run, outcome, now_ms=now)
        try:
            if isinstance(to, Reschedule):
                settled = store.reschedule(run, to, execution=message.execution, attempts=attempts)
            else:
                expires_at = pools.expiry(run.pool, now)
                settled = store.finish(
                    run,
                    to,
                    finished_at=now,
                    expires_at=expires_at,
                    execution=message.execution,
                    attempts=attempts,
                )
            break
        except store.Refused as refused:
            standing = refused.run
            if standing is None or standing.kind != "running" or standing.claim != claim:
                raise
            run = standing  # Still this claim's: somebody asked to cancel. Decide again.
    if isinstance(to, Reschedule):
        logs.job_retry(settled, to)
        if message.token is not None:
            retrier.answer_retry(message.token, settled.due)
    else:
        logs.job_end(settled)
        if message.token is not None:
            retrier.answer_ended(message.token, settled)
