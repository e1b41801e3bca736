"""The counters of a pool, in the stats table: what the relay counted of the runs table's changes.

| Row | Written | Read |
|---|---|---|
| `pool#<name>`, `pending#<lane>` | per batch of changes | stats: the sum of all lanes |
| `pool#<name>`, `window#<start>` | per batch of changes | stats: those inside the window |
| `marker`, `<first sequence>` | per batch of changes | relay: what of a replay counts |
| `pool#<name>`, `drift` | where a recount differs | the sweeper's next recount |

A batch of changes is counted in one transaction with a marker that is named by its first sequence
number and holds its last: a replay begins at the same change, and counts what is new in it.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from botocore.exceptions import ClientError

from workpool.aws import clients
from workpool.aws.environment import environment
from workpool.core.run import Item, Run

LANES = 8
"""Rows that share a pool's number of pending runs, so that its writers do not wait in line."""

KEPT_SECONDS = 2 * 24 * 3600
"""Markers and windows: a stream keeps its records for a day."""

RECORDS = 40
"""Of one transaction, which takes a hundred rows."""

TRIES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A change of a run with its place in the stream."""

    sequence: str
    at_ms: int
    old: Run | None
    new: Run | None


def deltas(old: Run | None, new: Run | None) -> Counter[str]:
    """What one change adds to its pool's counters.

    `executions` and `errors` are attempts that ended and that failed; `ended`, `failed` and
    `duration_ms` are runs. A run canceled before it started is an ended one without an attempt.
    """
    found: Counter[str] = Counter()
    if new is None:
        return found
    created = old is None or old.enqueued_at != new.enqueued_at
    if created:
        found["pending"] = 1
        return found
    assert old is not None
    if old.kind == new.kind or old.ended:
        return found
    if old.kind == "running":
        found["executions"] = 1
        found["errors"] = int(new.result != "success")
    if new.ended:
        found["pending"] = -1
        found["ended"] = 1
        found["failed"] = int(new.result == "failed")
        found["duration_ms"] = (new.finished_at or new.enqueued_at) - new.enqueued_at
    return found


def count(changes: Sequence[Counted], *, window_ms: Mapping[str, int]) -> None:
    """Count a batch of changes, each once however often the batch comes. `window_ms`: the width
    of a pool's window rows. Raises ClientError: then the batch comes again."""
    if not changes:
        return
    first = changes[0].sequence
    for _ in range(TRIES):
        counted = _marker(first)
        left = [it for it in changes if counted is None or int(it.sequence) > int(counted)]
        if not left:
            return
        try:
            _count(first, counted, left[:RECORDS], window_ms)
        except ClientError as error:  # The same batch is counted elsewhere, or a row is busy.
            if error.response["Error"]["Code"] != "TransactionCanceledException":
                raise
        else:
            if len(left) <= RECORDS:
                return
    raise RuntimeError("the counters stayed busy")


def _count(
    first: str, counted: str | None, changes: Sequence[Counted], window_ms: Mapping[str, int]
) -> None:
    lane = int(sha256(first.encode()).hexdigest()[:4], 16) % LANES
    rows: dict[tuple[str, str], Counter[str]] = {}
    for it in changes:
        run = it.new or it.old
        assert run is not None
        width = window_ms.get(run.pool)
        if width is None:  # The pool is no longer deployed.
            continue
        found = deltas(it.old, it.new)
        pending = found.pop("pending", 0)
        if pending:
            rows.setdefault((_pk(run.pool), f"pending#{lane}"), Counter())["pending"] += pending
        if found:
            window = f"window#{it.at_ms // width * width:015d}"
            row = rows.setdefault((_pk(run.pool), window), Counter())
            for name, value in found.items():
                row[name] += value
    expires_at = changes[-1].at_ms // 1000 + KEPT_SECONDS
    clients.client("dynamodb").transact_write_items(
        TransactItems=[
            _mark(first, counted, changes[-1].sequence, expires_at),
            *(_add(pk, sk, row, expires_at) for (pk, sk), row in rows.items()),
        ]
    )


def _marker(first: str) -> str | None:
    answer = clients.client("dynamodb").get_item(
        TableName=environment().stats_table, Key=_key("marker", first), ConsistentRead=True
    )
    last: str | None = answer.get("Item", {}).get("last", {}).get("S")
    return last


def _mark(first: str, counted: str | None, last: str, expires_at: int) -> dict[str, Any]:
    put: dict[str, Any] = {
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


def _add(pk: str, sk: str, row: Counter[str], expires_at: int) -> dict[str, Any]:
    names = [name for name, value in row.items() if value]
    adds = ", ".join(f"#{name} :{name}" for name in names) or "#executions :zero"
    values: dict[str, Any] = {f":{name}": {"N": str(row[name])} for name in names}
    update: dict[str, Any] = {
        "TableName": environment().stats_table,
        "Key": _key(pk, sk),
        "UpdateExpression": f"ADD {adds}",
        "ExpressionAttributeNames": {f"#{name}": name for name in names or ["executions"]},
        "ExpressionAttributeValues": values or {":zero": {"N": "0"}},
    }
    if sk.startswith("window#"):
        update["UpdateExpression"] += " SET #expiresAt = :expiresAt"
        update["ExpressionAttributeNames"]["#expiresAt"] = "expiresAt"
        update["ExpressionAttributeValues"][":expiresAt"] = {"N": str(expires_at)}
    return {"Update": update}


def pending(pool: str) -> int:
    """Runs of the pool that have not ended."""
    return int(sum(_number(it, "pending") for it in _rows(pool, "pending#", "pending#~")))


def window(pool: str, *, since_ms: int, width_ms: int) -> Counter[str]:
    """The sums of the pool's window rows since then, bound inclusive."""
    start = since_ms // width_ms * width_ms
    sums: Counter[str] = Counter()
    for row in _rows(pool, f"window#{start:015d}", "window#~"):
        for name in ("executions", "errors", "ended", "failed", "duration_ms"):
            sums[name] += _number(row, name)
    return sums


def newest_window(pool: str) -> str:
    """The pool's newest window row as text: it is another when anything ended meanwhile."""
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
    """Keep what a recount found, for the next one to compare."""
    clients.client("dynamodb").put_item(
        TableName=environment().stats_table,
        Item={**_key(_pk(pool), "drift"), "finding": {"S": finding}},
    )


def correct_pending(pool: str, by: int, *, finding: str) -> bool:
    """Put right what two recounts in a row found; False: the one before found something else."""
    table = environment().stats_table
    noted = {
        "TableName": table,
        "Key": _key(_pk(pool), "drift"),
        "ConditionExpression": "#finding = :finding",
        "ExpressionAttributeNames": {"#finding": "finding"},
        "ExpressionAttributeValues": {":finding": {"S": finding}},
    }
    put_right = {
        "TableName": table,
        "Key": _key(_pk(pool), "pending#0"),
        "UpdateExpression": "ADD #pending :by",
        "ExpressionAttributeNames": {"#pending": "pending"},
        "ExpressionAttributeValues": {":by": {"N": str(by)}},
    }
    try:
        clients.client("dynamodb").transact_write_items(
            TransactItems=[{"Delete": noted}, {"Update": put_right}]
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "TransactionCanceledException":
            raise
        return False
    return True


def _rows(pool: str, first: str, last: str) -> list[Item]:
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
