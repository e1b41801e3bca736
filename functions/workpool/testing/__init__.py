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
import heapq
import io
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote, urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.dynamodb.models import dynamodb_backends

from workpool import client, lookup
from workpool.aws import clients, counters, lambda_actions, logs, payloads, pools
from workpool.aws.environment import environment
from workpool.core import clock, message, retry
from workpool.core.run import Item, Run
from workpool.verbs import attempt, complete, control, relay, stats, status

STACK = "Local"
REGION = "us-east-1"
"""Where the test names none."""

BUCKET = "workpool-local-payloads"
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

DEFAULTS: dict[str, Any] = {
    "maxParallelism": 1,
    "initialBackoffMs": 250,
    "base": 2,
    "maxRetries": 4,
    "statsWindowMs": 300_000,
    "actionTimeoutSeconds": 60,
    "retentionSeconds": 86_400,
    "lambdaActions": [],
}
"""Of a pool's settings, as `cdk.json` has them."""

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
        for name, value in _environment(os.environ.get("AWS_DEFAULT_REGION", REGION)).items():
            patched.setenv(name, value)
        patched.setattr(pools, "POOLS_FILE", pools_file)
        forget(STACK)
        dynamodb, bucket = boto3.client("dynamodb"), boto3.resource("s3").Bucket(BUCKET)
        region = dynamodb.meta.region_name
        where = {"LocationConstraint": region}
        bucket.create(**({} if region == REGION else {"CreateBucketConfiguration": where}))
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
        self._agenda = _Agenda()
        self._numbers = count(1)
        self._uncounted: list[counters.Counted] = []
        self._killed = 0
        self._raised: BaseException | None = None
        self._functions = _Functions(self._soon)
        in_memory = {
            "sqs": _Queues(self._deliver),
            "stepfunctions": _Retriers(self._agenda, self._deliver),
            "events": _Bus(lambda key: self._soon(partial(self._complete, key))),
            "lambda": self._functions,
        }
        on_moto = cache(boto3.client)

        def client_of(service: str) -> Any:
            return in_memory.get(service) or on_moto(service)

        carried = attempt._carried

        def carried_unless_killed(*given: Any) -> Any:
            outcome = carried(*given)
            if self._killed:
                self._killed -= 1
                raise _Killed
            return outcome

        for place, name, value in (
            (clients, "client", client_of),
            (clients, "patient", lambda service, seconds: client_of(service)),
            (clock, "now_ms", lambda: self.now_ms),
            (attempt, "threading", SimpleNamespace(**vars(threading) | {"Timer": _NoTimer})),
            (attempt, "_carried", carried_unless_killed),
            (attempt, "message_of", self._noted),
            (complete, "message_of", self._noted),
            (client, "time", SimpleNamespace(monotonic=self._seconds, sleep=self.tick)),
            (client, "_fetched", _fetched),
            (client.IdempotentWorkpool, "_verbs", property(lambda _: _Caller(self))),
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

    def _seconds(self) -> float:
        return self.now_ms / 1000

    def _relay(self) -> None:
        """What the runs table's stream holds. Not by its API: moto undoes a refused transaction by
        putting back another table, with another stream."""
        region = dynamodb_backends[DEFAULT_ACCOUNT_ID][os.environ["AWS_DEFAULT_REGION"]]
        shard = region.tables[f"{STACK}-runs"].stream_shard
        assert shard is not None
        records, shard.items = [it.to_json()["dynamodb"] for it in shard.items], []
        changes = [
            counters.Counted(
                sequence=str(next(self._numbers)),
                at_ms=self.now_ms,
                old=_run(it.get("OldImage")),
                new=_run(it.get("NewImage")),
            )
            for it in records
        ]
        if changes:
            relay.relay([(it.old, it.new) for it in changes])
            self._uncounted += changes

    def _count(self) -> None:
        deployed = pools.pools().values()
        widths = {it.name: stats.width_ms(it.stats_window_ms) for it in deployed}
        while self._uncounted:
            some = self._uncounted[: counters.RECORDS]
            counters.count(some, window_ms=widths)
            del self._uncounted[: len(some)]

    def _noted(self, error: BaseException) -> str:
        """What an action or a handler raises is its failure, but not what is meant for pytest."""
        if isinstance(error, FOR_PYTEST):
            self._raised = error
        return retry.message_of(error)

    def _deliver(self, body: str) -> None:
        self._soon(partial(self._attempt, message.read(body)))

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


class _Caller(client._InProcess):
    """What the client calls. Each submit has a millisecond of its own, as it takes one."""

    def __init__(self, local: WorkpoolLocal) -> None:
        self._local = local

    def submit(self, body: dict[str, Any]) -> Any:
        self._local.now_ms += 1
        return super().submit(body)

    def submit_many(self, pool: str, bodies: Sequence[Any]) -> Any:
        self._local.now_ms += 1
        return super().submit_many(pool, bodies)

    def status(self, pool: str, run_id: str, include: Sequence[str]) -> Any:
        return super().status(_known(pool), run_id, list(status.includes(",".join(include))))

    def status_many(self, pool: str, run_ids: Sequence[str]) -> Any:
        return super().status_many(_known(pool), run_ids)

    def runs(self, pool: str, kind: str | None, cursor: str | None) -> Any:
        return super().runs(_known(pool), kind, cursor)

    def cancel(self, pool: str, run_id: str) -> Any:
        return super().cancel(_known(pool), run_id)

    def cancel_all(self, pool: str) -> Any:
        self._local.now_ms += 1
        return super().cancel_all(pool)

    def redrive(self, pool: str, run_ids: Sequence[str] | None) -> Any:
        return super().redrive(_known(pool), run_ids)

    def change(self, pool: str, body: dict[str, Any]) -> Any:
        raise NotImplementedError(
            "workpool_local neither pauses nor scales a pool, since one thing happens at a time: "
            "`make up` does"
        )


def _apart(do: Callable[[], Any]) -> None:
    """Do it where no event loop runs: an action may be `async`, and so may the test."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        do()
    else:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(do).result()


def _known(pool: str) -> str:
    """The pool's name. Raises UnknownPool."""
    return pools.pool(pool).name


class _Agenda:
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


class _Killed(BaseException):
    """The process of an attempt ended here."""


class _NoTimer:
    """In place of an attempt's watchdog, which ends the process."""

    daemon = False

    def __init__(self, *_: Any) -> None: ...

    def start(self) -> None: ...

    def cancel(self) -> None: ...


class _Queues:
    """SQS, as far as the pool sends to it: first messages."""

    def __init__(self, deliver: Callable[[str], None]) -> None:
        self._deliver = deliver

    def send_message_batch(self, *, QueueUrl: str, Entries: list[Any]) -> dict[str, Any]:
        for entry in Entries:
            self._deliver(entry["MessageBody"])
        return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}

    def get_queue_attributes(self, *, QueueUrl: str, AttributeNames: list[str]) -> dict[str, Any]:
        return {"Attributes": dict.fromkeys(AttributeNames, "0")}


class _Retriers:
    """Step Functions, running each pool's Retrier: wait for a due, send an attempt with a token,
    and go by its answer."""

    def __init__(self, agenda: _Agenda, deliver: Callable[[str], None]) -> None:
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


class _Bus:
    """EventBridge, with the rule of completions."""

    def __init__(self, announced: Callable[[str], None]) -> None:
        self._announced = announced

    def put_events(self, *, Entries: list[Any]) -> dict[str, Any]:
        for entry in Entries:
            detail = json.loads(entry["Detail"])
            if "onComplete" in detail:
                self._announced(detail["run"])
        return {"Entries": [{} for _ in Entries]}


class _Functions:
    """Lambda: the functions that a test gave answers to, and the sweeper, for cancelAll."""

    def __init__(self, soon: Callable[[Callable[[], Any]], None]) -> None:
        self.answers: dict[str, Callable[[dict[str, Any]], Any]] = {}
        self._soon = soon

    def get_function_configuration(self, *, FunctionName: str) -> dict[str, Any]:
        if FunctionName not in self.answers:
            raise _refusal("ResourceNotFoundException", "GetFunctionConfiguration")
        return {"FunctionName": FunctionName, "Timeout": 0}

    def invoke(self, *, FunctionName: str, Payload: str, **_: Any) -> dict[str, Any]:
        given = json.loads(Payload)
        if FunctionName == f"{STACK}-sweeper":
            pool = pools.pool(given["cancel"])
            self._soon(lambda: control.walk_cancel(pool, in_time=lambda: True))
            return {}
        try:
            text = json.dumps(self.answers[FunctionName](given))
        except Exception as error:
            shape = {"errorMessage": str(error), "errorType": type(error).__name__}
            return {"FunctionError": "Unhandled", "Payload": _payload(json.dumps(shape))}
        return {"Payload": _payload(text)}


def tables(*, runs: str, stats: str) -> list[dict[str, Any]]:
    """What `create_table` needs for the two tables of a stack."""
    pay = {"BillingMode": "PAY_PER_REQUEST"}
    return [
        {
            "TableName": runs,
            "KeySchema": [{"AttributeName": "run", "KeyType": "HASH"}],
            "AttributeDefinitions": [
                {"AttributeName": name, "AttributeType": kind}
                for name, kind in (("run", "S"), ("open", "S"), ("enqueuedAt", "N"))
            ],
            "GlobalSecondaryIndexes": [
                {
                    "IndexName": "open",
                    "KeySchema": [
                        {"AttributeName": "open", "KeyType": "HASH"},
                        {"AttributeName": "enqueuedAt", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            ],
            "StreamSpecification": {
                "StreamEnabled": True,
                "StreamViewType": "NEW_AND_OLD_IMAGES",
            },
            **pay,
        },
        {
            "TableName": stats,
            "KeySchema": [
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            "AttributeDefinitions": [
                {"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")
            ],
            **pay,
        },
    ]


def forget(stack: str) -> None:
    """Forget what this process knows of a deployment: its environment, its names, its loggers."""
    for cached in (
        environment,
        pools.pools,
        lookup._decorated,
        lambda_actions._timeout_ms,
        logs.logger,
        logs._user_logger,
        logs._always_logger,
    ):
        cached.cache_clear()
    for name in (stack, f"{stack}-user", f"{stack}-stats"):
        # Powertools keeps a logger's first handler and its standard output.
        logging.Logger.manager.loggerDict.pop(name, None)


def _run(image: Item | None) -> Run | None:
    return Run.from_item(image) if image else None


def _fetched(url: str) -> Any:
    """A large return value, of which moto serves no URL."""
    name = unquote(urlsplit(url).path).removeprefix(f"/{BUCKET}").lstrip("/")
    return json.loads(payloads.read(None, name) or "null")


def _payload(text: str) -> io.BytesIO:
    return io.BytesIO(text.encode())


def _refusal(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "as AWS does"}}, operation)


def _environment(region: str) -> dict[str, str]:
    queues = f"https://sqs.{region}.amazonaws.com/{DEFAULT_ACCOUNT_ID}"
    return {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "WORKPOOL_STACK": STACK,
        "WORKPOOL_RUNS_TABLE": f"{STACK}-runs",
        "WORKPOOL_STATS_TABLE": f"{STACK}-stats",
        "WORKPOOL_PAYLOADS_BUCKET": BUCKET,
        "WORKPOOL_EVENT_BUS": f"{STACK}-events",
        "WORKPOOL_WORK_QUEUE": f"{queues}/{{pool}}-work",
        "WORKPOOL_DEAD_LETTER_QUEUE": f"{queues}/{{pool}}-dead-letters",
        "WORKPOOL_PARKED_QUEUE": f"{queues}/{{pool}}-parked",
        "WORKPOOL_SHARED_PARKED_QUEUE": f"{queues}/parked",
        "WORKPOOL_RELAY_RETRY_QUEUE": f"{queues}/relay-retry",
        "WORKPOOL_RETRIER": f"arn:aws:states:{region}:{DEFAULT_ACCOUNT_ID}:stateMachine:{{pool}}",
        "WORKPOOL_CONSUMER": f"{STACK}-{{pool}}-consumer",
        "IDEMPOTENT_WORKPOOL_LOG_LEVEL": "INFO",
    }
