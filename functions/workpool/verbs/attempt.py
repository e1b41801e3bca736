"""One attempt of a run: judge the message, claim the run, call the action, write the outcome.

The consumer calls this for each message. The message holds one of the pool's slots until `attempt`
returns. So `attempt` must not return while the action still runs: the next message would start a
second action in the same slot.
"""

from collections.abc import Callable
from functools import partial
from random import SystemRandom
from typing import Any
from uuid import uuid4

from workpool.aws import clients, lambda_actions, logs, payloads, pools, retrier, store
from workpool.context import ActionContext
from workpool.core import clock, result
from workpool.core.message import Message, Verdict, judge
from workpool.core.raised import inner_errors
from workpool.core.request import MAX_RESULT_BYTES
from workpool.core.retry import (
    Failure,
    Finish,
    Outcome,
    Reschedule,
    Success,
    decide,
    recent_attempts,
)
from workpool.core.run import Run
from workpool.errors import NonRetryableError, PayloadLost, PayloadUnavailable
from workpool.verbs import patience, promise, user_code, watchdog

LOST = "worker lost: it crashed, ran out of memory or was ended at its deadline"

MARGIN_MS = 5_000
"""The last part of the function's time. No action runs in it: it is kept for writing a failed
attempt before the deadline."""

LEAST_MARGIN_MS = 1_000
"""What is left of this margin at least, if the claim was slow."""

SETTLE_MARGIN_MS = 2_000
"""The outcome of an attempt is not written again in this last part of the lease."""


def attempt(message: Message, *, remaining_ms: Callable[[], int]) -> float | None:
    """Judge a message and act on the verdict. Returns None to acknowledge the message, else the
    seconds after which the message must come back.

    `remaining_ms` returns the time until the function's deadline. The claim's lease ends then, too.
    """
    run = store.read(message.run)
    while True:
        now = clock.now_ms()
        verdict = judge(run, message, now)
        if verdict is Verdict.BACK:
            logs.log("message-back", run)
            return _seconds_until_next_look(run, now)
        try:
            if run is None or verdict in (Verdict.ENDED, Verdict.AGAIN, Verdict.STALE):
                retrier.answer_dropped(run, message, verdict)
            elif verdict is Verdict.LOSE:
                _settle(run, Failure(LOST), message)
            else:
                if lambda_actions.is_lambda_action(run.action):
                    lambda_actions.read_ahead(run)
                args = _read_args(run)  # This may be slow, so only now ask how much time is left.
                promised_ms = pools.pool(run.pool).action_timeout_ms
                left_ms = remaining_ms()
                if not promise.is_kept(promised_ms, margin_ms=MARGIN_MS, remaining_ms=left_ms):
                    logs.log("attempt-postponed", run, remainingMs=left_ms)
                    return promise.BACK_SECONDS
                lease = clock.now_ms() + left_ms
                claimed = store.claim(run, claim=uuid4().hex, lease=lease)
                _perform(claimed, args, message, remaining_ms)
        except PayloadUnavailable as error:  # Nothing is claimed yet, so this costs no attempt.
            logs.log("arguments-unread", run, error=str(error))
            return payloads.RETRY_SECONDS
        except store.Refused as refused:  # The run has changed since it was read: judge again.
            run = refused.run
        else:
            return None


def _seconds_until_next_look(run: Run | None, now_ms: int) -> float:
    """Seconds until the lease of the run's worker is over, or until the run is due; at least 1."""
    until = 0 if run is None else run.lease or run.due
    return max(1, (until - now_ms) / 1000)


def _read_args(run: Run) -> Any | PayloadLost:
    """Read the arguments. Raises PayloadUnavailable if they may be readable later."""
    try:
        return payloads.read_json(run.args)
    except PayloadLost as lost:
        return lost


def _perform(
    run: Run, args: Any | PayloadLost, message: Message, remaining_ms: Callable[[], int]
) -> None:
    """Call the action of a claimed run under the watchdog, and write how the attempt ended."""
    if run.retries == 0:
        logs.job_start(run, pools.policy(run))
    pool_limit_ms = pools.pool(run.pool).action_timeout_ms
    # All of the promised time, unless the claim itself took most of the margin.
    limit_ms = max(0, min(pool_limit_ms, remaining_ms() - LEAST_MARGIN_MS))
    deadline = clock.now_ms() + limit_ms

    def run_action() -> Outcome:
        if isinstance(args, PayloadLost):
            outcome: Outcome = Failure(f"the arguments are lost: {args}", retryable=False)
        elif lambda_actions.is_lambda_action(run.action):
            outcome = lambda_actions.invoke(
                run, args, deadline_ms=deadline, pool_limit_ms=pool_limit_ms
            )
        else:
            outcome = _call_action(run, args, lambda: max(0, deadline - clock.now_ms()))
        return _store_value(run, outcome)

    if message.token is not None:
        clients.client("stepfunctions")  # Before user code, whose environment it would follow.

    def write_overrun() -> None:
        error = f"the action ran longer than its {limit_ms / 1000:g} s and was ended"
        _settle(run, Failure(error), message)

    outcome = watchdog.guard(run_action, limit_ms=limit_ms, on_overrun=write_overrun)
    _settle(run, outcome, message)


def _call_action(run: Run, args: Any, remaining_ms: Callable[[], int]) -> Outcome:
    """Call the action. Raises nothing: whatever the action raises becomes a Failure."""
    context = ActionContext(**user_code.context_fields(run), remaining_ms=remaining_ms)
    try:
        value = user_code.call(run.action, "action", context, args)
    except BaseException as error:  # SystemExit, too: an action must not end the consumer.
        # A group counts as `except*` sees it: as the errors that it holds.
        final = any(isinstance(it, NonRetryableError) for it in inner_errors(error))
        if not final:
            user_code.log_raised(context.logger, "the action raised", error)
        return Failure(user_code.error_text(error), retryable=not final)
    return result.outcome_of(value)


def _store_value(run: Run, outcome: Outcome) -> Outcome:
    """Store a successful outcome's value in an object if it is too large for the item."""
    if isinstance(outcome, Failure):
        return outcome
    size = len((outcome.return_value.text or "").encode())
    if size > MAX_RESULT_BYTES:
        return Failure(
            f"the return value must be at most {MAX_RESULT_BYTES} bytes of JSON, got {size}",
            retryable=False,
        )
    try:
        return Success(payloads.store_value(run, outcome.return_value))
    except clients.AWSError as error:
        return Failure(f"the return value could not be stored: {error}")


def _settle(run: Run, outcome: Outcome, message: Message) -> None:
    """Write the outcome of an attempt, then answer the Retrier execution that sent the message.
    Raises Refused if this claim no longer holds the run."""
    claim = run.claim
    # Of a lost worker the lease is over: its outcome is written once, or with the next message.
    until_ms = (run.lease or 0) - SETTLE_MARGIN_MS
    while True:
        now = clock.now_ms()
        # SystemRandom: an action that seeds `random` must not set the delays of its pool.
        decision = decide(
            run, outcome, policy=pools.policy(run), now_ms=now, u=SystemRandom().uniform(0.5, 1.5)
        )
        attempts = recent_attempts(run, outcome, now_ms=now)
        write = partial(_write_outcome, run, decision, message, attempts=attempts, now_ms=now)
        try:
            settled = patience.repeat(write, until_ms=until_ms)
            break
        except store.Refused as refused:
            stored = refused.run
            if stored is None or stored.kind != "running" or stored.claim != claim:
                raise
            run = stored  # The claim still holds, but somebody asked to cancel: decide again.
    if isinstance(decision, Reschedule):
        logs.job_retry(settled, decision)
        if message.token is not None:
            retrier.answer_retry(message.token, settled.due)
    else:
        logs.job_end(settled)
        if message.token is not None:
            retrier.answer_ended(message.token, settled)


def _write_outcome(
    run: Run, decision: Finish | Reschedule, message: Message, *, attempts: str, now_ms: int
) -> Run:
    if isinstance(decision, Reschedule):
        return store.reschedule(run, decision, execution=message.execution, attempts=attempts)
    return store.finish(
        run,
        decision,
        finished_at=now_ms,
        expires_at=pools.expiry(run.pool, now_ms),
        execution=message.execution,
        attempts=attempts,
    )
