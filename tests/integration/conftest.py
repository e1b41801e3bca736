"""The functions' world on moto: tables, queues, state machine, bus, a clock to move.

Success is moto's. Faults stand between the library and moto: `World.on` lets the next calls of
one operation fail, or be repeated as the SDK does when an answer is lost.
"""

import io
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.moto_api._internal import moto_api_backend

from workpool import lookup, testing
from workpool.aws import clients, pools, store
from workpool.core import clock
from workpool.core.message import Message
from workpool.core.request import parse
from workpool.core.run import Item, Payload, Run

ACCOUNT = "123456789012"
STACK = "Test"
BUCKET = "payloads"
POOLS = {
    "default": {
        "maxParallelism": 10,
        "initialBackoffMs": 250,
        "base": 2,
        "maxRetries": 4,
        "statsWindowMs": 300_000,
        "actionTimeoutSeconds": 60,
        "retentionSeconds": 86_400,
        "lambdaActions": [],
    }
}
POOLS["other"] = POOLS["default"] | {"initialBackoffMs": 4000, "maxRetries": 1}
START_MS = 1_790_000_000_000

Call = Callable[..., Any]
Fault = Callable[[Call, dict[str, Any]], Any]

boto3_client = cache(boto3.client)


class Died(BaseException):
    """The process ended here, as far as the test is concerned."""


def answer_lost(call: Call, parameters: dict[str, Any]) -> Any:
    """The write is applied, its answer lost: the SDK repeats it, and hears of the repetition."""
    if "TransactItems" in parameters:
        parameters = parameters | {"ClientRequestToken": "the SDK's own"}
    call(**parameters)
    return call(**parameters)


@dataclass
class World:
    """What a test touches: the clock, the services' state, faults, and user code to run."""

    Died = Died

    now_ms: int = START_MS
    source: Path = field(default_factory=Path)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    most_calls: int = 2000
    lambdas: "Lambda" = field(default_factory=lambda: Lambda())
    used: set[str] = field(default_factory=set)
    _faults: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))

    def client(self, service: str) -> Any:
        if service == "lambda":
            return self.lambdas
        self.used.add(service)
        return boto3_client(service)

    def tick(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)

    # Runs

    def submit(self, **request: Any) -> Run:
        """Store a run without checking names, as a caller's own transaction may."""
        return store.create(parse({"action": "jobs.work"} | request).to_run(now_ms=self.now_ms))

    def run(self, key: str) -> Run:
        """The run as it is stored, forgotten or not."""
        item = self.item(key)
        assert item is not None
        return Run.from_item(item)

    def a_run(self, **fields: Any) -> Run:
        """A run in any state, not stored."""
        first: dict[str, Any] = {
            "pool": "default",
            "run_id": "r1",
            "kind": "enqueued",
            "action": "jobs.work",
            "args": Payload("{}"),
            "enqueued_at": START_MS,
            "due": START_MS,
            "open": "default#3",
        }
        return Run(**(first | fields))

    def put(self, run: Run) -> Run:
        """Store a run in any state, to begin a test there."""
        self.put_item(run.to_item())
        return run

    def put_many(self, runs: Iterable[Run]) -> None:
        """Store many runs, in any state."""
        puts = [{"PutRequest": {"Item": run.to_item()}} for run in runs]
        for start in range(0, len(puts), 25):
            self.client("dynamodb").batch_write_item(
                RequestItems={"runs": puts[start : start + 25]}
            )

    def put_item(self, item: Item) -> None:
        self.client("dynamodb").put_item(TableName="runs", Item=item)

    def item(self, key: str = "default#r1") -> Item | None:
        """The item as it is stored, expired or not."""
        answer = self.client("dynamodb").get_item(TableName="runs", Key={"run": {"S": key}})
        return answer.get("Item")

    def items(self) -> list[Item]:
        return list(self.client("dynamodb").scan(TableName="runs")["Items"])

    def objects(self) -> dict[str, str]:
        """What lies in the bucket of payloads, by name."""
        s3 = self.client("s3")
        return {
            it["Key"]: s3.get_object(Bucket=BUCKET, Key=it["Key"])["Body"].read().decode()
            for it in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        }

    def put_object(self, name: str, text: str) -> str:
        """An object, as an earlier call left it. Answers its name."""
        self.client("s3").put_object(Bucket=BUCKET, Key=name, Body=text.encode())
        return name

    # Hints

    def messages(self, queue: str) -> list[dict[str, Any]]:
        """What lies on a queue, left where it is."""
        answer = self.client("sqs").receive_message(
            QueueUrl=queue_url(queue),
            MaxNumberOfMessages=10,
            VisibilityTimeout=0,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return list(answer.get("Messages", []))

    def bodies(self, queue: str) -> list[Any]:
        return [json.loads(message["Body"]) for message in self.messages(queue)]

    def executions(self, pool: str = "default") -> dict[str, Any]:
        """Name -> input of the executions that were started."""
        stepfunctions = self.client("stepfunctions")
        listed = stepfunctions.list_executions(stateMachineArn=retrier_arn(pool))["executions"]
        return {
            it["name"]: json.loads(
                stepfunctions.describe_execution(executionArn=it["executionArn"])["input"]
            )
            for it in listed
        }

    def answers(self) -> list[tuple[str, ...]]:
        """What tokens were answered: (token, "retry", due) or (token, kind of the ended run)."""
        found: list[tuple[str, ...]] = []
        for operation, given in self.calls:
            if operation == "send_task_success":
                found.append((given["taskToken"], json.loads(given["output"])["kind"]))
            elif operation == "send_task_failure":
                assert given["error"] == "Workpool.Retry"
                found.append((given["taskToken"], "retry", given["cause"]))
        return found

    def announced(self) -> list[dict[str, Any]]:
        """The details of the events that were put on the bus."""
        entries = [
            entry
            for operation, given in self.calls
            if operation == "put_events"
            for entry in given["Entries"]
        ]
        for entry in entries:
            assert (entry["Source"], entry["DetailType"]) == ("workpool", "Run Ended")
            assert entry["EventBusName"] == f"{STACK}-events"
        return [json.loads(entry["Detail"]) for entry in entries]

    # Faults

    def on(self, operation: str, *faults: Fault) -> None:
        """Meet the next calls of an operation with these faults, one each."""
        self._faults[operation] += faults

    def lose_answer(self, operation: str) -> None:
        self.on(operation, answer_lost)

    def refuse(self, operation: str, code: str, *, times: int = 1) -> None:
        def refusing(call: Call, parameters: dict[str, Any]) -> Any:
            error = {"Error": {"Code": code, "Message": "refused by the test"}}
            raise ClientError(error, operation)  # type: ignore[arg-type]

        self.on(operation, *[refusing] * times)

    def meanwhile(self, operation: str, do: Callable[[], Any]) -> None:
        """Let something happen between the decision to call an operation and the call."""

        def first(call: Call, parameters: dict[str, Any]) -> Any:
            do()
            return call(**parameters)

        self.on(operation, first)

    def pass_by(self, operation: str, *, times: int = 1) -> None:
        """Let the next calls of an operation alone, so that a later one meets the fault."""
        self.on(operation, *[lambda call, parameters: call(**parameters)] * times)

    def die_before(self, operation: str) -> None:
        def dying(call: Call, parameters: dict[str, Any]) -> Any:
            raise Died

        self.on(operation, dying)

    def die_after(self, operation: str) -> None:
        def dying(call: Call, parameters: dict[str, Any]) -> Any:
            call(**parameters)
            raise Died

        self.on(operation, dying)

    def made(self, operation: str) -> int:
        """How often the library called an operation."""
        return sum(called == operation for called, _ in self.calls)

    # What invokes the functions

    def deliver(self, queue: str, *bodies: str) -> dict[str, Any]:
        """The event of a queue's mapping: these messages, sent and received."""
        sqs, url = self.client("sqs"), queue_url(queue)
        for body in bodies:
            sqs.send_message(QueueUrl=url, MessageBody=body)
        received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=900)
        arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:{STACK}-{queue}"
        return {
            "Records": [
                {
                    "messageId": it["MessageId"],
                    "receiptHandle": it["ReceiptHandle"],
                    "body": it["Body"],
                    "eventSource": "aws:sqs",
                    "eventSourceARN": arn,
                }
                for it in received.get("Messages", [])
            ]
        }

    def change(self, old: Run | None, new: Run | None, *more: Run | None) -> dict[str, Any]:
        """The event of the table's stream: from old to new, and on from there if more follow."""
        runs = (old, new, *more)
        return {"Records": [_stream_record(*pair) for pair in pairwise(runs)]}

    def comes_back_in(self) -> list[int]:
        """The visibility timeouts that messages were given, in order."""
        return [
            given["VisibilityTimeout"]
            for operation, given in self.calls
            if operation == "change_message_visibility"
        ]

    # User code

    def code(self, package: str, module: str, text: str) -> None:
        """Drop a module into functions/actions or functions/completions, as a user would."""
        (self.source / package / f"{module}.py").write_text(text)

    def action(self, do: Callable[..., Any], *, head: str = "def") -> None:
        """The action jobs.work: it does what the test's own function does."""
        self._user_code("action", f"{head} work(ctx, args):\n    return do(ctx, args)\n")
        lookup.find("jobs.work", "action").__globals__["do"] = do

    def handler(self, do: Callable[..., Any], *, head: str = "def") -> None:
        """The completion handler jobs.done: it does what the test's own function does."""
        self._user_code("completion", f"{head} done(*given):\n    return do(*given)\n")
        lookup.find("jobs.done", "completion").__globals__["do"] = do

    def _user_code(self, decorator: lookup.Decorator, function: str) -> None:
        text = f"import workpool\n\n@workpool.{decorator}\n{function}"
        self.code(lookup.PACKAGES[decorator], "jobs", text)


def _stream_record(old: Run | None, new: Run | None) -> dict[str, Any]:
    run = new or old
    assert run is not None
    images = {"OldImage": old and old.to_item(), "NewImage": new and new.to_item()}
    return {
        "eventID": "1",
        "eventName": "REMOVE" if new is None else "INSERT" if old is None else "MODIFY",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-1",
        "dynamodb": {
            "ApproximateCreationDateTime": 1790000000.0,
            "Keys": {"run": {"S": run.key}},
            **{name: image for name, image in images.items() if image is not None},
            "SequenceNumber": "100000000000000000001",
            "SizeBytes": 200,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
        "eventSourceARN": f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/runs/stream/2026",
    }


class Lambda:
    """Lambda as far as the library uses it: limits of consumers, functions that it invokes.

    A mapping's change takes effect at once, or, while `slow`, with `settle`: until then AWS
    refuses the next one.
    """

    ACCOUNT_LIMIT = 1000
    UNRESERVED = 100

    def __init__(self) -> None:
        self.slow = False
        self.reserved: dict[str, int] = {}
        self.mappings: dict[str, dict[str, Any]] = {}
        self.functions: dict[str, tuple[int, Callable[[Any], Any]]] = {}
        self.invoked: list[tuple[str, Any]] = []

    def deploy(self, function: str, limit: int) -> None:
        """A consumer and its mapping, as a deploy of the stack leaves them."""
        self.reserved[function] = limit
        self.mappings[f"uuid-of-{function}"] = {
            "UUID": f"uuid-of-{function}",
            "State": "Enabled",
            "ScalingConfig": {"MaximumConcurrency": max(2, limit)},
        }

    def limits(self, pool: str = "default") -> tuple[int | None, str, int]:
        """Reserved concurrency, the mapping's state and its maximum."""
        function = f"{STACK}-{pool}-consumer"
        mapping = self.mappings[f"uuid-of-{function}"]
        maximum = mapping["ScalingConfig"]["MaximumConcurrency"]
        return self.reserved.get(function), mapping["State"], maximum

    def settle(self) -> None:
        """What was being applied is applied now."""
        done = {"Disabling": "Disabled", "Enabling": "Enabled"}
        for mapping in self.mappings.values():
            mapping["State"] = done.get(mapping["State"], mapping["State"])

    def put_function_concurrency(
        self, *, FunctionName: str, ReservedConcurrentExecutions: int
    ) -> dict[str, Any]:
        wanted = {**self.reserved, FunctionName: ReservedConcurrentExecutions}
        if sum(wanted.values()) > self.ACCOUNT_LIMIT - self.UNRESERVED:
            raise _refusal("InvalidParameterValueException", "PutFunctionConcurrency")
        self.reserved = wanted
        return {"ReservedConcurrentExecutions": ReservedConcurrentExecutions}

    def get_function_concurrency(self, *, FunctionName: str) -> dict[str, Any]:
        limit = self.reserved.get(FunctionName)
        return {} if limit is None else {"ReservedConcurrentExecutions": limit}

    def list_event_source_mappings(self, *, FunctionName: str) -> dict[str, Any]:
        mapping = self.mappings[f"uuid-of-{FunctionName}"]
        return {"EventSourceMappings": [{**mapping, "ScalingConfig": {**mapping["ScalingConfig"]}}]}

    def update_event_source_mapping(
        self, *, UUID: str, Enabled: bool, ScalingConfig: dict[str, int]
    ) -> dict[str, Any]:
        mapping = self.mappings[UUID]
        if mapping["State"] not in ("Enabled", "Disabled"):
            raise _refusal("ResourceInUseException", "UpdateEventSourceMapping")
        if not 2 <= ScalingConfig["MaximumConcurrency"] <= 1000:
            raise _refusal("InvalidParameterValueException", "UpdateEventSourceMapping")
        mapping |= {
            "State": "Enabling" if Enabled else "Disabling",
            "ScalingConfig": ScalingConfig,
        }
        if not self.slow:
            self.settle()
        return mapping

    def get_function_configuration(self, *, FunctionName: str) -> dict[str, Any]:
        return {"FunctionName": FunctionName, "Timeout": self.functions[FunctionName][0]}

    def invoke(
        self, *, FunctionName: str, Payload: str, InvocationType: str = "RequestResponse"
    ) -> dict[str, Any]:
        given = json.loads(Payload)
        self.invoked.append((FunctionName, given))
        if InvocationType == "Event":
            return {"StatusCode": 202, "Payload": io.BytesIO()}
        try:
            value = self.functions[FunctionName][1](given)
        except Exception as error:
            shape = {"errorMessage": str(error), "errorType": type(error).__name__}
            payload = io.BytesIO(json.dumps(shape).encode())
            return {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": payload}
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        return {"StatusCode": 200, "Payload": io.BytesIO(raw)}


def _refusal(code: str, operation: str) -> ClientError:
    error: Any = {"Error": {"Code": code, "Message": "refused as AWS does"}}
    return ClientError(error, operation)


class _Wire:
    """A client of the library's: notes each call, and meets it with the test's faults."""

    def __init__(self, world: World, service: str) -> None:
        self._world = world
        self._client = world.client(service)

    def get_paginator(self, operation: str) -> Any:
        """Each of its pages is a call like any other."""
        paginator = self._client.get_paginator(operation)
        paginator._method = getattr(self, operation)
        return paginator

    def __getattr__(self, operation: str) -> Call:
        call = getattr(self._client, operation)

        def noted(**parameters: Any) -> Any:
            self._world.calls.append((operation, parameters))
            assert len(self._world.calls) < self._world.most_calls, "it calls and calls"
            faults = self._world._faults[operation]
            return faults.pop(0)(call, parameters) if faults else call(**parameters)

        return noted


def queue_url(queue: str) -> str:
    return f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/{STACK}-{queue}"


def retrier_arn(pool: str) -> str:
    return f"arn:aws:states:us-east-1:{ACCOUNT}:stateMachine:{STACK}-{pool}-retrier"


@pytest.fixture(scope="session")
def aws() -> Iterator[set[str]]:
    """The services that a test has left its traces in."""
    with mock_aws():
        yield {"all"}


@pytest.fixture
def world(aws: set[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    environment = {
        "WORKPOOL_STACK": STACK,
        "WORKPOOL_RUNS_TABLE": "runs",
        "WORKPOOL_STATS_TABLE": "stats",
        "WORKPOOL_PAYLOADS_BUCKET": BUCKET,
        "WORKPOOL_EVENT_BUS": f"{STACK}-events",
        "WORKPOOL_WORK_QUEUE": queue_url("{pool}-work"),
        "WORKPOOL_DEAD_LETTER_QUEUE": queue_url("{pool}-dead-letters"),
        "WORKPOOL_PARKED_QUEUE": queue_url("{pool}-parked"),
        "WORKPOOL_SHARED_PARKED_QUEUE": queue_url("parked"),
        "WORKPOOL_RELAY_RETRY_QUEUE": queue_url("relay-retry"),
        "WORKPOOL_RETRIER": retrier_arn("{pool}"),
        "WORKPOOL_CONSUMER": f"{STACK}-{{pool}}-consumer",
        "IDEMPOTENT_WORKPOOL_LOG_LEVEL": "INFO",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "pools.json").write_text(json.dumps(POOLS))
    for package in ("actions", "completions"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(pools, "POOLS_FILE", tmp_path / "pools.json")
    monkeypatch.setattr(lookup, "ROOT", tmp_path)
    here = World(source=tmp_path)
    monkeypatch.setattr(clock, "now_ms", lambda: here.now_ms)
    monkeypatch.setattr(clients, "client", cache(lambda service: _Wire(here, service)))
    monkeypatch.setattr(clients, "patient_lambda", lambda seconds: clients.client("lambda"))
    for pool, deployed in POOLS.items():
        here.lambdas.deploy(f"{STACK}-{pool}-consumer", int(str(deployed["maxParallelism"])))
    _forget()
    if aws - {"dynamodb"}:
        moto_api_backend.reset()
        _deploy()
    else:
        for table in ("runs", "stats"):
            boto3_client("dynamodb").delete_table(TableName=table)
    _create_tables()
    yield here
    _forget()
    aws.clear()
    aws.update(here.used)


def _forget() -> None:
    testing.forget(STACK)
    for name in [it for it in sys.modules if it.split(".")[0] in ("actions", "completions")]:
        del sys.modules[name]


def _create_tables() -> None:
    for table in testing.tables(runs="runs", stats="stats"):
        table.pop("StreamSpecification", None)  # The tests say themselves what the relay reads.
        boto3_client("dynamodb").create_table(**table)


def _deploy() -> None:
    sqs = boto3_client("sqs")
    for queue in (
        "default-work",
        "default-dead-letters",
        "default-parked",
        "other-work",
        "other-dead-letters",
        "other-parked",
        "relay-retry",
        "completions",
        "parked",
    ):
        sqs.create_queue(QueueName=f"{STACK}-{queue}")
    boto3_client("s3").create_bucket(Bucket=BUCKET)
    boto3_client("events").create_event_bus(Name=f"{STACK}-events")
    wait = {"Type": "Wait", "Seconds": 1, "End": True}
    for pool in POOLS:
        boto3_client("stepfunctions").create_state_machine(
            name=f"{STACK}-{pool}-retrier",
            definition=json.dumps({"StartAt": "Backoff", "States": {"Backoff": wait}}),
            roleArn=f"arn:aws:iam::{ACCOUNT}:role/retrier",
        )


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[dict[str, Any]]]:
    """The lines of JSON logged since the last call, of one event or of all."""

    def lines(event: str | None = None) -> list[dict[str, Any]]:
        shapes = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return [shape for shape in shapes if event in (None, shape.get("event"))]

    return lines


@dataclass(frozen=True)
class Context:
    """What Lambda passes beside the event; its remaining times may be a script."""

    remaining: Iterator[int]

    def get_remaining_time_in_millis(self) -> int:
        return next(self.remaining)


@pytest.fixture
def lambda_context() -> Callable[..., Context]:
    """A context with 70 seconds left, or with the given milliseconds, the last one for ever."""

    def of(*remaining_ms: int) -> Context:
        first = remaining_ms or (70_000,)
        return Context(chain(first, repeat(first[-1])))

    return of


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: (low + high) / 2)


@pytest.fixture
def message() -> Callable[..., Message]:
    """The message of a run's present due; a token makes it the Retrier's."""

    def of(run: Run, *, token: str | None = None, due: int | None = None) -> Message:
        return Message(
            run=run.key,
            due=run.due if due is None else due,
            token=token,
            execution=token and f"execution-of-{token}",
        )

    return of
