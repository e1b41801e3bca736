"""The functions on moto: its tables, queues, state machines and bus, and a clock to move.

Where nothing fails, moto answers. Failures stand between the library and moto: `World.on` lets the
next calls of an operation fail, or be repeated as the SDK does when an answer is lost. The fixtures
below are imported by the conftest of each lane that uses them.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from moto import mock_aws
from moto.moto_api._internal import moto_api_backend

from tests.support import environment, runs
from tests.support.aws_lambda import Lambda
from tests.support.environment import (
    ACCOUNT,
    BUCKET,
    EVENT_BUS,
    POOL,
    STACK,
    START_MS,
    consumer_of,
    queue_url,
    retrier_arn,
)
from tests.support.failures import Call, Died, Intercepted, refusal
from tests.support.invocations import Context, context_with, queue_event, stream_record
from workpool.aws import store
from workpool.core.message import Message
from workpool.core.request import parse
from workpool.core.run import Item, Run
from workpool.testing.stack import tables

POOLS = {"default": POOL, "other": POOL | {"initialBackoffMs": 4000, "maxRetries": 1}}

Fault = Callable[[Call, dict[str, Any]], Any]

boto3_client = cache(boto3.client)


def answer_lost(call: Call, parameters: dict[str, Any]) -> Any:
    """The write takes effect and its answer is lost: the SDK repeats the call and gets the answer
    to the repetition."""
    if "TransactItems" in parameters:
        parameters = {"ClientRequestToken": "the SDK's own"} | parameters
    call(**parameters)
    return call(**parameters)


@dataclass
class World:
    """What a test reads and changes: the clock, the services' state, faults, and user code."""

    Died = Died

    now_ms: int = START_MS
    source: Path = field(default_factory=Path)
    pools: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {name: {**settings} for name, settings in POOLS.items()}
    )
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    most_calls: int = 2000
    lambdas: Lambda = field(default_factory=Lambda)
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
        return runs.a_run(**({"open": f"{fields.get('pool', 'default')}#3"} | fields))

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
            assert entry["EventBusName"] == EVENT_BUS
        return [json.loads(entry["Detail"]) for entry in entries]

    # Faults

    def on(self, operation: str, *faults: Fault) -> None:
        """Meet the next calls of an operation with these faults, one each."""
        self._faults[operation] += faults

    def forget_faults(self) -> None:
        """Nothing fails any longer."""
        self._faults.clear()

    def lose_answer(self, operation: str) -> None:
        self.on(operation, answer_lost)

    def refuse(self, operation: str, code: str, *, times: int = 1, **answer: Any) -> None:
        """`answer` is what AWS says beside the error."""

        def refusing(call: Call, parameters: dict[str, Any]) -> Any:
            raise refusal(code, operation, **answer)

        self.on(operation, *[refusing] * times)

    def cancel_transactions(self, *codes: str, times: int = 1) -> None:
        """Cancel the next transactions, for these reasons of their entries. No emulator does."""
        reasons = [{"Code": code} for code in codes]
        code = "TransactionCanceledException"
        self.refuse("transact_write_items", code, times=times, CancellationReasons=reasons)

    def not_answer(self, operation: str, *, takes_effect: bool, times: int = 1) -> None:
        """The next calls take effect or do not, and AWS's answer never arrives."""

        def unanswered(call: Call, parameters: dict[str, Any]) -> Any:
            if takes_effect:
                with suppress(ClientError):
                    call(**parameters)
            raise ReadTimeoutError(endpoint_url="https://the.test")

        self.on(operation, *[unanswered] * times)

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
        return queue_event(
            f"{STACK}-{queue}",
            (
                (it["MessageId"], it["ReceiptHandle"], it["Body"])
                for it in received.get("Messages", [])
            ),
        )

    def change(self, old: Run | None, new: Run | None, *more: Run | None) -> dict[str, Any]:
        """The event of the table's stream: from old to new, and on from there if more follow."""
        items = [run and run.to_item() for run in (old, new, *more)]
        return {"Records": [stream_record(*pair) for pair in pairwise(items)]}

    def comes_back_in(self) -> list[int]:
        """The visibility timeouts that messages were given, in order."""
        return [
            given["VisibilityTimeout"]
            for operation, given in self.calls
            if operation == "change_message_visibility"
        ]

    # What is deployed

    def redeploy(self, **settings: Any) -> None:
        """Deploy again, with some settings of the default pool changed."""
        self.pools["default"] |= settings
        environment.write_pools(self.source, self.pools)

    def deploy_jobs(self) -> None:
        """Deploy the action jobs.work and the completion handler jobs.done, which nothing calls."""
        environment.write_action(self.source)
        environment.write_handler(self.source)

    def code(self, package: str, module: str, text: str) -> None:
        """Drop a module into functions/actions or functions/completions, as a user would."""
        (self.source / package / f"{module}.py").write_text(text)

    def action(self, do: Callable[..., Any], *, head: str = "def") -> None:
        """The action jobs.work: it does what the test's own function does."""
        environment.write_action(self.source, head=head)
        environment.set_action(do)

    def handler(self, do: Callable[..., Any], *, head: str = "def") -> None:
        """The completion handler jobs.done: it does what the test's own function does."""
        environment.write_handler(self.source, head=head)
        environment.set_handler(do)

    # The library's clients

    def called(self, operation: str, call: Call, parameters: dict[str, Any]) -> Any:
        """Note a call of the library's, and let it meet the next fault of its operation."""
        self.calls.append((operation, parameters))
        assert len(self.calls) < self.most_calls, "it calls and calls"
        faults = self._faults[operation]
        return faults.pop(0)(call, parameters) if faults else call(**parameters)


@pytest.fixture(scope="session")
def aws() -> Iterator[set[str]]:
    """The services that a test has left its traces in."""
    with mock_aws():
        yield {"all"}


@pytest.fixture
def world(aws: set[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    here = World(source=tmp_path)
    environment.write_source(tmp_path, here.pools)
    environment.install(
        monkeypatch,
        tmp_path,
        now_ms=lambda: here.now_ms,
        sleep=here.tick,
        client=lambda service: Intercepted(here.client(service), here.called),
    )
    for pool, deployed in POOLS.items():
        here.lambdas.deploy(consumer_of(pool), deployed["maxParallelism"])
    if aws - {"dynamodb"}:
        moto_api_backend.reset()
        _deploy()
    else:
        for table in ("runs", "stats"):
            boto3_client("dynamodb").delete_table(TableName=table)
    _create_tables()
    yield here
    environment.forget()
    aws.clear()
    aws.update(here.used)


def _create_tables() -> None:
    for table in tables(runs="runs", stats="stats"):
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
    boto3_client("events").create_event_bus(Name=EVENT_BUS)
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


@pytest.fixture
def lambda_context() -> Callable[..., Context]:
    """A context with 70 seconds left, or with the given milliseconds, the last one for ever."""
    return context_with


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.SystemRandom.uniform", lambda _, low, high: (low + high) / 2)


@pytest.fixture
def message() -> Callable[..., Message]:
    """The message of a run's present due; a token makes it the Retrier's."""

    def of(run: Run, *, token: str | None = None, due: int | None = None) -> Message:
        return Message(
            run=run.key,
            due=run.due if due is None else due,
            token=token,
            execution=token and f"{run.run_id}-{run.enqueued_at}-1",
        )

    return of
