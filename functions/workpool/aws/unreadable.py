"""Set an unreadable item aside: tell a person once, and leave the item where it is.

Somebody else wrote the item, or a newer version did. The relay calls this for each change that it
cannot read, the sweeper for each open item. The item's key and the reason go to the parked queue of
the shared parts, which has an alarm. A row of the stats table keeps that they were told; nothing is
written to the item. A failure here stops nothing: it is only logged and answered.
"""

import json
from hashlib import sha256

from workpool.aws import clients, logs, queues
from workpool.aws.environment import environment
from workpool.core import clock
from workpool.core.run import VERSION, Item

REMEMBERED_SECONDS = 14 * 24 * 3600
"""An item is told again after this time. Then the parked queue has forgotten the first message."""


def set_aside(key: str, reason: str) -> bool:
    """Tell about the item, unless that was done before for the same reason. Returns False if AWS
    refused: then somebody must look again."""
    logs.log("item-unreadable", key=key, error=reason)
    try:
        if _was_told(key, reason):
            return True
        # Told first and noted then: a crash between them costs a second message, not the only one.
        body = json.dumps({"v": VERSION, "run": key})
        queues.set_aside_message(None, body, reason=reason)
        _note(key, reason)
    except clients.AWSError as error:
        logs.log_error("item-not-set-aside", error, key=key)
        return False
    return True


def _was_told(key: str, reason: str) -> bool:
    answer = clients.client("dynamodb").get_item(
        TableName=environment().stats_table, Key=_row(key), ConsistentRead=True
    )
    row: Item = answer.get("Item", {})
    now_s = clock.now_ms() // 1000
    return row.get("reason") == {"S": reason} and int(row["expiresAt"]["N"]) > now_s


def _note(key: str, reason: str) -> None:
    expires_at = clock.now_ms() // 1000 + REMEMBERED_SECONDS
    clients.client("dynamodb").put_item(
        TableName=environment().stats_table,
        Item={**_row(key), "reason": {"S": reason}, "expiresAt": {"N": str(expires_at)}},
    )


def _row(key: str) -> Item:
    """The row of an item. A hash, since a key may be longer than a sort key may be."""
    return {"pk": {"S": "unreadable"}, "sk": {"S": sha256(key.encode()).hexdigest()}}
