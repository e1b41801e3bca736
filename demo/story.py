"""The demo's story: submit, cancel, kill, wait; and what there is to see meanwhile.

It is an ordinary user of the workpool: the Python client, its own tables, the examples that ship
in `functions/`. Only the view's counts are read from the runs table directly.
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
from typing import Any, Final
from urllib.request import urlopen

import boto3
from botocore.exceptions import ClientError

from demo.checks import Evidence
from demo.orders import ACCOUNT, Order
from local.deploy import Deployment
from local.tables import ACCOUNTS, ORDERS, create_examples
from workpool import IdempotentWorkpool, RunStatus

POOL = "default"
SUBMITTERS = 8


@dataclass(frozen=True)
class ProviderProcess:
    """The payment provider, running."""

    process: subprocess.Popen[str]
    charges_port: int
    seen_port: int

    def begin(self) -> None:
        """Begin its outage."""
        assert self.process.stdin is not None
        self.process.stdin.write("begin\n")
        self.process.stdin.flush()

    def seen(self) -> dict[str, Any]:
        """Its ledger and its counts."""
        with urlopen(f"http://127.0.0.1:{self.seen_port}/", timeout=5) as answer:
            return dict(json.load(answer))


@contextmanager
def provider(*, hold: str) -> Iterator[ProviderProcess]:
    """The provider in a process of its own, ended at the end."""
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
        yield ProviderProcess(process, ports["charges"], ports["seen"])
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


@dataclass
class Story:
    """One telling of it, against a deployed stack."""

    deployment: Deployment
    provider: ProviderProcess
    orders: list[Order]
    max_parallelism: int
    run_ids: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What happened, a line each, in order."""
    _over: bool = False

    @cached_property
    def _pool(self) -> IdempotentWorkpool:
        return IdempotentWorkpool(POOL)

    @cached_property
    def _dynamodb(self) -> Any:
        return boto3.client("dynamodb")

    def prepare(self) -> None:
        """Make the demo's own tables, and this process a user of the stack."""
        os.environ |= self.deployment.environment()
        create_examples(self._dynamodb)

    def submit(self) -> None:
        """Submit every order, and cancel the one to be canceled."""
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
    def given_up_at_the_end(self) -> Iterator[None]:
        """Orders that are not submitted when the story ends, or is interrupted, never are."""
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
        self._dynamodb.put_item(TableName=ORDERS, Item=_row(order))

    def _save_with_run(self, order: Order, options: dict[str, Any]) -> None:
        """The order's row and its run, both or neither."""
        run_id, entry = self._pool.transact_item("payments.charge", order.args(), **options)
        row: dict[str, Any] = {"TableName": ORDERS, "Item": _row(order)}
        if order.fate == "torn":
            row["ConditionExpression"] = "attribute_exists(orderId)"
        self.run_ids[order.id] = run_id
        try:
            self._dynamodb.transact_write_items(TransactItems=[{"Put": row}, entry])
        except ClientError as error:
            if order.fate != "torn":
                raise
            code = error.response["Error"]["Code"]
            self.notes.append(f"{order.id}: its transaction failed ({code}), so did its run")

    def kill_when_held(self) -> bool:
        """Kill the process of the order that the provider holds, once there is one."""
        for order_id, port in self.provider.seen()["held"].items():
            pid = self.deployment.emulator.connected_from(port)
            if pid is None:
                return False
            os.kill(pid, signal.SIGKILL)
            self.notes.append(
                f"{order_id}: charged, and its process {pid} killed before it knew; "
                f"its loss is noticed in {self._visibility_timeout()} s"
            )
            return True
        return False

    def _visibility_timeout(self) -> int:
        name: Final = "VisibilityTimeout"
        url = self.deployment.outputs[f"{POOL.capitalize()}QueueUrl"]
        answer = boto3.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=[name])
        return int(answer["Attributes"][name])

    def counts(self) -> "Counts":
        """What the view shows: read from the runs table, since a hundred requests would not be
        the pool's load but the demo's."""
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

    def evidence(self) -> Evidence:
        """Everything to judge by."""
        rows = {
            item["orderId"]["S"]: {name: next(iter(it.values())) for name, it in item.items()}
            for item in self._dynamodb.scan(TableName=ORDERS)["Items"]
        }
        account = self._dynamodb.get_item(TableName=ACCOUNTS, Key={"account": {"S": ACCOUNT}})
        return Evidence(
            orders=self.orders,
            runs={order.id: self._status(order) for order in self.orders},
            rows=rows,
            balance=int(account.get("Item", {}).get("balance", {}).get("N", 0)),
            seen=self.provider.seen(),
            max_parallelism=self.max_parallelism,
        )

    def _status(self, order: Order) -> RunStatus:
        return self._pool.status(self.run_ids[order.id])


@dataclass(frozen=True, kw_only=True)
class Counts:
    """The runs at one moment."""

    kinds: Counter[str]
    retries: int
    completions_pending: int

    @property
    def tried(self) -> bool:
        """Whether an action has begun."""
        return any(self.kinds[kind] for kind in ("running", "completed")) or self.retries > 0

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        open_kinds = ("enqueued", "scheduled", "running")
        return not any(self.kinds[kind] for kind in open_kinds) and not self.completions_pending


def tell(story: Story, *, show: Callable[[Counts, dict[str, Any]], None], limit_s: float) -> None:
    """Tell the story to its end, showing it meanwhile. Raises TimeoutError after `limit_s`."""
    with ThreadPoolExecutor(1) as beside, story.given_up_at_the_end():
        submitted = beside.submit(story.submit)
        begun = killed = False
        give_up = time.monotonic() + limit_s
        while True:
            killed = killed or story.kill_when_held()
            counts = story.counts()
            show(counts, story.provider.seen())
            if counts.tried and not begun:  # The outage is for actions, not for cold starts.
                begun = True
                story.provider.begin()
            if submitted.done():
                submitted.result()
                if killed and counts.over:
                    return
            if time.monotonic() > give_up:
                raise TimeoutError(f"not over after {limit_s:.0f} s: {dict(counts.kinds)}")
            time.sleep(0.2)


def _row(order: Order) -> dict[str, Any]:
    return {"orderId": {"S": order.id}, "amount": {"N": str(order.amount)}}
