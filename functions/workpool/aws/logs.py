"""The log lines of a pool: one line of JSON per event, written by Powertools' Logger.

User code in the same process may configure `logging`, or close standard output. The loggers here
are not part of `logging`'s tree, so that this does not reach them.

`job-start`, `job-retry` and `job-end` are the original component's events, at INFO. `job-retry`,
`job-end` and `completion-parked` have the error text of user code. Values of arguments, contexts
and results, and tracebacks, are logged at DEBUG only.
"""

import json
import logging
import os
import sys
from contextlib import suppress
from functools import cache
from traceback import extract_tb
from typing import IO, Any

from aws_lambda_powertools import Logger

from workpool.aws.environment import environment
from workpool.core import clock
from workpool.core.retry import Policy, Reschedule
from workpool.core.run import Run


class _Channel(logging.Logger):
    """A logger that `logging` does not know: no configuration replaces its handlers or silences
    it."""

    def isEnabledFor(self, level: int) -> bool:
        return level >= self.level


class _Logger(Logger):
    def _get_logger(self) -> logging.Logger:
        self._is_deduplication_disabled = True  # There is no parent that would repeat a line.
        return _Channel(self.service)


class _Lines(logging.StreamHandler[IO[str]]):
    """Writes to standard output as it was, even if user code closes it."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        with suppress(OSError):  # This process has no standard output.
            _second_output()

    def emit(self, record: logging.LogRecord) -> None:
        if self.stream.closed:
            self.stream = _open_line_by_line(_second_output())
        super().emit(record)


def _open_line_by_line(descriptor: int) -> IO[str]:
    return open(descriptor, "w", buffering=1, encoding="utf-8", closefd=False)


@cache
def _second_output() -> int:
    """Another descriptor of the standard output that this process began with."""
    return os.dup(1)


def _new_logger(service: str, level: str, **options: Any) -> Logger:
    return _Logger(
        service=service,
        level=level,
        logger_handler=_Lines(),
        json_serializer=_to_line,
        **options,
    )


@cache
def logger() -> Logger:
    """This process's logger, at the level of the deployment."""
    return _new_logger(environment().stack, _level(), location=None)


def _to_line(fields: dict[str, Any]) -> str:
    """Readable JSON that can always be encoded, even if an error's text holds a lone surrogate."""
    text = json.dumps(fields, default=str, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _level() -> str:
    level = environment().log_level
    return "WARNING" if level == "WARN" else level


def user_logger(run: Run) -> Logger:
    """A logger for user code, whose lines name this run. Each attempt has one of its own: a thread
    that outlives its attempt still logs under the right run."""
    user = _new_logger(f"{environment().stack}-user", _level())
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
    return _new_logger(f"{environment().stack}-stats", "INFO", location=None)


def log_always(event: str, **fields: Any) -> None:
    """Log one event as one line, whatever the deployment's level: somebody asked for it by name."""
    always_logger().info(event, extra={"event": event, **fields})


def log_error(event: str, error: BaseException, **fields: Any) -> None:
    """Log something that should not happen: what kind of error it is, and where in the code it was
    raised. Its text and its traceback may hold values, so they are logged at DEBUG only."""
    extra = {"event": event, "errorType": _error_type(error), "at": _place(error), **fields}
    logger().error(event, extra=extra)
    logger().debug(event, exc_info=error, extra=extra)


def _error_type(error: BaseException) -> str:
    """The error's class, and the code if AWS refused a call."""
    response = getattr(error, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return type(error).__name__ if code is None else f"{type(error).__name__} ({code})"


def _place(error: BaseException) -> str | None:
    """The file, the line and the function that the library was in when the error was raised."""
    frames = extract_tb(error.__traceback__)
    own = [
        frame for frame in frames if "workpool" in frame.filename or "handlers" in frame.filename
    ]
    frame = next(iter(reversed(own or frames)), None)
    return frame and f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}"
