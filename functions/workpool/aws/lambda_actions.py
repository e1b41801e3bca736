"""Actions that are Lambda functions of their own, `lambda:<name>`. No other module invokes them.

Each attempt invokes the function once. The SDK does not retry: the run does.
"""

import json
from functools import lru_cache
from typing import Any

from workpool.aws import clients, pools
from workpool.core import clock, result
from workpool.core.retry import Failure, Outcome
from workpool.core.run import Run

PREFIX = "lambda:"

TIMEOUT_CACHE_MS = 60_000
"""How long a function's timeout is used before it is read again."""


def is_lambda_action(action: str) -> bool:
    return action.startswith(PREFIX)


def invoke(run: Run, args: str, *, limit_ms: int, pool_limit_ms: int) -> Outcome:
    """Invoke the function and return how it ended. `args` is JSON, `limit_ms` is the time that the
    attempt has left, and `pool_limit_ms` is the pool's actionTimeoutSeconds."""
    name = run.action.removeprefix(PREFIX)
    if name not in pools.pool(run.pool).lambda_actions:
        return Failure(f"pool {run.pool!r} has no lambda action {name!r}")
    try:
        timeout_ms = read_timeout_ms(name, clock.now_ms() // TIMEOUT_CACHE_MS)
        if timeout_ms >= limit_ms:  # It could outlive this attempt and run beside the next one.
            return Failure(
                f"{name} may run for {timeout_ms / 1000:g} s, which must be below the pool's "
                f"actionTimeoutSeconds ({pool_limit_ms / 1000:g}) and the time that is left of it",
                retryable=timeout_ms < pool_limit_ms,
            )
        answer = clients.without_retries("lambda", limit_ms // 1000 + 1).invoke(
            FunctionName=name,
            Payload=json.dumps(
                {
                    "runId": run.run_id,
                    "pool": run.pool,
                    "retries": run.retries,
                    "idempotencyKey": run.run_id,
                    "args": json.loads(args),
                }
            ),
        )
        payload = answer["Payload"].read()
    except clients.AWSError as error:
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
