"""The walks and lists over the index of open runs, many runs at once, and where the walks stopped.

Reads the runs table; writes only its own cursors, which are rows of the stats table. Decides
nothing about a run.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workpool.aws import clients
from workpool.aws.environment import environment
from workpool.core import clock
from workpool.core.run import Item, Run, decode, encode, open_partitions
from workpool.errors import UnknownShape

if TYPE_CHECKING:
    from types_boto3_dynamodb.type_defs import ScanInputTypeDef


def open_page(cursor: Item | None, *, limit: int) -> tuple[list[str], Item | None]:
    """Keys of runs in the open index from a cursor on, and the next cursor; None at the end."""
    scan: ScanInputTypeDef = {
        "TableName": environment().runs_table,
        "IndexName": "open",
        "Limit": limit,
    }
    if cursor:
        scan["ExclusiveStartKey"] = cursor
    answer = clients.client("dynamodb").scan(**scan)
    return [item["run"]["S"] for item in answer["Items"]], answer.get("LastEvaluatedKey")


OpenKey = tuple[int, str]
"""Of the open index: enqueuedAt, run id. Their order is the index's."""


def open_keys(
    pool: str, *, parked: bool = False, after: OpenKey = (0, ""), limit: int
) -> list[OpenKey]:
    """The oldest open (or parked) runs of a pool behind that one, oldest first; fewer than
    `limit`: there are no more."""
    found: list[OpenKey] = []
    for partition in open_partitions(pool, parked=parked):
        found += _open_keys(partition, after, limit)
    return sorted(found)[:limit]


def _open_keys(partition: str, after: OpenKey, limit: int) -> list[OpenKey]:
    """At least the partition's first `limit` behind that key, or all. Within one millisecond the
    index has an order of its own, so that one is read to its end."""
    pages = (
        clients.client("dynamodb")
        .get_paginator("query")
        .paginate(
            TableName=environment().runs_table,
            IndexName="open",
            KeyConditionExpression="#open = :open AND enqueuedAt >= :since",
            ExpressionAttributeNames={"#open": "open"},
            ExpressionAttributeValues={":open": encode(partition), ":since": encode(after[0])},
            PaginationConfig={"PageSize": limit + 1},
        )
    )
    found: list[OpenKey] = []
    for page in pages:
        keys = [
            (int(item["enqueuedAt"]["N"]), item["run"]["S"].partition("#")[2])
            for item in page["Items"]
        ]
        found += [key for key in keys if key > after]
        if len(found) > limit and found[-1][0] > found[limit - 1][0]:
            break
    return found


def read_many(keys: Sequence[str]) -> list[Run | UnknownShape]:
    """Up to 100 runs, read consistently, in no order; those that are gone are left out."""
    table = environment().runs_table
    found: list[Run | UnknownShape] = []
    left: list[Item] = [{"run": {"S": key}} for key in keys]
    while left:
        answer = clients.client("dynamodb").batch_get_item(
            RequestItems={table: {"Keys": left, "ConsistentRead": True}}
        )
        for item in answer["Responses"].get(table, []):
            try:
                found.append(Run.from_item(item))
            except UnknownShape as unreadable:
                found.append(unreadable)
        unprocessed = answer.get("UnprocessedKeys", {})
        left = unprocessed[table]["Keys"] if table in unprocessed else []
    return found


def read_runs(keys: Sequence[str]) -> list[Run]:
    """Up to 100 runs, read consistently, in no order; unknown ones are left out."""
    now = clock.now_ms()
    found = read_many(keys) if keys else []
    return [run for run in found if isinstance(run, Run) and not run.expired(now)]


def orphans_cursor() -> tuple[str, int]:
    """Where the walk through the bucket goes on, "" at its beginning, and when the next begins."""
    answer = clients.client("dynamodb").get_item(
        TableName=environment().stats_table, Key=_ORPHANS, ConsistentRead=True
    )
    row: Item = answer.get("Item", {})
    return decode(row.get("after", {"S": ""})), decode(row.get("beginsAt", {"N": "0"}))


def save_orphans_cursor(after: str, *, begins_at: int) -> None:
    """Where the walk goes on, and when the next begins, in epoch milliseconds."""
    row = {**_ORPHANS, "after": encode(after), "beginsAt": encode(begins_at)}
    clients.client("dynamodb").put_item(TableName=environment().stats_table, Item=row)


def sweeper_cursor() -> Item | None:
    """Where the last sweep stopped; None: at the end."""
    answer = clients.client("dynamodb").get_item(
        TableName=environment().stats_table, Key=_SWEEPER, ConsistentRead=True
    )
    row: Item = answer.get("Item", {})
    cursor: Item = row.get("cursor", {}).get("M", {})
    return cursor or None


def save_sweeper_cursor(cursor: Item | None) -> None:
    """Where the next sweep goes on."""
    clients.client("dynamodb").put_item(
        TableName=environment().stats_table, Item={**_SWEEPER, "cursor": {"M": cursor or {}}}
    )


_SWEEPER: Item = {"pk": {"S": "sweeper"}, "sk": {"S": "cursor"}}
_ORPHANS: Item = {"pk": {"S": "orphans"}, "sk": {"S": "cursor"}}
