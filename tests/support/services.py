"""SQS, Step Functions and EventBridge in memory, as far as the library calls them.

They are small, and do what AWS does where it matters: a received message is hidden for a while and
comes back; the name of an execution can be used only once; a token answers once. `emulator` chooses
where AWS and the local emulator differ. The Retrier runs its real definition, read from infra.
The fault tests and the model use them.
"""

import ast
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support.failures import refusal
from tests.support.mappings import HIDDEN_SECONDS
from workpool.core.clock import from_timestamp

INFRA = Path(__file__).parents[2] / "infra"
RETENTION_MS = 14 * 24 * 3600 * 1000


@cache
def declared(module: str, name: str) -> Any:
    """A constant of a module of infra, read without importing the CDK, which takes seconds."""
    path = INFRA / f"{module}.py"
    kept = (ast.Assign, ast.AnnAssign, ast.FunctionDef)
    body = [
        it
        for it in ast.parse(path.read_text()).body
        if isinstance(it, kept) and not getattr(it, "decorator_list", None)
    ]
    retention = SimpleNamespace(to_seconds=lambda: RETENTION_MS // 1000)
    found: dict[str, Any] = {"Any": Any, "RETENTION": retention}
    exec(compile(ast.Module(body, []), path, "exec"), found)
    return found[name]


# Queues


@dataclass
class Sent:
    """A message on a queue."""

    number: int
    body: str
    sent_at: int
    visible_at: int
    receives: int = 0

    def received(self) -> tuple[str, str, str]:
        """Its id, its receipt handle and its body, for `queue_event`."""
        return str(self.number), str(self.number), self.body


class Queues:
    """The SQS client, and the queues as their mappings see them."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._numbers = count(1)
        self.queues: dict[str, dict[int, Sent]] = {}

    def put(self, queue: str, body: str) -> None:
        sent = Sent(next(self._numbers), body, self._now(), self._now())
        self.queues.setdefault(queue, {})[sent.number] = sent

    def on(self, queue: str) -> dict[int, Sent]:
        return self.queues.get(queue, {})

    def visible(self, queue: str) -> list[Sent]:
        return [it for it in self.on(queue).values() if it.visible_at <= self._now()]

    def in_flight(self, queue: str) -> list[Sent]:
        return [it for it in self.on(queue).values() if it.visible_at > self._now()]

    def receive(self, sent: Sent, *, seconds: int) -> None:
        """Hide a message from now on, for a function that may run so long."""
        sent.receives += 1
        hidden_until = self._now() + (seconds + HIDDEN_SECONDS) * 1000
        sent.visible_at = max(sent.visible_at, hidden_until)

    def expire(self) -> list[Sent]:
        """Delete what is older than the retention, as SQS does without a word."""
        gone = []
        for queue in self.queues.values():
            old = [it for it in queue.values() if it.sent_at + RETENTION_MS <= self._now()]
            for it in old:
                gone.append(queue.pop(it.number))
        return gone

    def send_message(self, *, QueueUrl: str, MessageBody: str, **_: Any) -> dict[str, Any]:
        self.put(_name(QueueUrl), MessageBody)
        return {}

    def send_message_batch(self, *, QueueUrl: str, Entries: list[Any]) -> dict[str, Any]:
        assert 1 <= len(Entries) <= 10
        for entry in Entries:
            self.put(_name(QueueUrl), entry["MessageBody"])
        return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}

    def change_message_visibility(
        self, *, QueueUrl: str, ReceiptHandle: str, VisibilityTimeout: int
    ) -> dict[str, Any]:
        assert 0 <= VisibilityTimeout <= 43_200
        sent = self.on(_name(QueueUrl)).get(int(ReceiptHandle))
        if sent is None:
            raise refusal("InvalidParameterValue")
        if sent.visible_at <= self._now():
            raise refusal("MessageNotInflight")
        sent.visible_at = self._now() + VisibilityTimeout * 1000
        return {}


def _name(url: str) -> str:
    return url.rpartition("/")[2]


# The Retrier


@dataclass
class Execution:
    """An execution of the Retrier: in Backoff, in Attempt with a token, or closed."""

    name: str
    input: str
    data: dict[str, Any]
    state: str
    since: int
    token: str | None = None

    @property
    def open(self) -> bool:
        return self.state in ("Backoff", "Attempt")

    @property
    def wakes_at(self) -> int:
        """The state Wait drops milliseconds."""
        assert self.state == "Backoff"
        return from_timestamp(self.data["retry"]["Cause"]) // 1000 * 1000


@dataclass
class Steps:
    """The Step Functions client, and the executions; the test's clock says when they wake."""

    now: Callable[[], int]
    send: Callable[[str, str], None]
    emulator: bool = False
    executions: dict[str, Execution] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    """What must never happen to an execution."""

    def __post_init__(self) -> None:
        self._tokens = count(1)
        self._definition = declared("retrier", "DEFINITION")

    def start_execution(self, *, stateMachineArn: str, name: str, input: str) -> dict[str, Any]:
        assert len(name) <= 80, name
        standing = self.executions.get(name)
        if standing is None:
            first = self._definition["StartAt"]
            self.executions[name] = Execution(name, input, json.loads(input), first, self.now())
        elif self.emulator or not standing.open or standing.input != input:
            raise refusal("ExecutionAlreadyExists")
        return {}

    def stop_execution(self, *, executionArn: str) -> dict[str, Any]:
        execution = self.executions.get(executionArn.rpartition(":")[2])
        if execution is None:
            raise refusal("ExecutionDoesNotExist")
        self.close(execution, "ABORTED")
        return {}

    def send_task_success(self, *, taskToken: str, output: str) -> dict[str, Any]:
        json.loads(output)
        execution = self._waiting(taskToken)
        if execution is not None:
            assert self._definition["States"]["Attempt"]["End"]
            self.close(execution, "SUCCEEDED")
        return {}

    def send_task_failure(self, *, taskToken: str, error: str, cause: str) -> dict[str, Any]:
        execution = self._waiting(taskToken)
        if execution is not None:
            for catch in self._definition["States"]["Attempt"]["Catch"]:
                if error in catch["ErrorEquals"]:
                    at = catch["ResultPath"].removeprefix("$.")
                    execution.data = execution.data | {at: {"Error": error, "Cause": cause}}
                    execution.state, execution.token = catch["Next"], None
                    break
            else:
                self.close(execution, "FAILED")
                self.faults.append(f"{execution.name} failed with {error}")
        return {}

    def close(self, execution: Execution, state: str) -> None:
        if execution.open:
            execution.state, execution.token = state, None

    def open(self) -> list[Execution]:
        return [it for it in self.executions.values() if it.open]

    def woken(self) -> list[Execution]:
        """The executions whose wait is over."""
        return [it for it in self.open() if it.state == "Backoff" and it.wakes_at <= self.now()]

    def waiting(self) -> list[Execution]:
        return [it for it in self.open() if it.state == "Attempt"]

    def attempt(self, execution: Execution) -> None:
        """Enter Attempt; when it waits there already, as if SQS's answer had been lost: send again,
        with a new token."""
        execution.state, execution.since = "Attempt", self.now()
        execution.token = f"token-{next(self._tokens)}"
        parameters = self._definition["States"]["Attempt"]["Parameters"]
        context = {"Task": {"Token": execution.token}, "Execution": {"Name": execution.name}}
        _filled(parameters["MessageGroupId.$"], execution.data, context)
        body = {
            name.removesuffix(".$"): (
                _filled(value, execution.data, context) if name.endswith(".$") else value
            )
            for name, value in parameters["MessageBody"].items()
        }
        self.send(execution.data["run"].partition("#")[0], json.dumps(body))

    def expire(self) -> list[Execution]:
        """Close the executions whose Attempt timed out, when SQS has deleted its message too."""
        old = [it for it in self.waiting() if it.since + RETENTION_MS <= self.now()]
        for it in old:
            self.close(it, "TIMED_OUT")
        return old

    def _waiting(self, token: str) -> Execution | None:
        for execution in self.executions.values():
            if execution.token == token:
                return execution
        if not self.emulator:
            raise refusal("TaskTimedOut")
        return None


def _filled(path: str, data: dict[str, Any], context: dict[str, Any]) -> Any:
    found: Any = context if path.startswith("$$.") else data
    for name in path.lstrip("$").lstrip(".").split("."):
        found = found[name]
    return found


# The bus


@dataclass
class Bus:
    """The EventBridge client, with the rule that sends ended runs to the completions' queue."""

    send: Callable[[str], None]

    def put_events(self, *, Entries: list[Any]) -> dict[str, Any]:
        assert 1 <= len(Entries) <= 10
        for entry in Entries:
            assert (entry["Source"], entry["DetailType"]) == ("workpool", "Run Ended")
            if "onComplete" in json.loads(entry["Detail"]):
                self.send(entry["Detail"])
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"} for _ in Entries]}
