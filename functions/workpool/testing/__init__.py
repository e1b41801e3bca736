"""A pytest plugin for a team's own tests: it runs actions and completion handlers in process.

The test moves the clock. It needs pytest and moto, but no emulator and no AWS account.

    # conftest.py
    pytest_plugins = ["workpool.testing"]

    # test_invoices.py
    def test_a_mail_that_bounces_is_sent_again(workpool_local):
        pool = IdempotentWorkpool()
        run_id = pool.run("invoices.send", {"to": "ada@example.org"}, on_complete="invoices.sent")
        workpool_local.settle()
        assert pool.status(run_id).succeeded

The verbs are the same as in a deployment, on moto's DynamoDB and S3. SQS, Step Functions and
EventBridge are in memory, on the test's clock. Only one thing happens at a time. So these tests
cannot show that at most maxParallelism actions run in parallel, that AWS permits what an action
does, or how long an action may take: `make up` can.
"""

import asyncio
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote, urlsplit

import boto3
import pytest
from moto import mock_aws
from moto.dynamodb.models import dynamodb_backends

from workpool import client, lookup
from workpool._in_process import InProcess
from workpool.aws import clients, counters, logs, payloads, pools
from workpool.core import clock, message, raised
from workpool.core.changes import Change
from workpool.core.run import Item, Payload, Run
from workpool.testing.cloud import Agenda, Bus, Functions, Queues, Retriers
from workpool.testing.stack import BUCKET, DEFAULTS, STACK, account, environment, forget, tables
from workpool.verbs import attempt, cancel, complete, relay, user_code, watchdog

REGION = "us-east-1"
"""The region, unless the test's environment sets AWS_DEFAULT_REGION."""

MARGIN_MS = 10_000
"""How much longer a consumer function may run than its pool's actionTimeoutSeconds."""

HIDDEN_SECONDS = 30
"""How long a message of a killed attempt stays hidden after its function's deadline."""

HANDLER_MS = 80_000
"""How long the completion function may run."""

FOR_PYTEST = (
    KeyboardInterrupt,
    pytest.fail.Exception,
    pytest.skip.Exception,
    pytest.exit.Exception,
)
"""What user code may raise that is meant for pytest and must end the test."""

MAX_STEPS = 10_000
"""After this many steps `settle` and `tick` raise: runs that submit runs may never end."""


@pytest.fixture
def workpool_pools() -> dict[str, dict[str, Any]]:
    """The configuration of the pools, from `cdk.json`. Override this fixture to use others."""
    path = lookup.ROOT.parent / "cdk.json"
    configured: dict[str, Any] = json.loads(path.read_text())["context"]["pools"]
    return configured


@pytest.fixture
def workpool_local(
    tmp_path: Path, workpool_pools: dict[str, dict[str, Any]]
) -> Iterator["WorkpoolLocal"]:
    """The pools of `workpool_pools` in this process. Every `IdempotentWorkpool` uses them. Every
    boto3 client uses moto, where the test can create tables for its actions."""
    deployed = {name: DEFAULTS | settings for name, settings in workpool_pools.items()}
    pools_file = tmp_path / "pools.json"
    pools_file.write_text(json.dumps(deployed))
    with pytest.MonkeyPatch.context() as patched, _packages_of_project(patched), mock_aws():
        patched.delenv("AWS_PROFILE", raising=False)
        for name, value in environment(os.environ.get("AWS_DEFAULT_REGION", REGION)).items():
            patched.setenv(name, value)
        patched.setattr(pools, "POOLS_FILE", pools_file)
        forget(STACK)
        dynamodb, bucket = boto3.client("dynamodb"), boto3.resource("s3").Bucket(BUCKET)
        region = dynamodb.meta.region_name
        location: dict[str, Any] = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        bucket.create(**({} if region == REGION else location))
        table_names = [
            dynamodb.create_table(**table)["TableDescription"]["TableName"]
            for table in tables(runs=f"{STACK}-runs", stats=f"{STACK}-stats")
        ]
        environments = {
            name: settings.get("environment", {}) for name, settings in workpool_pools.items()
        }
        yield WorkpoolLocal(patched, environments)
        # If the test itself uses `mock_aws`, moto keeps tables and bucket: delete them.
        for name in table_names:
            dynamodb.delete_table(TableName=name)
        bucket.objects.delete()
        bucket.delete()
    forget(STACK)


@contextmanager
def _packages_of_project(patched: pytest.MonkeyPatch) -> Iterator[None]:
    """Let `actions` and `completions` be the project's, although other packages of these names may
    have been imported. Those come back in the end."""
    patched.syspath_prepend(str(lookup.ROOT))
    replaced = set()
    for package in lookup.PACKAGES.values():
        folders = getattr(sys.modules.get(package), "__path__", ())
        if package in sys.modules and str(lookup.ROOT / package) not in folders:
            replaced.add(package)
            for name in _modules_of({package}):
                patched.delitem(sys.modules, name)
    yield
    for name in _modules_of(replaced):
        del sys.modules[name]


def _modules_of(packages: set[str]) -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in packages]


class WorkpoolLocal:
    """The pools of a test, and their clock. Nothing happens by itself: things happen only while
    `settle`, `tick` or a client's `wait` moves the clock. While an action runs, the clock does not
    move."""

    def __init__(
        self, patched: pytest.MonkeyPatch, environments: dict[str, dict[str, str]]
    ) -> None:
        self.now_ms = time.time_ns() // 1_000_000
        """The time, in epoch milliseconds."""
        self._environments = environments
        self._agenda = Agenda()
        self._numbers = count(1)
        self._uncounted: list[Change] = []
        self._original_error_text = user_code.error_text
        self._attempts_to_kill = 0
        self._raised: BaseException | None = None
        self._running: Counter[str] = Counter()
        """By pool: how many of its actions run. More than one thing happens at a time only while
        an action moves the clock, since it waits for another run."""
        self._without_slot: list[message.Message] = []
        self._functions = Functions(self._schedule_cancel_all)
        in_memory = {
            "sqs": Queues(self._schedule_attempt),
            "stepfunctions": Retriers(self._agenda, self._schedule_attempt),
            "events": Bus(lambda key: self._schedule(partial(self._complete, key))),
            "lambda": self._functions,
        }
        on_moto = cache(boto3.Session().client)  # The default session is for user code.

        def client_of(service: str) -> Any:
            return in_memory.get(service) or on_moto(service)

        for module, name, replacement in (
            (clients, "client", client_of),
            (clients, "without_retries", lambda service, _: client_of(service)),
            (clock, "now_ms", lambda: self.now_ms),
            (clock, "monotonic", lambda: self.now_ms / 1000),
            (clock, "sleep", self.tick),
            (watchdog, "guard", self._guard),
            (user_code, "error_text", self._error_text),
            (logs, "user_logger", _seen_by_caplog(logs.user_logger)),
            (client, "transport", lambda _: Transport(self)),
        ):
            patched.setattr(module, name, replacement)

    def settle(self) -> None:
        """Let everything happen that is still to happen, however late. The clock moves from one
        thing to the next until nothing is left; runs whose retention ends meanwhile are forgotten.
        Raises RuntimeError if there is no end, as with actions that submit themselves again: use
        `tick` for those."""
        self._advance(None)

    def tick(self, seconds: float) -> None:
        """Let this much time pass, with everything that happens in it. Raises what `settle`
        raises."""
        until = self.now_ms + round(seconds * 1000)
        self._advance(until)
        self.now_ms = max(self.now_ms, until)

    def kill(self, attempts: int = 1) -> None:
        """Kill the process of each of the next attempts after its action has run and before its
        outcome is written. The action will be called again, with the same idempotency key."""
        self._attempts_to_kill += attempts

    def function(self, name: str, answer: Callable[[dict[str, Any]], Any]) -> None:
        """Say what `lambda:<name>` does: `answer` gets the event and returns the function's answer.
        What `answer` raises becomes the function's error."""
        self._functions.answers[name] = answer

    # Time and what happens in it

    def _advance(self, until: int | None) -> None:
        for _ in range(MAX_STEPS):
            self._relay_changes()
            at_ms = self._agenda.next_at()
            if at_ms is None and self._without_slot:
                self._raised = _Deadlock(self._without_slot)
                raise self._raised
            if at_ms is None or (until is not None and at_ms > until):
                self._count_changes()
                return
            at_ms, task = self._agenda.pop()
            self.now_ms = max(self.now_ms, at_ms)
            _call_outside_event_loop(task)
            if self._raised is not None:
                error = self._raised
                if not self._running.total():  # Else an action would catch it: raise it again.
                    self._raised = None
                raise error
        raise RuntimeError(f"after {MAX_STEPS} steps there is still something to do")

    def _schedule(self, task: Callable[[], Any], seconds: float = 0) -> None:
        self._agenda.add(self.now_ms + round(seconds * 1000), task)

    def _relay_changes(self) -> None:
        """Relay what is in the runs table's stream. Reads it from moto's memory, not by the API:
        when moto undoes a refused transaction, it replaces the table by a copy, whose stream is
        another."""
        region = dynamodb_backends[account()][os.environ["AWS_DEFAULT_REGION"]]
        shard = region.tables[f"{STACK}-runs"].stream_shard
        assert shard is not None
        records, shard.items = [item.to_json()["dynamodb"] for item in shard.items], []
        changes = [
            Change(
                old=_run(record.get("OldImage")),
                new=_run(record.get("NewImage")),
                sequence=str(next(self._numbers)),
                at_ms=self.now_ms,
            )
            for record in records
        ]
        if changes:
            relay.relay(changes)
            self._uncounted += changes

    def _count_changes(self) -> None:
        if self._uncounted:
            counters.count(self._uncounted, shard="local")
            self._uncounted = []

    def _schedule_cancel_all(self, pool: str) -> None:
        self._schedule(lambda: cancel.carry_out_cancel_all(pools.pool(pool), in_time=lambda: True))

    def _guard(self, work: Callable[[], Any], **_: Any) -> Any:
        """Replaces the watchdog, which would end the test's process. Here no action is too slow,
        since the clock does not move while it runs."""
        outcome = work()
        if self._attempts_to_kill:
            self._attempts_to_kill -= 1
            raise _Killed
        return outcome

    def _error_text(self, error: BaseException) -> str:
        """Every error of user code fails the attempt. An error that is meant for pytest also ends
        the test: remember it, and `_advance` raises it."""
        for inner in raised.inner_errors(error):
            if isinstance(inner, FOR_PYTEST):
                self._raised = inner
        return self._original_error_text(error)

    def _schedule_attempt(self, body: str) -> None:
        pool = message.key_of(body).partition("#")[0]
        self._schedule(partial(self._attempt, message.parse(body, pool=pool)))

    def _attempt(self, received: message.Message) -> None:
        pool = pools.pool(received.run.partition("#")[0])
        if self._running[pool.name] >= pool.max_parallelism:
            self._without_slot.append(received)
            return
        deadline_ms = self.now_ms + pool.action_timeout_ms + MARGIN_MS
        self._running[pool.name] += 1
        try:
            with patch.dict(os.environ, self._environments[pool.name]):
                seconds = attempt.attempt(received, remaining_ms=lambda: deadline_ms - self.now_ms)
        except _Killed:
            seconds = (deadline_ms - self.now_ms) / 1000 + HIDDEN_SECONDS
        finally:
            self._running[pool.name] -= 1
            waiting, self._without_slot = self._without_slot, []
            for it in waiting:
                self._schedule(partial(self._attempt, it))
        if seconds is not None:
            self._schedule(partial(self._attempt, received), seconds)

    def _complete(self, key: str) -> None:
        deadline_ms = self.now_ms + HANDLER_MS
        seconds = complete.complete(key, remaining_ms=lambda: deadline_ms - self.now_ms)
        if seconds is not None:
            self._schedule(partial(self._complete, key), seconds)


class Transport(InProcess):
    """How a client reaches the test's pools. Each submit takes a millisecond, so that runs have an
    order in time."""

    def __init__(self, local: WorkpoolLocal) -> None:
        self._local = local

    def submit(self, pool: str, body: dict[str, Any]) -> Any:
        self._local.now_ms += 1
        return super().submit(pool, body)

    def submit_many(self, pool: str, bodies: Sequence[Any]) -> Any:
        self._local.now_ms += 1
        return super().submit_many(pool, bodies)

    def cancel_all(self, pool: str, before: int | None) -> Any:
        self._local.now_ms += 1
        return super().cancel_all(pool, before)

    def change(self, pool: str, body: dict[str, Any]) -> Any:
        raise NotImplementedError(
            "workpool_local cannot pause or scale a pool, since only one thing happens at a time: "
            "use `make up` for that"
        )

    def fetch(self, url: str, deadline: float | None = None) -> Any:
        """Read a large return value from moto's bucket, since moto answers only boto3, not the
        client's own requests."""
        name = unquote(urlsplit(url).path).removeprefix(f"/{BUCKET}").lstrip("/")
        return json.loads(payloads.read(Payload(at=name)) or "null")


def _call_outside_event_loop(task: Callable[[], Any]) -> None:
    """Call the task where no event loop runs. An `async` action needs a loop of its own, and an
    `async` test already runs in one."""
    if asyncio._get_running_loop() is None:
        task()
    else:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(task).result()


def _seen_by_caplog(user_logger: Callable[[Run], Any]) -> Callable[[Run], Any]:
    """Let pytest's `caplog` see the lines of user code."""

    def logger_of(run: Run) -> Any:
        logger = user_logger(run)
        logger._logger.parent = logging.root
        return logger

    return logger_of


class _Deadlock(RuntimeError):
    """An action waits for a run that gets no slot while it waits."""

    def __init__(self, waiting: Sequence[message.Message]) -> None:
        super().__init__(
            f"{waiting[0].run} waits for a slot of its pool, and every slot is held by an action "
            "that waits for another run. Deployed, they would wait until actionTimeoutSeconds is "
            "over. Let the parent end and its completion handler go on, or give the children a "
            "pool of their own"
        )


class _Killed(BaseException):
    """Stands for the end of the process of an attempt."""


def _run(image: Item | None) -> Run | None:
    return Run.from_item(image) if image else None
