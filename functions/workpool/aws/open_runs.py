"""Walk and list the index of open runs, read many runs at once, and keep where the walks stopped.

Reads the runs table. Writes only the cursors of the walks, which are rows of the stats table.
Decides nothing about a run.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workpool.aws import clients
from workpool.aws.environment import environment
from workpool.core import clock
from workpool.core.request import is_run_id
from workpool.core.run import Item, Run, decode, encode, open_partitions
from workpool.errors import UnknownShape, as_unknown_shape

if TYPE_CHECKING:
    from types_boto3_dynamodb.type_defs import ScanInputTypeDef


def scan_open_keys(cursor: Item | None, *, limit: int) -> tuple[list[str], Item | None]:
    """The keys of the next open runs of all pools, and the next cursor. Without a cursor the scan
    begins anew; without a next cursor there are no more runs."""
    scan: ScanInputTypeDef = {
        "TableName": environment().runs_table,
        "IndexName": "open",
        "Limit": limit,
    }
    if cursor:
        scan["ExclusiveStartKey"] = cursor
    answer = clients.client("dynamodb").scan(**scan)
    # An item that moves in the index during the scan can be in it twice; a read takes a key once.
    keys = list(dict.fromkeys(item["run"]["S"] for item in answer["Items"]))
    return keys, answer.get("LastEvaluatedKey")


OpenKey = tuple[int, str]
"""A run in the open index: enqueuedAt and run id. Keys are sorted by both; the index sorts by
enqueuedAt only."""


def list_open_keys(
    pool: str, *, parked: bool = False, after: OpenKey = (0, ""), limit: int
) -> list[OpenKey]:
    """The oldest open (or parked) runs of a pool that come after the key `after`, oldest first. If
    there are fewer than `limit`, these are all."""
    found: list[OpenKey] = []
    for partition in open_partitions(pool, parked=parked):
        found += _list_partition(pool, partition, after, limit)
    return sorted(found)[:limit]


def _list_partition(pool: str, partition: str, after: OpenKey, limit: int) -> list[OpenKey]:
    """At least the first `limit` keys of the partition after the key `after`, or all. Within one
    millisecond the index has an order of its own, so the last millisecond is read to its end.
    Leaves out what no run of this pool can have put there."""
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
        keys = (_open_key(pool, item) for item in page["Items"])
        found += [key for key in keys if key is not None and key > after]
        if len(found) > limit and found[-1][0] > found[limit - 1][0]:
            break
    return found


def _open_key(pool: str, item: Item) -> OpenKey | None:
    try:
        enqueued_at = int(item["enqueuedAt"]["N"])
    except ValueError:
        return None
    owner, _, run_id = item["run"]["S"].partition("#")
    return (enqueued_at, run_id) if owner == pool and is_run_id(run_id) else None


def read_runs_and_errors(keys: Sequence[str]) -> dict[str, Run | UnknownShape]:
    """Up to 100 runs by their keys, read consistently. A run that cannot be read is an
    UnknownShape, an expired run is included, and a run that does not exist is left out."""
    table = environment().runs_table
    found: dict[str, Run | UnknownShape] = {}
    left: list[Item] = [{"run": {"S": key}} for key in keys]
    while left:
        answer = clients.client("dynamodb").batch_get_item(
            RequestItems={table: {"Keys": left, "ConsistentRead": True}}
        )
        for item in answer["Responses"].get(table, []):
            key = item["run"]["S"]
            try:
                found[key] = Run.from_item(item)
            except Exception as error:  # Whatever it is, it is the trouble of this item alone.
                found[key] = as_unknown_shape(error)
        unprocessed = answer.get("UnprocessedKeys", {})
        left = unprocessed[table]["Keys"] if table in unprocessed else []
    return found


def read_runs(keys: Sequence[str]) -> list[Run]:
    """Up to 100 runs, read consistently, in no particular order. Leaves out runs that cannot be
    read, are expired or do not exist."""
    now = clock.now_ms()
    found = read_runs_and_errors(keys) if keys else {}
    return [run for run in found.values() if isinstance(run, Run) and not run.expired(now)]


def read_orphans_cursor() -> tuple[str, int]:
    """The name of the object after which the walk through the bucket goes on, "" for the beginning,
    and when the next walk begins, in epoch milliseconds."""
    answer = clients.client("dynamodb").get_item(
        TableName=environment().stats_table, Key=_ORPHANS, ConsistentRead=True
    )
    row: Item = answer.get("Item", {})
    return decode(row.get("after", {"S": ""})), decode(row.get("beginsAt", {"N": "0"}))


def save_orphans_cursor(after: str, *, begins_at: int) -> None:
    """Keep where the walk goes on, and when the next walk begins, in epoch milliseconds."""
    row = {**_ORPHANS, "after": encode(after), "beginsAt": encode(begins_at)}
    clients.client("dynamodb").put_item(TableName=environment().stats_table, Item=row)


def read_sweeper_cursor() -> Item | None:
    """Where the last sweep stopped. None: it reached the end."""
    answer = clients.client("dynamodb").get_item(
        TableName=environment().stats_table, Key=_SWEEPER, ConsistentRead=True
    )
    row: Item = answer.get("Item", {})
    cursor: Item = row.get("cursor", {}).get("M", {})
    return cursor or None


def save_sweeper_cursor(cursor: Item | None) -> None:
    """Keep where the next sweep goes on."""
    clients.client("dynamodb").put_item(
        TableName=environment().stats_table, Item={**_SWEEPER, "cursor": {"M": cursor or {}}}
    )


_SWEEPER: Item = {"pk": {"S": "sweeper"}, "sk": {"S": "cursor"}}
_ORPHANS: Item = {"pk": {"S": "orphans"}, "sk": {"S": "cursor"}}
