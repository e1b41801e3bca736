"""Wait, after the load and the faults, until nothing is left to do.

It changes nothing but invokes the sweeper, which the schedule would do much later.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chaos.plan import POOLS
from chaos.stage import STACK, Stage
from chaos.watch import AWS_DOWN

if TYPE_CHECKING:
    from types_boto3_sqs.literals import QueueAttributeNameType

SWEEP_EVERY_S = 5.0
COUNTS: "dict[QueueAttributeNameType, str]" = {
    "ApproximateNumberOfMessages": "waiting",
    "ApproximateNumberOfMessagesNotVisible": "in flight",
    "ApproximateNumberOfMessagesDelayed": "delayed",
}


@dataclass(frozen=True, kw_only=True)
class Left:
    """What is left to do."""

    messages: dict[str, dict[str, int]]
    """By queue that is not empty: how many messages wait, are in flight, or are delayed."""
    open: list[str]
    """The keys in the index of open runs."""
    parked: list[str]
    """Those of them whose completion is parked: they may stay there."""
    running: dict[str, list[str]]
    """By pool: the names of its RUNNING executions."""

    @property
    def nothing(self) -> bool:
        return not (self.messages or self.running or set(self.open) - set(self.parked))

    def line(self) -> str:
        """A summary in one line."""
        if self.nothing:
            return f"at rest, {len(self.parked)} parked"
        messages = sum(sum(counts.values()) for counts in self.messages.values())
        executions = sum(map(len, self.running.values()))
        runs = len(set(self.open) - set(self.parked))
        return f"{runs} open runs, {messages} messages, {executions} executions left"


def read_left(stage: Stage) -> Left:
    """Read what is left to do now."""
    return Left(
        messages=_count_messages(stage),
        open=(keys := _list_open(stage)),
        parked=[key for key in keys if _is_parked(stage, key)],
        running={pool: names for pool in POOLS if (names := _list_running(stage, pool))},
    )


def come_to_rest(
    stage: Stage,
    *,
    limit_s: float,
    show: Callable[[Left, int], None],
) -> tuple[Left, int, float]:
    """Wait until nothing is left or nothing has changed for `limit_s`, and sweep now and then.

    Return what is left, how many hints the sweeper repeated, and how many seconds it took.
    """
    begin = moved = time.monotonic()
    next_sweep, repeated, quiet, before = 0.0, 0, 0, ""
    while True:
        try:
            if time.monotonic() >= next_sweep:
                answer = stage.invoke(f"{STACK}-sweeper", {"overdueSeconds": 1})
                repeated += sum(answer.values())
                next_sweep = time.monotonic() + SWEEP_EVERY_S
            left = read_left(stage)
        except (*AWS_DOWN, RuntimeError):
            if time.monotonic() - begin > limit_s:
                raise
            time.sleep(1)
            continue
        show(left, repeated)
        quiet = quiet + 1 if left.nothing else 0
        if left.line() != before:
            before, moved = left.line(), time.monotonic()
        took = time.monotonic() - begin
        if quiet >= 3 or time.monotonic() - moved > limit_s:
            return left, repeated, took
        time.sleep(1)


def _count_messages(stage: Stage) -> dict[str, dict[str, int]]:
    found = {}
    for queue in stage.list_queues():
        answer = stage.client("sqs").get_queue_attributes(
            QueueUrl=stage.url_of(queue), AttributeNames=list(COUNTS)
        )["Attributes"]
        counts = {word: int(answer[name]) for name, word in COUNTS.items() if int(answer[name])}
        if counts:
            found[queue] = counts
    return found


def _list_open(stage: Stage) -> list[str]:
    pages = stage.client("dynamodb").get_paginator("scan")
    found = pages.paginate(TableName=stage.runs_table, IndexName="open")
    return [item["run"]["S"] for page in found for item in page["Items"]]


def _is_parked(stage: Stage, key: str) -> bool:
    item: dict[str, Any] | None = stage.read_item(key)
    return item is not None and item.get("completion") == "parked"


def _list_running(stage: Stage, pool: str) -> list[str]:
    pages = stage.client("stepfunctions").get_paginator("list_executions")
    found = pages.paginate(stateMachineArn=stage.retrier(pool), statusFilter="RUNNING")
    return [execution["name"] for page in found for execution in page["executions"]]
