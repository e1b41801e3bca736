"""SQS, Step Functions, EventBridge and Lambda in memory, as far as the pools use them in a test.

Things that are to happen later wait on an agenda, on the test's clock. Nothing here decides about a
run.
"""

import heapq
import io
import json
from collections.abc import Callable
from itertools import count
from typing import Any

from botocore.exceptions import ClientError

from workpool.core import clock, message
from workpool.testing.stack import STACK


class Agenda:
    """Tasks and the times at which they are to happen. Tasks of the same time happen in the order
    in which they were added."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int]] = []
        """Time and number of each task, and of tasks that were dropped."""
        self._tasks: dict[int, Callable[[], Any]] = {}
        self._numbers = count(1)

    def add(self, at_ms: int, task: Callable[[], Any]) -> int:
        """Add a task. Returns its number, for `drop`."""
        number = next(self._numbers)
        self._tasks[number] = task
        heapq.heappush(self._heap, (at_ms, number))
        return number

    def drop(self, number: int | None) -> None:
        self._tasks.pop(number or 0, None)

    def next_at(self) -> int | None:
        """The time of the next task; None if there is none."""
        while self._heap and self._heap[0][1] not in self._tasks:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self) -> tuple[int, Callable[[], Any]]:
        """Take the task whose time `next_at` returned."""
        at_ms, number = heapq.heappop(self._heap)
        return at_ms, self._tasks.pop(number)


class Queues:
    """SQS: takes the first message of each run, which the relay sends."""

    def __init__(self, deliver: Callable[[str], None]) -> None:
        self._deliver = deliver

    def send_message_batch(self, *, QueueUrl: str, Entries: list[Any]) -> dict[str, Any]:
        for entry in Entries:
            self._deliver(entry["MessageBody"])
        return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}

    def get_queue_attributes(self, *, QueueUrl: str, AttributeNames: list[str]) -> dict[str, Any]:
        return {"Attributes": dict.fromkeys(AttributeNames, "0")}


class Retriers:
    """Step Functions, running the Retrier of each pool: an execution waits until its run is due,
    sends a message with a token, and does what the answer to the token says."""

    def __init__(self, agenda: Agenda, deliver: Callable[[str], None]) -> None:
        self._agenda, self._deliver = agenda, deliver
        self._open: dict[str, int | None] = {}
        """By the name of an open execution: the number of its task on the agenda, or None while the
        execution waits for the answer to its token."""
        self._runs: dict[str, str] = {}
        self._tokens: dict[str, str] = {}
        self._numbers = count(1)

    def start_execution(self, *, name: str, input: str, **_: Any) -> dict[str, Any]:
        if name in self._runs:
            raise _refusal("ExecutionAlreadyExists", "StartExecution")
        parameters = json.loads(input)
        self._runs[name] = parameters["run"]
        self._wait_until_due(name, parameters["retry"]["Cause"])
        return {}

    def stop_execution(self, *, executionArn: str) -> dict[str, Any]:
        self._agenda.drop(self._open.pop(executionArn.rpartition(":")[2], None))
        return {}

    def send_task_success(self, *, taskToken: str, output: str) -> dict[str, Any]:
        del self._open[self._take_token(taskToken)]
        return {}

    def send_task_failure(self, *, taskToken: str, error: str, cause: str) -> dict[str, Any]:
        self._wait_until_due(self._take_token(taskToken), cause)
        return {}

    def _take_token(self, token: str) -> str:
        """The name of the execution that waits for the token. A token can be answered once."""
        name = self._tokens.pop(token, "")
        if name not in self._open:
            raise _refusal("TaskTimedOut", "SendTask")
        return name

    def _wait_until_due(self, name: str, due: str) -> None:
        due_ms = clock.from_timestamp(due)
        self._open[name] = self._agenda.add(due_ms, lambda: self._send(name, due_ms))

    def _send(self, name: str, due_ms: int) -> None:
        token = f"token-{next(self._numbers)}"
        self._tokens[token], self._open[name] = name, None
        sent = message.Message(run=self._runs[name], due=due_ms, token=token, execution=name)
        self._deliver(sent.body())


class Bus:
    """EventBridge, with the rule that sends the ends of runs to the completion queue."""

    def __init__(self, complete: Callable[[str], None]) -> None:
        self._complete = complete

    def put_events(self, *, Entries: list[Any]) -> dict[str, Any]:
        for entry in Entries:
            detail = json.loads(entry["Detail"])
            if "onComplete" in detail:
                self._complete(detail["run"])
        return {"Entries": [{} for _ in Entries]}


class Functions:
    """Lambda: the functions that the test has given answers for, and the sweeper for cancelAll."""

    def __init__(self, cancel_all: Callable[[str], None]) -> None:
        self.answers: dict[str, Callable[[dict[str, Any]], Any]] = {}
        self._cancel_all = cancel_all

    def get_function_configuration(self, *, FunctionName: str) -> dict[str, Any]:
        if FunctionName not in self.answers:
            raise _refusal("ResourceNotFoundException", "GetFunctionConfiguration")
        return {"FunctionName": FunctionName, "Timeout": 0}

    def invoke(self, *, FunctionName: str, Payload: str, **_: Any) -> dict[str, Any]:
        event = json.loads(Payload)
        if FunctionName == f"{STACK}-sweeper":
            self._cancel_all(event["cancel"])
            return {}
        try:
            text = json.dumps(self.answers[FunctionName](event))
        except Exception as error:
            shape = {"errorMessage": str(error), "errorType": type(error).__name__}
            return {"FunctionError": "Unhandled", "Payload": _payload(json.dumps(shape))}
        return {"Payload": _payload(text)}


def _payload(text: str) -> io.BytesIO:
    return io.BytesIO(text.encode())


def _refusal(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "as AWS does"}}, operation)
