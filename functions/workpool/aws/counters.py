"""The counters of a pool, in the stats table. The relay counts the changes of the runs table.

| Row | Written | Read |
|---|---|---|
| `pool#<name>`, `pending#<lane>` | per batch of changes | stats: the sum of all lanes |
| `pool#<name>`, `window#<start>` | per batch of changes | stats: those inside the window |
| `marker`, `<first sequence>` | per batch of changes | relay: what of a replay counts |
| `pool#<name>`, `drift` | where a recount differs | the sweeper's next recount |

A batch of changes is counted in one transaction with a marker. The marker is named by the batch's
first sequence number and holds the last one that was counted. A replay of the batch begins at the
same change, so it finds the marker and counts only the changes after that.
"""

import json
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from workpool.aws import clients, pools
from workpool.aws.environment import environment
from workpool.core.changes import Change, deltas
from workpool.core.run import Item

if TYPE_CHECKING:
    from types_boto3_dynamodb.type_defs import (
        DeleteTypeDef,
        PutTypeDef,
        TransactWriteItemTypeDef,
        UpdateTypeDef,
    )

LANES = 8
"""How many rows share a pool's number of pending runs, so that no writer waits for another."""

RETENTION_SECONDS = 2 * 24 * 3600
"""How long markers and windows are kept. A stream keeps its records for one day."""

MAX_CHANGES = 40
"""How many changes one transaction counts. A change may need two rows, and a transaction takes at
most a hundred."""

WINDOW_ROWS = 60
"""How many rows share a pool's window. A row is at least one second wide."""

TRIES = 10


def count(changes: Sequence[Change]) -> None:
    """Count a batch of changes: each change once, however often the batch comes. Raises ClientError
    if AWS refuses; the stream then brings the batch again."""
    if not changes:
        return
    first = changes[0].sequence
    for _ in range(TRIES):
        counted = _read_marker(first)
        left = [
            change for change in changes if counted is None or int(change.sequence) > int(counted)
        ]
        if not left:
            return
        try:
            _count(first, counted, left[:MAX_CHANGES])
        except ClientError as error:  # Somebody else counts the same batch, or a row is busy.
            if error.response["Error"]["Code"] != "TransactionCanceledException":
                raise
        else:
            if len(left) <= MAX_CHANGES:
                return
    raise RuntimeError("the counters stayed busy")


def _count(first: str, counted: str | None, changes: Sequence[Change]) -> None:
    lane = int(sha256(first.encode()).hexdigest()[:4], 16) % LANES
    deployed = pools.pools()
    rows: dict[tuple[str, str], Counter[str]] = {}
    for change in changes:
        pool = deployed.get(change.run.pool)
        if pool is None:  # The pool is no longer deployed.
            continue
        added = deltas(change)
        pending = added.pop("pending", 0)
        if pending:
            row = rows.setdefault((_pk(pool.name), f"pending#{lane}"), Counter())
            row["pending"] += pending
        if added:
            window = _window_row(change.at_ms, pool)
            row = rows.setdefault((_pk(pool.name), window), Counter())
            for name, value in added.items():
                row[name] += value
    expires_at = changes[-1].at_ms // 1000 + RETENTION_SECONDS
    clients.client("dynamodb").transact_write_items(
        TransactItems=[
            _marker_put(first, counted, changes[-1].sequence, expires_at),
            *(_row_update(pk, sk, row, expires_at) for (pk, sk), row in rows.items()),
        ]
    )


def row_width_ms(window_ms: int) -> int:
    """The width of the rows that share a window of this length."""
    return max(1000, window_ms // WINDOW_ROWS // 1000 * 1000)


def _window_row(at_ms: int, pool: pools.Pool) -> str:
    width = row_width_ms(pool.stats_window_ms)
    return f"window#{at_ms // width * width:015d}"


def _read_marker(first: str) -> str | None:
    answer = clients.client("dynamodb").get_item(
        TableName=environment().stats_table, Key=_key("marker", first), ConsistentRead=True
    )
    return answer.get("Item", {}).get("last", {}).get("S")


def _marker_put(
    first: str, counted: str | None, last: str, expires_at: int
) -> "TransactWriteItemTypeDef":
    put: PutTypeDef = {
        "TableName": environment().stats_table,
        "Item": {
            **_key("marker", first),
            "last": {"S": last},
            "expiresAt": {"N": str(expires_at)},
        },
        "ConditionExpression": "attribute_not_exists(pk)",
    }
    if counted is not None:
        put["ConditionExpression"] = "#last = :counted"
        put["ExpressionAttributeNames"] = {"#last": "last"}
        put["ExpressionAttributeValues"] = {":counted": {"S": counted}}
    return {"Put": put}


def _row_update(pk: str, sk: str, row: Counter[str], expires_at: int) -> "TransactWriteItemTypeDef":
    counts = {name: value for name, value in row.items() if value}
    adds = ", ".join(f"#{name} :{name}" for name in counts) or "#executions :zero"
    names = {f"#{name}": name for name in counts or ["executions"]}
    values: Item = {f":{name}": {"N": str(value)} for name, value in counts.items()}
    values = values or {":zero": {"N": "0"}}
    expression = f"ADD {adds}"
    if sk.startswith("window#"):
        expression += " SET #expiresAt = :expiresAt"
        names["#expiresAt"] = "expiresAt"
        values[":expiresAt"] = {"N": str(expires_at)}
    return {
        "Update": {
            "TableName": environment().stats_table,
            "Key": _key(pk, sk),
            "UpdateExpression": expression,
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
        }
    }


def read_pending(pool: str) -> int:
    """How many runs of the pool have not ended."""
    return int(sum(_number(row, "pending") for row in _read_rows(pool, "pending#", "pending#~")))


def read_window(pool: pools.Pool, now_ms: int) -> Counter[str]:
    """The sums of the pool's window up to now. The window's oldest row counts as a whole."""
    first = _window_row(now_ms - pool.stats_window_ms, pool)
    sums: Counter[str] = Counter()
    for row in _read_rows(pool.name, first, "window#~"):
        for name in ("executions", "errors", "ended", "failed", "duration_ms"):
            sums[name] += _number(row, name)
    return sums


def read_newest_window(pool: str) -> str:
    """The pool's newest window row as text. The text changes whenever an attempt or a run ends."""
    answer = clients.client("dynamodb").query(
        TableName=environment().stats_table,
        KeyConditionExpression="pk = :pk AND begins_with(sk, :window)",
        ExpressionAttributeValues={":pk": {"S": _pk(pool)}, ":window": {"S": "window#"}},
        ScanIndexForward=False,
        Limit=1,
        ConsistentRead=True,
    )
    return json.dumps(answer["Items"], sort_keys=True)


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
    correct: UpdateTypeDef = {
        "TableName": table,
        "Key": _key(_pk(pool), "pending#0"),
        "UpdateExpression": "ADD #pending :by",
        "ExpressionAttributeNames": {"#pending": "pending"},
        "ExpressionAttributeValues": {":by": {"N": str(by)}},
    }
    try:
        clients.client("dynamodb").transact_write_items(
            TransactItems=[{"Delete": remove_finding}, {"Update": correct}]
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
