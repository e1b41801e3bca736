"""SQS, Step Functions, EventBridge and Lambda in memory, as far as the pools use them in a test.

What is to happen waits on an agenda, on the test's clock. Nothing here decides about a run.
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
    """What is to happen, and when; at the same time in the order in which it was noted."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int]] = []
        self._things: dict[int, Callable[[], Any]] = {}
        self._numbers = count(1)

    def at(self, at_ms: int, do: Callable[[], Any]) -> int:
        """Note it. Answers the number by which it may be dropped."""
        number = next(self._numbers)
        self._things[number] = do
        heapq.heappush(self._heap, (at_ms, number))
        return number

    def drop(self, number: int | None) -> None:
        self._things.pop(number or 0, None)

    def next_at(self) -> int | None:
        while self._heap and self._heap[0][1] not in self._things:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self) -> tuple[int, Callable[[], Any]]:
        at_ms, number = heapq.heappop(self._heap)
        return at_ms, self._things.pop(number)


class Queues:
    """SQS, as far as the pool sends to it: first messages."""

    def __init__(self, deliver: Callable[[str], None]) -> None:
        self._deliver = deliver

    def send_message_batch(self, *, QueueUrl: str, Entries: list[Any]) -> dict[str, Any]:
        for entry in Entries:
            self._deliver(entry["MessageBody"])
        return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}

    def get_queue_attributes(self, *, QueueUrl: str, AttributeNames: list[str]) -> dict[str, Any]:
        return {"Attributes": dict.fromkeys(AttributeNames, "0")}


class Retriers:
    """Step Functions, running each pool's Retrier: wait for a due, send an attempt with a token,
    and go by its answer."""

    def __init__(self, agenda: Agenda, deliver: Callable[[str], None]) -> None:
        self._agenda, self._deliver = agenda, deliver
        self._open: dict[str, int | None] = {}
        """By the execution's name: what it waits for on the agenda; None: for its token."""
        self._runs: dict[str, str] = {}
        self._tokens: dict[str, str] = {}
        self._numbers = count(1)

    def start_execution(self, *, name: str, input: str, **_: Any) -> dict[str, Any]:
        if name in self._runs:
            raise _refusal("ExecutionAlreadyExists", "StartExecution")
        given = json.loads(input)
        self._runs[name] = given["run"]
        self._backoff(name, given["retry"]["Cause"])
        return {}

    def stop_execution(self, *, executionArn: str) -> dict[str, Any]:
        self._agenda.drop(self._open.pop(executionArn.rpartition(":")[2], None))
        return {}

    def send_task_success(self, *, taskToken: str, output: str) -> dict[str, Any]:
        del self._open[self._answered(taskToken)]
        return {}

    def send_task_failure(self, *, taskToken: str, error: str, cause: str) -> dict[str, Any]:
        self._backoff(self._answered(taskToken), cause)
        return {}

    def _answered(self, token: str) -> str:
        name = self._tokens.pop(token, "")
        if name not in self._open:
            raise _refusal("TaskTimedOut", "SendTask")
        return name

    def _backoff(self, name: str, due: str) -> None:
        due_ms = clock.from_timestamp(due)
        self._open[name] = self._agenda.at(due_ms, lambda: self._attempt(name, due_ms))

    def _attempt(self, name: str, due_ms: int) -> None:
        token = f"token-{next(self._numbers)}"
        self._tokens[token], self._open[name] = name, None
        its = message.Message(run=self._runs[name], due=due_ms, token=token, execution=name)
        self._deliver(its.body())


class Bus:
    """EventBridge, with the rule of completions."""

    def __init__(self, announced: Callable[[str], None]) -> None:
        self._announced = announced

    def put_events(self, *, Entries: list[Any]) -> dict[str, Any]:
        for entry in Entries:
            detail = json.loads(entry["Detail"])
            if "onComplete" in detail:
                self._announced(detail["run"])
        return {"Entries": [{} for _ in Entries]}


class Functions:
    """Lambda: the functions that a test gave answers to, and the sweeper, for cancelAll."""

    def __init__(self, cancel_all: Callable[[str], None]) -> None:
        self.answers: dict[str, Callable[[dict[str, Any]], Any]] = {}
        self._cancel_all = cancel_all

    def get_function_configuration(self, *, FunctionName: str) -> dict[str, Any]:
        if FunctionName not in self.answers:
            raise _refusal("ResourceNotFoundException", "GetFunctionConfiguration")
        return {"FunctionName": FunctionName, "Timeout": 0}

    def invoke(self, *, FunctionName: str, Payload: str, **_: Any) -> dict[str, Any]:
        given = json.loads(Payload)
        if FunctionName == f"{STACK}-sweeper":
            self._cancel_all(given["cancel"])
            return {}
        try:
            text = json.dumps(self.answers[FunctionName](given))
        except Exception as error:
            shape = {"errorMessage": str(error), "errorType": type(error).__name__}
            return {"FunctionError": "Unhandled", "Payload": _payload(json.dumps(shape))}
        return {"Payload": _payload(text)}


def _payload(text: str) -> io.BytesIO:
    return io.BytesIO(text.encode())


def _refusal(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "as AWS does"}}, operation)
