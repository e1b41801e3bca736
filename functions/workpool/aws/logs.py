"""The log lines of a pool: one line of JSON per event, written by Powertools' Logger.

`job-start`, `job-retry` and `job-end` are the original component's events, at INFO. Values of
arguments, contexts and results are logged at DEBUG only.
"""

import json
from functools import cache
from typing import Any

from aws_lambda_powertools import Logger

from workpool.aws.environment import environment
from workpool.core import clock
from workpool.core.retry import Policy, Reschedule
from workpool.core.run import Run


@cache
def logger() -> Logger:
    """This process's logger, at the level of the deployment."""
    return Logger(
        service=environment().stack, level=_level(), location=None, json_serializer=_to_line
    )


def _to_line(fields: dict[str, Any]) -> str:
    """Readable JSON that can always be encoded, even if an error's text holds a lone surrogate."""
    text = json.dumps(fields, default=str, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _level() -> str:
    level = environment().log_level
    return "WARNING" if level == "WARN" else level


@cache
def user_logger() -> Logger:
    """The logger for user code. It has another name, so that the pool's own lines do not get its
    keys."""
    return Logger(service=f"{environment().stack}-user", level=_level(), json_serializer=_to_line)


def bind_user_logger(run: Run) -> Logger:
    """Let the lines of user code name this run from now on. Returns the logger for user code."""
    user = user_logger()
    user.clear_state()
    user.append_keys(runId=run.run_id, pool=run.pool, action=run.action)
    return user


def job_start(run: Run, policy: Policy) -> None:
    """Log that the run's first attempt begins."""
    options = {
        "initialBackoffMs": policy.initial_backoff_ms,
        "base": policy.base,
        "maxRetries": policy.max_retries,
        "onComplete": run.on_complete,
    }
    log("job-start", run, options=options)
    context = run.context.text if run.context else None
    _debug("job-args", run, arguments=run.args.text, context=context)


def job_retry(run: Run, to: Reschedule) -> None:
    """Log that an attempt failed. `run` is the run after the attempt: it waits for its retry."""
    now = clock.now_ms()
    log(
        "job-retry",
        run,
        retries=run.retries,
        durationMs=now - run.enqueued_at,
        retryInMs=to.due - now,
        error=to.error,
    )


def job_end(run: Run) -> None:
    """Log that the run ended. Only the process that wrote the end calls this."""
    error: dict[str, Any] = {"error": run.error} if run.error is not None else {}
    log(
        "job-end",
        run,
        result=run.result,
        retries=run.retries,
        durationMs=(run.finished_at or 0) - run.enqueued_at,
        **error,
    )
    value = run.return_value.text if run.return_value else None
    _debug("job-result", run, returnValue=value)


def log(event: str, run: Run | None = None, **fields: Any) -> None:
    """Log one event as one line at INFO: `event` and the fields at the top of the JSON object."""
    logger().info(event, extra={"event": event, **_run_fields(run), **fields})


def _debug(event: str, run: Run | None = None, **fields: Any) -> None:
    logger().debug(event, extra={"event": event, **_run_fields(run), **fields})


def _run_fields(run: Run | None) -> dict[str, Any]:
    return (
        {
            "runId": run.run_id,
            "pool": run.pool,
            "action": run.action,
            "annotation": run.annotation,
        }
        if run
        else {}
    )


@cache
def always_logger() -> Logger:
    service = f"{environment().stack}-stats"
    return Logger(service=service, level="INFO", location=None, json_serializer=_to_line)


def log_always(event: str, **fields: Any) -> None:
    """Log one event as one line, whatever the deployment's level: somebody asked for it by name."""
    always_logger().info(event, extra={"event": event, **fields})


def log_error(event: str, error: BaseException, **fields: Any) -> None:
    """Log something that should not happen, with its traceback."""
    logger().error(event, exc_info=error, extra={"event": event, **fields})
