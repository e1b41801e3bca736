"""A pool in a test: actions and completion handlers run to completion in process, on moto, with a
clock to move. No emulator, no AWS account; needs pytest and moto.

    # conftest.py
    pytest_plugins = ["workpool.testing"]

    # test_invoices.py
    def test_a_mail_that_bounces_is_sent_again(workpool_local):
        pool = IdempotentWorkpool()
        run_id = pool.run("invoices.send", {"to": "ada@example.org"}, on_complete="invoices.sent")
        workpool_local.settle()
        assert pool.status(run_id).succeeded

The verbs are the deployed ones, on moto's DynamoDB and S3; SQS, Step Functions and EventBridge are
in memory, on the test's clock. One thing happens at a time: that no more than maxParallelism run
at once, that AWS would permit it, and how long an action may take are for `make up` to show.
"""

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote, urlsplit

import boto3
import pytest
from moto import mock_aws
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.dynamodb.models import dynamodb_backends

from workpool import client, lookup
from workpool._in_process import InProcess
from workpool.aws import clients, counters, payloads, pools
from workpool.core import clock, message
from workpool.core.changes import Change
from workpool.core.run import Item, Payload, Run
from workpool.testing.cloud import Agenda, Bus, Functions, Queues, Retriers
from workpool.testing.stack import BUCKET, DEFAULTS, STACK, environment, forget, tables
from workpool.verbs import attempt, cancel, complete, relay, user_code, watchdog

REGION = "us-east-1"
"""Of a test that sets none."""

MARGIN_MS = 10_000
"""What a consumer has beyond its pool's actionTimeoutSeconds."""

HIDDEN_SECONDS = 30
"""For so much longer a message is hidden."""

HANDLER_MS = 60_000
FOR_PYTEST = (
    KeyboardInterrupt,
    pytest.fail.Exception,
    pytest.skip.Exception,
    pytest.exit.Exception,
)

MOST_STEPS = 10_000


@pytest.fixture
def workpool_pools() -> dict[str, dict[str, Any]]:
    """The pools, as in `cdk.json`, whose they are. Override it to test with others."""
    path = lookup.ROOT.parent / "cdk.json"
    configured: dict[str, Any] = json.loads(path.read_text())["context"]["pools"]
    return configured


@pytest.fixture
def workpool_local(
    tmp_path: Path, workpool_pools: dict[str, dict[str, Any]]
) -> Iterator["WorkpoolLocal"]:
    """The pools of `cdk.json` in this process. Every `IdempotentWorkpool` speaks to them, and every
    boto3 client to moto, where the tables are that a test makes for its actions."""
    pools_file = tmp_path / "pools.json"
    pools_file.write_text(json.dumps({it: DEFAULTS | own for it, own in workpool_pools.items()}))
    with pytest.MonkeyPatch.context() as patched, mock_aws():
        patched.delenv("AWS_PROFILE", raising=False)
        for name, value in environment(os.environ.get("AWS_DEFAULT_REGION", REGION)).items():
            patched.setenv(name, value)
        patched.setattr(pools, "POOLS_FILE", pools_file)
        forget(STACK)
        dynamodb, bucket = boto3.client("dynamodb"), boto3.resource("s3").Bucket(BUCKET)
        region = dynamodb.meta.region_name
        where: dict[str, Any] = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        bucket.create(**({} if region == REGION else where))
        made = [
            dynamodb.create_table(**it)["TableDescription"]["TableName"]
            for it in tables(runs=f"{STACK}-runs", stats=f"{STACK}-stats")
        ]
        environments = {it: own.get("environment", {}) for it, own in workpool_pools.items()}
        yield WorkpoolLocal(patched, environments)
        for table in made:  # moto forgets nothing while a test has it mocked, too.
            dynamodb.delete_table(TableName=table)
        bucket.objects.delete()
        bucket.delete()
    forget(STACK)


class WorkpoolLocal:
    """The pools of a test, and their clock. Nothing happens by itself: `settle` and `tick` let it,
    and so does a client's `wait`. While an action runs the clock stands still."""

    def __init__(
        self, patched: pytest.MonkeyPatch, environments: dict[str, dict[str, str]]
    ) -> None:
        self.now_ms = time.time_ns() // 1_000_000
        """The time, in epoch milliseconds."""
        self._environments = environments
        self._agenda = Agenda()
        self._numbers = count(1)
        self._uncounted: list[Change] = []
        self._plain_error_text = user_code.error_text
        self._killed = 0
        self._raised: BaseException | None = None
        self._functions = Functions(self._cancel_all)
        in_memory = {
            "sqs": Queues(self._deliver),
            "stepfunctions": Retriers(self._agenda, self._deliver),
            "events": Bus(lambda key: self._soon(partial(self._complete, key))),
            "lambda": self._functions,
        }
        on_moto = cache(boto3.client)

        def client_of(service: str) -> Any:
            return in_memory.get(service) or on_moto(service)

        for place, name, value in (
            (clients, "client", client_of),
            (clients, "lambda_without_retries", lambda _: client_of("lambda")),
            (clock, "now_ms", lambda: self.now_ms),
            (clock, "monotonic", lambda: self.now_ms / 1000),
            (clock, "sleep", self.tick),
            (watchdog, "guard", self._guard),
            (user_code, "error_text", self._error_text),
            (client, "transport", lambda _: Transport(self)),
        ):
            patched.setattr(place, name, value)

    def settle(self) -> None:
        """Let all happen that is to come, however late: the clock moves on from one thing to the
        next, until nothing is left. What is later than a pool's retention has earlier runs
        forgotten. Raises RuntimeError if it goes on and on, as actions do that submit themselves:
        those want `tick`."""
        self._go_on(None)

    def tick(self, seconds: float) -> None:
        """Let so much time pass, and what falls into it happen. Raises as `settle`."""
        until = self.now_ms + round(seconds * 1000)
        self._go_on(until)
        self.now_ms = max(self.now_ms, until)

    def kill(self, attempts: int = 1) -> None:
        """Kill the processes of the next attempts when their action is done and nothing is
        written yet: the action will be called again, with the same idempotency key."""
        self._killed += attempts

    def function(self, name: str, answer: Callable[[dict[str, Any]], Any]) -> None:
        """What `lambda:<name>` answers; what it raises is the function's error."""
        self._functions.answers[name] = answer

    # What happens

    def _go_on(self, until: int | None) -> None:
        for _ in range(MOST_STEPS):
            self._relay()
            at_ms = self._agenda.next_at()
            if at_ms is None or (until is not None and at_ms > until):
                self._count()
                return
            at_ms, do = self._agenda.pop()
            self.now_ms = max(self.now_ms, at_ms)
            _apart(do)
            if self._raised is not None:
                raised, self._raised = self._raised, None
                raise raised
        raise RuntimeError(f"after {MOST_STEPS} steps there is still something to do")

    def _soon(self, do: Callable[[], Any], seconds: float = 0) -> None:
        self._agenda.at(self.now_ms + round(seconds * 1000), do)

    def _relay(self) -> None:
        """What the runs table's stream holds. Not by its API: moto undoes a refused transaction by
        putting back another table, with another stream."""
        region = dynamodb_backends[DEFAULT_ACCOUNT_ID][os.environ["AWS_DEFAULT_REGION"]]
        shard = region.tables[f"{STACK}-runs"].stream_shard
        assert shard is not None
        records, shard.items = [it.to_json()["dynamodb"] for it in shard.items], []
        changes = [
            Change(
                old=_run(it.get("OldImage")),
                new=_run(it.get("NewImage")),
                sequence=str(next(self._numbers)),
                at_ms=self.now_ms,
            )
            for it in records
        ]
        if changes:
            relay.relay(changes)
            self._uncounted += changes

    def _count(self) -> None:
        while self._uncounted:
            some = self._uncounted[: counters.MAX_CHANGES]
            counters.count(some)
            del self._uncounted[: len(some)]

    def _cancel_all(self, pool: str) -> None:
        self._soon(lambda: cancel.walk_cancel(pools.pool(pool), in_time=lambda: True))

    def _guard(self, work: Callable[[], Any], **_: Any) -> Any:
        """In place of the watchdog, which would end the test's process: nothing takes time here."""
        outcome = work()
        if self._killed:
            self._killed -= 1
            raise _Killed
        return outcome

    def _error_text(self, error: BaseException) -> str:
        """What user code raises is its failure; what is meant for pytest goes to the test, too."""
        if isinstance(error, FOR_PYTEST):
            self._raised = error
        return self._plain_error_text(error)

    def _deliver(self, body: str) -> None:
        self._soon(partial(self._attempt, message.parse(body)))

    def _attempt(self, its: message.Message) -> None:
        pool = pools.pool(its.run.partition("#")[0])
        ends_ms = self.now_ms + pool.action_timeout_ms + MARGIN_MS
        try:
            with patch.dict(os.environ, self._environments[pool.name]):
                again = attempt.attempt(its, remaining_ms=lambda: ends_ms - self.now_ms)
        except _Killed:
            again = (ends_ms - self.now_ms) / 1000 + HIDDEN_SECONDS
        if again is not None:
            self._soon(partial(self._attempt, its), again)

    def _complete(self, key: str) -> None:
        ends_ms = self.now_ms + HANDLER_MS
        again = complete.complete(key, remaining_ms=lambda: ends_ms - self.now_ms)
        if again is not None:
            self._soon(partial(self._complete, key), again)


class Transport(InProcess):
    """How a client reaches the test's pools. Each submit has a millisecond of its own, as it takes
    one elsewhere."""

    def __init__(self, local: WorkpoolLocal) -> None:
        self._local = local

    def submit(self, pool: str, body: dict[str, Any]) -> Any:
        self._local.now_ms += 1
        return super().submit(pool, body)

    def submit_many(self, pool: str, bodies: Sequence[Any]) -> Any:
        self._local.now_ms += 1
        return super().submit_many(pool, bodies)

    def cancel_all(self, pool: str) -> Any:
        self._local.now_ms += 1
        return super().cancel_all(pool)

    def change(self, pool: str, body: dict[str, Any]) -> Any:
        raise NotImplementedError(
            "workpool_local neither pauses nor scales a pool, since one thing happens at a time: "
            "`make up` does"
        )

    def fetch(self, url: str) -> Any:
        """A large return value, read from moto's bucket: moto serves no URL of it."""
        name = unquote(urlsplit(url).path).removeprefix(f"/{BUCKET}").lstrip("/")
        return json.loads(payloads.read(Payload(at=name)) or "null")


def _apart(do: Callable[[], Any]) -> None:
    """Do it where no event loop runs: an action may be `async`, and so may the test."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        do()
    else:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(do).result()


class _Killed(BaseException):
    """The process of an attempt ended here."""


def _run(image: Item | None) -> Run | None:
    return Run.from_item(image) if image else None
