"""The Retrier: starts, stops and answers executions. The only module that speaks to Step Functions.
What an execution waits for is decided elsewhere.

AWS and the local emulator answer differently if an execution's name is taken or the execution is
closed. Either answer means that nothing is left to do.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from workpool.aws import clients, logs
from workpool.aws.environment import environment
from workpool.core.clock import timestamp
from workpool.core.message import Message, Verdict
from workpool.core.run import VERSION, Run

if TYPE_CHECKING:
    from types_boto3_stepfunctions.type_defs import StartExecutionInputTypeDef

RETRY = "Workpool.Retry"
"""The only error that an Attempt fails with. Its cause is the next due: Backoff waits for it."""

_CLOSED = frozenset({"TaskTimedOut", "TaskDoesNotExist", "InvalidToken"})
_ENDED = frozenset({"ExecutionDoesNotExist", "ValidationException"})
"""The emulator answers ValidationException for an execution that is closed."""


def start(run: Run) -> None:
    """Start the execution that waits for the run's due. Harmless if it exists already."""
    execution: StartExecutionInputTypeDef = {
        "stateMachineArn": environment().retrier(run.pool),
        "name": run.execution_name(),
        "input": json.dumps(
            {
                "v": VERSION,
                "run": run.key,
                "group": run.fairness_key or run.run_id,
                "retry": {"Cause": timestamp(run.due)},
            }
        ),
    }
    if run.trace:
        execution["traceHeader"] = run.trace
    try:
        clients.client("stepfunctions").start_execution(**execution)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ExecutionAlreadyExists":
            raise


def stop(run: Run) -> None:
    """Stop the execution that waits for the run's due. Harmless if it ended or never existed."""
    machine = environment().retrier(run.pool)
    arn = machine.replace(":stateMachine:", ":execution:") + f":{run.execution_name()}"
    try:
        clients.client("stepfunctions").stop_execution(executionArn=arn)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _ENDED:
            raise


def answer_ended(token: str, run: Run | None) -> None:
    """Let the execution succeed: the run no longer needs it."""
    output = {"kind": run.kind if run else "unknown"}
    with _unless_closed():
        clients.client("stepfunctions").send_task_success(
            taskToken=token, output=json.dumps(output)
        )


def answer_retry(token: str, due: int) -> None:
    """Let the execution wait for `due` and then send the next attempt."""
    with _unless_closed():
        clients.client("stepfunctions").send_task_failure(
            taskToken=token, error=RETRY, cause=timestamp(due)
        )


def answer_dropped(run: Run | None, message: Message, verdict: Verdict) -> None:
    """Tell the execution that waits for this message, if any, how to go on: the message is dropped,
    since it may do nothing."""
    if verdict is Verdict.STALE:
        logs.log("message-stale", run)
    if message.token is None:
        return
    if verdict is Verdict.AGAIN and run is not None:
        answer_retry(message.token, run.due)
    else:
        answer_ended(message.token, run)


@contextmanager
def _unless_closed() -> Iterator[None]:
    """A closed execution needs no answer, so it is no error if it refuses one."""
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] not in _CLOSED:
            raise
