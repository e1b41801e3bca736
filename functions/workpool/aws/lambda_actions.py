"""Actions that are Lambda functions of their own, `lambda:<name>`. No other module invokes them.

Each attempt invokes the function once. The SDK does not retry: the run does. If the connection
breaks, the function may still run. So the attempt waits, and takes its slot, until it must have
ended.
"""

import json
from functools import lru_cache
from typing import Any

from botocore.exceptions import ClientError

from workpool.aws import clients, pools
from workpool.core import clock, result
from workpool.core.retry import Failure, Outcome
from workpool.core.run import Run

PREFIX = "lambda:"

TIMEOUT_CACHE_MS = 60_000
"""How long a function's timeout is used before it is read again."""

_NOT_INVOCABLE = frozenset({"AccessDeniedException", "ResourceNotFoundException"})


def is_lambda_action(action: str) -> bool:
    return action.startswith(PREFIX)


def read_ahead(run: Run) -> None:
    """Read the function's timeout before the run is claimed, so that `invoke` finds it in the cache
    and has all of the attempt's time. Raises AWSError if AWS is in trouble: that must not cost an
    attempt. What is wrong with the function itself, `invoke` will say."""
    name = run.action.removeprefix(PREFIX)
    if name not in pools.pool(run.pool).lambda_actions:
        return
    try:
        _timeout_ms(name)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _NOT_INVOCABLE:
            raise


def invoke(run: Run, args: Any, *, deadline_ms: int, pool_limit_ms: int) -> Outcome:
    """Invoke the function and return how it ended. The attempt ends at `deadline_ms`, and
    `pool_limit_ms` is the pool's actionTimeoutSeconds."""
    name = run.action.removeprefix(PREFIX)
    if name not in pools.pool(run.pool).lambda_actions:
        return Failure(f"pool {run.pool!r} has no lambda action {name!r}")
    must_have_ended_ms = 0
    try:
        timeout_ms = _timeout_ms(name)
        started_ms = clock.now_ms()
        limit_ms = max(0, deadline_ms - started_ms)
        if timeout_ms >= limit_ms:  # It could outlive this attempt and run beside the next one.
            return Failure(
                f"{name} may run for {timeout_ms / 1000:g} s, which must be below the pool's "
                f"actionTimeoutSeconds ({pool_limit_ms / 1000:g}) and the time that is left of it",
                retryable=timeout_ms < pool_limit_ms,
            )
        must_have_ended_ms = started_ms + timeout_ms
        answer = clients.without_retries("lambda", limit_ms // 1000 + 1).invoke(
            FunctionName=name,
            Payload=json.dumps(
                {
                    "runId": run.run_id,
                    "pool": run.pool,
                    "retries": run.retries,
                    "idempotencyKey": run.run_id,
                    "args": args,
                }
            ),
        )
        payload = answer["Payload"].read()
    except clients.AWSError as error:
        if clients.may_have_arrived(error):
            clock.sleep(max(0, must_have_ended_ms - clock.now_ms()) / 1000)
        return Failure(f"{name} could not be invoked: {error}")
    if "FunctionError" in answer:
        return _failure(payload.decode(errors="replace"), name)
    return _success(payload)


def _success(payload: bytes) -> Outcome:
    """The function's answer, as if an action in Python had returned the value."""
    try:
        value = json.loads(payload.decode())
    except (ValueError, RecursionError) as error:
        return result.not_json(error)
    return result.outcome_of(value)


def _timeout_ms(name: str) -> int:
    return read_timeout_ms(name, clock.now_ms() // TIMEOUT_CACHE_MS)


@lru_cache(256)
def read_timeout_ms(name: str, _period: int) -> int:
    """The function's own timeout. `_period` makes the cache read it anew in each period."""
    configuration = clients.client("lambda").get_function_configuration(FunctionName=name)
    return configuration["Timeout"] * 1000


def _failure(text: str, name: str) -> Failure:
    """What a function's error means. Its type or its message may say that no retry helps."""
    text = text or f"{name} failed and said nothing"
    try:
        shape: Any = json.loads(text)
        if not isinstance(shape, dict):
            return Failure(text)
        message, kind = str(shape.get("errorMessage") or text), str(shape.get("errorType", ""))
    except (ValueError, RecursionError):
        return Failure(text)
    final = kind.endswith("NonRetryableError") or message.startswith("NonRetryableError:")
    return Failure(message, retryable=not final)
