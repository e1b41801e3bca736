"""The retry rules: whether a run goes on or ends after the outcome of an attempt. Pure; called by
`attempt`.

The rules are those of the original component's `run` loop: retries counts re-executions; a failure
ends the run if retries >= maxRetries; the jitter is in [0.5, 1.5). One thing differs: times are
rounded up to whole seconds.
"""

import json
import math
from dataclasses import dataclass

from workpool.core.clock import ceil_to_second
from workpool.core.run import MAX_BACKOFF_MS, MAX_ERROR, Payload, Result, Run

KEPT_ATTEMPTS = 10
KEPT_ERROR_CHARACTERS = 100
"""How many of a run's last attempts its item holds, and how much of each error, so that the item
stays small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a run is retried: its own options over its pool's."""

    initial_backoff_ms: float = 250
    base: float = 2
    max_retries: int = 4


@dataclass(frozen=True, slots=True)
class Success:
    """The action returned this value."""

    return_value: Payload


@dataclass(frozen=True, slots=True)
class Failure:
    """The action raised an error or ran too long, or its worker was lost."""

    error: str
    retryable: bool = True


Outcome = Success | Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The run ends."""

    result: Result
    return_value: Payload | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reschedule:
    """The run is tried again at `due`, in epoch milliseconds."""

    due: int
    error: str


def decide(
    run: Run, outcome: Outcome, *, policy: Policy, now_ms: int, u: float
) -> Finish | Reschedule:
    """What an outcome means for the run. `u` is uniform in [0.5, 1.5).

    A success always wins. If somebody asked to cancel the run, a failure becomes a cancel, even on
    the last attempt.
    """
    if isinstance(outcome, Success):
        return Finish(result="success", return_value=outcome.return_value)
    error = printable(outcome.error)
    if run.cancel_requested:
        return Finish(result="canceled")
    if not outcome.retryable or run.retries >= policy.max_retries:
        return Finish(result="failed", error=error)
    delay = backoff_ms(policy, retry=run.retries + 1, u=u)
    return Reschedule(due=next_due(now_ms + delay, after=run.due), error=error)


def backoff_ms(policy: Policy, *, retry: int, u: float) -> float:
    """The delay before retry n = 1, 2, ...: initialBackoffMs * base^(n-1) * u, capped.

    The cap is compared in logarithms: 10 ** 999 is too large for a float, but the cap is reached
    long before.
    """
    log = math.log(policy.initial_backoff_ms) + (retry - 1) * math.log(policy.base) + math.log(u)
    if log >= math.log(MAX_BACKOFF_MS):
        return MAX_BACKOFF_MS
    return policy.initial_backoff_ms * policy.base ** (retry - 1) * u


def next_due(at_ms: float, *, after: int) -> int:
    """`at_ms` rounded up to a whole second, and always later than the last due."""
    return max(ceil_to_second(at_ms), ceil_to_second(after + 1))


def recent_attempts(run: Run, outcome: Outcome, *, now_ms: int) -> str:
    """The run's last attempts, as JSON, with this one added."""
    last: dict[str, object] = {
        "retries": run.retries,
        "startedAt": run.started_at,
        "ms": now_ms - (run.started_at or now_ms),
        "ended": "success" if isinstance(outcome, Success) else "failed",
    }
    if isinstance(outcome, Failure):
        last["error"] = printable(outcome.error)[:KEPT_ERROR_CHARACTERS]
    before = json.loads(run.attempts) if run.attempts else []
    return json.dumps([*before, last][-KEPT_ATTEMPTS:], ensure_ascii=False, separators=(",", ":"))


def printable(error: str) -> str:
    """An error text that every service accepts: shortened, and without lone surrogates."""
    return error[:MAX_ERROR].encode("utf-8", "replace").decode()
