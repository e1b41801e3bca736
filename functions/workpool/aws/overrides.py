"""A pool's row in the stats table: what was changed at run time. Read and written whole or not.

`max_parallelism` is in force only as long as the deployed value is the one that it `overrode`: a
changed `cdk.json` wins at the next deploy. `cancel_before` stands while cancelAll works.
"""

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from workpool.aws import clients
from workpool.aws.environment import environment
from workpool.aws.pools import Pool
from workpool.core.run import Item, decode, encode


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRow:
    """What was changed at run time; by default nothing."""

    paused: bool = False
    max_parallelism: int | None = None
    overrode: int | None = None
    cancel_before: int | None = None

    def limit(self, deployed: Pool) -> int:
        """The maxParallelism in force, were the pool not paused."""
        if self.max_parallelism is not None and self.overrode == deployed.max_parallelism:
            return self.max_parallelism
        return deployed.max_parallelism


def read(pool: str) -> PoolRow:
    """The pool's row; the default where there is none."""
    answer = clients.client("dynamodb").get_item(
        TableName=environment().stats_table, Key=_key(pool), ConsistentRead=True
    )
    item: Item = answer.get("Item", {})
    values: dict[str, Any] = {
        field: decode(item[name]) for field, name in _ATTRIBUTES.items() if name in item
    }
    return PoolRow(**values)


def update(pool: str, **changes: bool | int) -> None:
    """Change some fields of the row; there need be none before."""
    names = {f"#{field}": _ATTRIBUTES[field] for field in changes}
    clients.client("dynamodb").update_item(
        TableName=environment().stats_table,
        Key=_key(pool),
        UpdateExpression="SET " + ", ".join(f"#{field} = :{field}" for field in changes),
        ExpressionAttributeNames=names,
        ExpressionAttributeValues={f":{field}": encode(value) for field, value in changes.items()},
    )


def canceled(pool: str, before: int) -> None:
    """All that was created before then is canceled: forget it, unless cancelAll was called anew."""
    try:
        clients.client("dynamodb").update_item(
            TableName=environment().stats_table,
            Key=_key(pool),
            UpdateExpression="REMOVE cancelBefore",
            ConditionExpression="cancelBefore = :before",
            ExpressionAttributeValues={":before": encode(before)},
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise


_ATTRIBUTES = {
    "paused": "paused",
    "max_parallelism": "maxParallelism",
    "overrode": "overrode",
    "cancel_before": "cancelBefore",
}


def _key(pool: str) -> Item:
    return {"pk": {"S": f"pool#{pool}"}, "sk": {"S": "settings"}}
