"""The counters of a pool, in the stats table: its pending runs, and what recent runs did.

Only the counters' function counts; it is a reader of the runs table's stream beside the relay, and
no hint waits for it.

| Row | Written | Read |
|---|---|---|
| `pool#<name>`, `pending#<shard>` | per batch of changes | stats: the sum of all rows |
| `pool#<name>`, `pending#sum` | what rows of old shards held; where a recount differs | the same |
| `pool#<name>`, `window#<start>#<shard>` | per batch of changes | stats: those inside the window |
| `pool#<name>`, `drift` | where a recount differs | the sweeper's next recount |

Each shard of the stream has rows of its own, so that no writer meets another. Such a row holds the
place in the shard up to which it has counted. A shard delivers its changes in order, and places
grow. So a change behind that place is new, and any other was counted before, however the stream
cuts its batches when it repeats them. Each row is one conditional update, without a transaction.
"""

import json
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from workpool.aws import clients, logs, pools
from workpool.aws.environment import environment
from workpool.core.changes import Change, deltas
from workpool.core.run import Item

if TYPE_CHECKING:
    from types_boto3_dynamodb.type_defs import DeleteTypeDef, UpdateTypeDef

RETENTION_MS = 2 * 24 * 3600 * 1000
"""After this time no change comes again, since a stream keeps its records for one day. Windows are
then forgotten, and the pending runs of old shards become part of the sum."""

PLACE_DIGITS = 40
"""How long the stream's sequence numbers can be. Rows hold them at this length, so that their order
is that of the numbers. DynamoDB's own numbers have 38 digits."""

WINDOW_ROWS = 60
"""Into how many parts a pool's window is cut. A part is at least one second wide."""

SUM = "pending#sum"

Counted = dict[str, Counter[str]]
"""What is to be added to a row, by the place of the change that adds it."""


def count(changes: Iterable[Change], *, shard: str) -> None:
    """Count changes of one shard of the stream: each change once, however often it comes. Raises an
    AWSError if AWS refuses a row. The other rows are counted, and the stream repeats the batch."""
    rows: dict[tuple[str, str], Counted] = {}
    newest_ms: dict[tuple[str, str], int] = {}
    for change in sorted(changes, key=_place):
        pool = pools.pools().get(change.run.pool)
        if pool is None:  # The pool is no longer deployed.
            continue
        added = deltas(change)
        pending = Counter(pending=added.pop("pending", 0))
        window = f"{_window(change.at_ms, pool)}#{shard}"
        for sk, counts in ((f"pending#{shard}", pending), (window, added)):
            if any(counts.values()):
                row = pool.name, sk
                rows.setdefault(row, {})[_place(change)] = counts
                newest_ms[row] = change.at_ms
    refused = None
    for (pool_name, sk), counted in rows.items():
        try:
            _add(pool_name, sk, counted, newest_ms[pool_name, sk])
        except clients.AWSError as error:
            refused = error
    if refused is not None:
        raise refused


def _place(change: Change) -> str:
    return change.sequence.zfill(PLACE_DIGITS)


def _add(pool: str, sk: str, counted: Counted, at_ms: int) -> None:
    """Add to one row what it has not counted before. `at_ms`: when the newest change was made."""
    while counted:
        try:
            before = _update(pool, sk, counted, at_ms)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            # `Item` is what botocore adds to this error and its types do not know.
            place = error.response["Item"]["counted"]["S"]  # type: ignore[typeddict-item]
            counted = {at: counts for at, counts in counted.items() if at > place}
        else:
            if sk.startswith("pending#") and not before:  # A new shard: now and then there is one.
                try:
                    _sum_up_old_shards(pool, at_ms)
                except clients.AWSError as error:  # Somebody else did it, or AWS refuses.
                    logs.log("shards-not-summed-up", pool=pool, error=str(error))
            return


def _update(pool: str, sk: str, counted: Counted, at_ms: int) -> Item:
    """Returns the row as it was before; empty if it is new."""
    sums: Counter[str] = Counter()
    for counts in counted.values():
        sums.update(counts)
    fields = [name for name, value in sums.items() if value]
    values: Item = {f":{name}": {"N": str(sums[name])} for name in fields}
    adds = ", ".join(f"#{name} :{name}" for name in fields)
    kept: Item = {"counted": {"S": max(counted)}, "at": {"N": str(at_ms)}}
    if not sk.startswith("pending#"):
        kept["expiresAt"] = {"N": str((at_ms + RETENTION_MS) // 1000)}
    sets = ", ".join(f"#{name} = :{name}" for name in kept)
    answer = clients.client("dynamodb").update_item(
        TableName=environment().stats_table,
        Key=_key(_pk(pool), sk),
        UpdateExpression=f"SET {sets}" + (f" ADD {adds}" if adds else ""),
        ConditionExpression="attribute_not_exists(#counted) OR #counted < :first",
        ExpressionAttributeNames={f"#{name}": name for name in (*fields, *kept)},
        ExpressionAttributeValues={
            **values,
            **{f":{name}": value for name, value in kept.items()},
            ":first": {"S": min(counted)},
        },
        ReturnValues="ALL_OLD",
        ReturnValuesOnConditionCheckFailure="ALL_OLD",
    )
    return answer.get("Attributes", {})


def _sum_up_old_shards(pool: str, now_ms: int) -> None:
    """Add the pending runs of shards that can bring nothing any more to the sum, and forget their
    rows: a table's stream begins new shards every few hours. The next new shard
    makes up for a failure."""
    for row in _read_rows(pool, "pending#", "pending#~"):
        if "at" not in row or _number(row, "at") >= now_ms - RETENTION_MS:
            continue
        forget: DeleteTypeDef = {
            "TableName": environment().stats_table,
            "Key": _key(_pk(pool), row["sk"]["S"]),
            "ConditionExpression": "#counted = :counted",
            "ExpressionAttributeNames": {"#counted": "counted"},
            "ExpressionAttributeValues": {":counted": row["counted"]},
        }
        add = _add_to_sum(pool, _number(row, "pending"))
        clients.client("dynamodb").transact_write_items(
            TransactItems=[{"Delete": forget}, {"Update": add}]
        )


def _add_to_sum(pool: str, pending: int) -> "UpdateTypeDef":
    return {
        "TableName": environment().stats_table,
        "Key": _key(_pk(pool), SUM),
        "UpdateExpression": "ADD #pending :by",
        "ExpressionAttributeNames": {"#pending": "pending"},
        "ExpressionAttributeValues": {":by": {"N": str(pending)}},
    }


def row_width_ms(window_ms: int) -> int:
    """The width of the parts of a window of this length."""
    return max(1000, window_ms // WINDOW_ROWS // 1000 * 1000)


def _window(at_ms: int, pool: pools.Pool) -> str:
    width = row_width_ms(pool.stats_window_ms)
    return f"window#{at_ms // width * width:015d}"


def read_pending(pool: str) -> int:
    """How many runs of the pool have not ended."""
    return int(sum(_number(row, "pending") for row in _read_rows(pool, "pending#", "pending#~")))


def read_window(pool: pools.Pool, now_ms: int) -> Counter[str]:
    """The sums of the pool's window up to now. The window's oldest part counts as a whole."""
    first = _window(now_ms - pool.stats_window_ms, pool)
    sums: Counter[str] = Counter()
    for row in _read_rows(pool.name, first, "window#~"):
        for name in ("executions", "errors", "ended", "failed", "duration_ms"):
            sums[name] += _number(row, name)
    return sums


def read_places(pool: str) -> str:
    """How far the pool's pending runs are counted, as a short text. It changes whenever a run that
    was created or ended is counted."""
    places = [
        (row["sk"]["S"], row.get("counted", {}).get("S"))
        for row in _read_rows(pool, "pending#", "pending#~")
    ]
    return sha256(json.dumps(places).encode()).hexdigest()[:32]


def note_drift(pool: str, finding: str) -> None:
    """Store what a recount found, so that the next recount can compare."""
    clients.client("dynamodb").put_item(
        TableName=environment().stats_table,
        Item={**_key(_pk(pool), "drift"), "finding": {"S": finding}},
    )


def correct_pending(pool: str, by: int, *, finding: str) -> bool:
    """Add `by` to the pending runs, if the recount before had the same finding. Returns False if it
    had another."""
    table = environment().stats_table
    remove_finding: DeleteTypeDef = {
        "TableName": table,
        "Key": _key(_pk(pool), "drift"),
        "ConditionExpression": "#finding = :finding",
        "ExpressionAttributeNames": {"#finding": "finding"},
        "ExpressionAttributeValues": {":finding": {"S": finding}},
    }
    try:
        clients.client("dynamodb").transact_write_items(
            TransactItems=[{"Delete": remove_finding}, {"Update": _add_to_sum(pool, by)}]
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "TransactionCanceledException":
            raise
        return False
    return True


def _read_rows(pool: str, first: str, last: str) -> list[Item]:
    pages = (
        clients.client("dynamodb")
        .get_paginator("query")
        .paginate(
            TableName=environment().stats_table,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            ExpressionAttributeValues={
                ":pk": {"S": _pk(pool)},
                ":first": {"S": first},
                ":last": {"S": last},
            },
            ConsistentRead=True,
        )
    )
    return [item for page in pages for item in page["Items"]]


def _number(row: Item, name: str) -> int:
    return int(row.get(name, {}).get("N", 0))


def _pk(pool: str) -> str:
    return f"pool#{pool}"


def _key(pk: str, sk: str) -> Item:
    return {"pk": {"S": pk}, "sk": {"S": sk}}
