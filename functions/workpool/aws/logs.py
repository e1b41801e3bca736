"""What the pool logs: one line of JSON per event, by Powertools' Logger.

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
    """The process's logger, at the level of the deployment."""
    return Logger(service=environment().stack, level=_level(), location=None, json_serializer=_line)


def _line(fields: dict[str, Any]) -> str:
    """As JSON, legible, and encodable whatever an error's text holds: half a surrogate pair too."""
    text = json.dumps(fields, default=str, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _level() -> str:
    level = environment().log_level
    return "WARNING" if level == "WARN" else level


@cache
def user_logger() -> Logger:
    """User code's logger: of another name, so that its keys stay off the pool's own lines."""
    return Logger(service=f"{environment().stack}-user", level=_level(), json_serializer=_line)


def for_run(run: Run) -> Logger:
    """The logger for user code, whose lines now name this run."""
    user = user_logger()
    user.clear_state()
    user.append_keys(runId=run.run_id, pool=run.pool, action=run.action)
    return user


def job_start(run: Run, policy: Policy) -> None:
    """The run's first attempt begins."""
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
    """An attempt failed; `run` is the run as it stands now, waiting for its retry."""
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
    """The run ended, and this process wrote it."""
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
    """One event as one line at INFO: `event` and its fields at the top of the JSON object."""
    logger().info(event, extra={"event": event, **_about(run), **fields})


def _debug(event: str, run: Run | None = None, **fields: Any) -> None:
    logger().debug(event, extra={"event": event, **_about(run), **fields})


def _about(run: Run | None) -> dict[str, Any]:
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
    return Logger(service=service, level="INFO", location=None, json_serializer=_line)


def always(event: str, **fields: Any) -> None:
    """One event as one line, whatever the level: what was asked for by name."""
    always_logger().info(event, extra={"event": event, **fields})


def failed(event: str, error: BaseException, **fields: Any) -> None:
    """Something that should not happen, with its trace."""
    logger().error(event, exc_info=error, extra={"event": event, **fields})
