"""The functions' world on moto: tables, queues, state machine, bus, a clock to move."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from workpool import clients, clock, events, lookup, settings, store
from workpool.message import Message
from workpool.request import parse
from workpool.run import Run

ACCOUNT = "123456789012"
STACK = "Test"
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
POOLS["other"] = POOLS["default"]
START_MS = 1_790_000_000_000


@dataclass
class World:
    """What a test touches: the clock, the services' state, and user code to run."""

    now_ms: int = START_MS
    source: Path = field(default_factory=Path)

    def client(self, service: str) -> Any:
        return boto3.client(service)

    def tick(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)

    def submit(self, **request: Any) -> Run:
        """Store a run without checking names, as a caller's own transaction may."""
        return store.create(parse({"action": "jobs.work"} | request).to_run(now_ms=self.now_ms))

    def run(self, key: str) -> Run:
        run = store.read(key)
        assert run is not None
        return run

    def put(self, run: Run) -> Run:
        """Store a run in any state, to begin a test there."""
        self.client("dynamodb").put_item(TableName="runs", Item=run.to_item())
        return run

    def messages(self, queue: str) -> list[dict[str, Any]]:
        """What lies on a queue, left where it is."""
        url = f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/{STACK}-{queue}"
        answer = self.client("sqs").receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=0,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return list(answer.get("Messages", []))

    def code(self, package: str, module: str, text: str) -> None:
        """Drop a module into functions/actions or functions/completions, as a user would."""
        (self.source / package / f"{module}.py").write_text(text)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    queue_url = f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/{STACK}"
    environment = {
        "WORKPOOL_STACK": STACK,
        "WORKPOOL_RUNS_TABLE": "runs",
        "WORKPOOL_EVENT_BUS": f"{STACK}-events",
        "WORKPOOL_WORK_QUEUE": queue_url + "-{pool}-work",
        "WORKPOOL_DEAD_LETTER_QUEUE": queue_url + "-{pool}-dead-letters",
        "WORKPOOL_PARKED_QUEUE": queue_url + "-{pool}-parked",
        "WORKPOOL_RELAY_RETRY_QUEUE": queue_url + "-relay-retry",
        "WORKPOOL_RETRIER": f"arn:aws:states:us-east-1:{ACCOUNT}:stateMachine:{STACK}-{{pool}}-retrier",
        "IDEMPOTENT_WORKPOOL_LOG_LEVEL": "INFO",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "pools.json").write_text(json.dumps(POOLS))
    for package in ("actions", "completions"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(settings, "POOLS_FILE", tmp_path / "pools.json")
    monkeypatch.setattr(lookup, "ROOT", tmp_path)
    here = World(source=tmp_path)
    monkeypatch.setattr(clock, "now_ms", lambda: here.now_ms)
    with mock_aws():
        _forget()
        _deploy()
        yield here
        _forget()


def _forget() -> None:
    for cached in (settings.settings, settings.pools, clients.client, lookup._decorated):
        cached.cache_clear()
    events.logger.cache_clear()
    events._user_logger.cache_clear()
    for name in [it for it in sys.modules if it.split(".")[0] in ("actions", "completions")]:
        del sys.modules[name]


def _deploy() -> None:
    boto3.client("dynamodb").create_table(
        TableName="runs",
        KeySchema=[{"AttributeName": "run", "KeyType": "HASH"}],
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": kind}
            for name, kind in (("run", "S"), ("open", "S"), ("enqueuedAt", "N"))
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "open",
                "KeySchema": [
                    {"AttributeName": "open", "KeyType": "HASH"},
                    {"AttributeName": "enqueuedAt", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    sqs = boto3.client("sqs")
    for queue in (
        "default-work",
        "default-dead-letters",
        "default-parked",
        "other-work",
        "relay-retry",
        "completions",
    ):
        sqs.create_queue(QueueName=f"{STACK}-{queue}")
    boto3.client("events").create_event_bus(Name=f"{STACK}-events")
    machine = {"StartAt": "Backoff", "States": {"Backoff": {"Type": "Wait", "Seconds": 1, "End": True}}}
    boto3.client("stepfunctions").create_state_machine(
        name=f"{STACK}-default-retrier",
        definition=json.dumps(machine),
        roleArn=f"arn:aws:iam::{ACCOUNT}:role/retrier",
    )


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
