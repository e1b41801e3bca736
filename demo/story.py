"""The demo's story: submit the orders, cancel one, kill a process, and wait for the end.

It uses the workpool as any application does: with the Python client, its own tables, an action and
a completion handler. Only the counts for the view are read from the runs table. run.py calls it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.request import urlopen

import boto3
from botocore.exceptions import ClientError

from demo.checks import Evidence
from demo.orders import ACCOUNT, ACCOUNTS_TABLE, ORDERS_TABLE, Order
from local.deploy import Deployment
from workpool import IdempotentWorkpool, RunStatus

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

POOL = "default"
SUBMITTERS = 8


@dataclass(frozen=True)
class ProviderProcess:
    """The payment provider, running."""

    process: subprocess.Popen[str]
    charges_port: int
    ledger_port: int

    def begin_outage(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("begin\n")
        self.process.stdin.flush()

    def read_ledger(self) -> dict[str, Any]:
        """Its charges, its counts and its mood."""
        with urlopen(f"http://127.0.0.1:{self.ledger_port}/", timeout=5) as answer:
            return dict(json.load(answer))


@contextmanager
def provider(*, hold: str) -> Iterator[ProviderProcess]:
    """Run the provider in a process of its own. It holds the first request of the order `hold`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "demo.provider", hold],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        ports = json.loads(process.stdout.readline())
        yield ProviderProcess(process, ports["charges"], ports["ledger"])
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


@dataclass
class Story:
    """One run of the story, against a deployed stack."""

    deployment: Deployment
    provider: ProviderProcess
    orders: list[Order]
    max_parallelism: int
    run_ids: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What happened, in order, one line each."""
    _over: bool = False

    @cached_property
    def _pool(self) -> IdempotentWorkpool:
        return IdempotentWorkpool(POOL)

    @cached_property
    def _dynamodb(self) -> "DynamoDBClient":
        return boto3.client("dynamodb")

    def prepare(self) -> None:
        """Point this process at the stack, and create the demo's own tables."""
        os.environ |= self.deployment.environment()
        for table, key in ((ORDERS_TABLE, "orderId"), (ACCOUNTS_TABLE, "account")):
            self._dynamodb.create_table(
                TableName=table,
                KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )

    def submit(self) -> None:
        """Submit every order, then cancel the one whose fate that is."""
        first, *rest = self.orders
        self._submit(first)
        with ThreadPoolExecutor(SUBMITTERS) as submitters:
            list(submitters.map(self._submit, rest))
        self.notes.append(
            f"{len(self.orders)} orders submitted to a pool of {self.max_parallelism}"
        )
        for order in self.orders:
            if order.fate == "canceled":
                status = self._pool.cancel(self.run_ids[order.id])
                self.notes.append(f"{order.id} canceled while it waited: it is {status.kind}")

    @contextmanager
    def no_submits_afterwards(self) -> Iterator[None]:
        """Submit no more orders when the story has ended or was interrupted."""
        try:
            yield
        finally:
            self._over = True

    def _submit(self, order: Order) -> None:
        if self._over:
            return None
        options: dict[str, Any] = {
            "on_complete": "payments.settled",
            "context": order.context(),
            "max_retries": 8,
            "annotation": order.id,
        }
        if order.fate in ("transaction", "torn"):
            return self._save_with_run(order, options)
        if order.fate == "canceled":
            options["run_after_ms"] = 3_600_000
        self._save(order)
        self.run_ids[order.id] = self._pool.run("payments.charge", order.args(), **options)
        return None

    def _save(self, order: Order) -> None:
        self._dynamodb.put_item(TableName=ORDERS_TABLE, Item=_row(order))

    def _save_with_run(self, order: Order, options: dict[str, Any]) -> None:
        """Write the order's row and its run in one transaction: both or neither."""
        run_id, entry = self._pool.transact_item("payments.charge", order.args(), **options)
        row: dict[str, Any] = {"TableName": ORDERS_TABLE, "Item": _row(order)}
        if order.fate == "torn":
            row["ConditionExpression"] = "attribute_exists(orderId)"
        items: list[Any] = [{"Put": row}, entry]
        self.run_ids[order.id] = run_id
        try:
            self._dynamodb.transact_write_items(TransactItems=items)
        except ClientError as error:
            if order.fate != "torn":
                raise
            code = error.response["Error"]["Code"]
            self.notes.append(f"{order.id}: its transaction failed ({code}), so it has no run")

    def kill_when_held(self) -> bool:
        """Kill the process whose request the provider holds. False: there is none yet."""
        for order_id, port in self.provider.read_ledger()["held"].items():
            pid = self.deployment.emulator.find_process(local_port=port)
            if pid is None:
                return False
            os.kill(pid, signal.SIGKILL)
            self.notes.append(
                f"{order_id}: charged, and its process {pid} was killed before it got the answer; "
                f"the loss is noticed in {self._read_visibility_timeout()} s"
            )
            return True
        return False

    def _read_visibility_timeout(self) -> int:
        name: Final = "VisibilityTimeout"
        url = self.deployment.outputs[f"{POOL.capitalize()}QueueUrl"]
        answer = boto3.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=[name])
        return int(answer["Attributes"][name])

    def read_counts(self) -> "Counts":
        """Read what the view shows from the runs table: a hundred requests would load the pool."""
        kinds: Counter[str] = Counter()
        retries = waiting = 0
        for page in self._dynamodb.get_paginator("scan").paginate(
            TableName=self.deployment.outputs["RunsTableName"],
            ProjectionExpression="#kind, retries, completion",
            ExpressionAttributeNames={"#kind": "kind"},
        ):
            for item in page["Items"]:
                kinds[item["kind"]["S"]] += 1
                retries += int(item.get("retries", {}).get("N", 0))
                waiting += item.get("completion", {}).get("S") == "pending"
        return Counts(kinds=kinds, retries=retries, completions_pending=waiting)

    def read_evidence(self) -> Evidence:
        """Everything that the claims are checked against."""
        rows = {
            item["orderId"]["S"]: {name: next(iter(value.values())) for name, value in item.items()}
            for item in self._dynamodb.scan(TableName=ORDERS_TABLE)["Items"]
        }
        account = self._dynamodb.get_item(TableName=ACCOUNTS_TABLE, Key={"account": {"S": ACCOUNT}})
        return Evidence(
            orders=self.orders,
            runs={order.id: self._read_status(order) for order in self.orders},
            rows=rows,
            balance=int(account.get("Item", {}).get("balance", {}).get("N", 0)),
            ledger=self.provider.read_ledger(),
            max_parallelism=self.max_parallelism,
        )

    def _read_status(self, order: Order) -> RunStatus:
        return self._pool.status(self.run_ids[order.id])


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The runs at one moment."""

    kinds: Counter[str]
    retries: int
    completions_pending: int

    @property
    def tried(self) -> bool:
        """Whether any action has started."""
        return any(self.kinds[kind] for kind in ("running", "completed")) or self.retries > 0

    @property
    def over(self) -> bool:
        """Whether every run has ended and every completion is done."""
        open_kinds = ("enqueued", "scheduled", "running")
        return not any(self.kinds[kind] for kind in open_kinds) and not self.completions_pending


def play(story: Story, *, show: Callable[[Counts, dict[str, Any]], None], limit_s: float) -> None:
    """Play the story to its end, and show it meanwhile. Raises TimeoutError after `limit_s`."""
    with ThreadPoolExecutor(1) as beside, story.no_submits_afterwards():
        submitted = beside.submit(story.submit)
        begun = killed = False
        give_up = time.monotonic() + limit_s
        while True:
            killed = killed or story.kill_when_held()
            counts = story.read_counts()
            show(counts, story.provider.read_ledger())
            if counts.tried and not begun:  # The outage must not pass during the cold start.
                begun = True
                story.provider.begin_outage()
            if submitted.done():
                submitted.result()
                if killed and counts.over:
                    return
            if time.monotonic() > give_up:
                raise TimeoutError(f"not over after {limit_s:.0f} s: {dict(counts.kinds)}")
            time.sleep(0.2)


def _row(order: Order) -> dict[str, Any]:
    return {"orderId": {"S": order.id}, "amount": {"N": str(order.amount)}}
