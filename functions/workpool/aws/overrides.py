"""What was changed in a pool at run time, without a deploy: one row of the stats table per pool.

`max_parallelism` is in force only while the deployed value is still the one that it `overrode`: a
changed `cdk.json` wins at the next deploy. `cancel_before` is set while cancelAll works.
"""

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from workpool.aws import clients
from workpool.aws.environment import environment
from workpool.aws.pools import Pool
from workpool.core.run import Item, decode, encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What was changed in a pool at run time; by default nothing."""

    paused: bool = False
    max_parallelism: int | None = None
    overrode: int | None = None
    cancel_before: int | None = None

    def limit(self, deployed: Pool) -> int:
        """The maxParallelism in force, unless the pool is paused."""
        if self.max_parallelism is not None and self.overrode == deployed.max_parallelism:
            return self.max_parallelism
        return deployed.max_parallelism


def read(pool: str) -> Overrides:
    """The pool's overrides; the default if the pool has no row."""
    answer = clients.client("dynamodb").get_item(
        TableName=environment().stats_table, Key=_key(pool), ConsistentRead=True
    )
    item: Item = answer.get("Item", {})
    values: dict[str, Any] = {
        field: decode(item[name]) for field, name in _ATTRIBUTES.items() if name in item
    }
    return Overrides(**values)


def update(pool: str, **changes: bool | int) -> None:
    """Change some fields. Creates the row if the pool has none. Of two calls of cancelAll the later
    one stands."""
    names = {f"#{field}": _ATTRIBUTES[field] for field in changes}
    condition: Any = {}
    if "cancel_before" in changes:
        larger = "attribute_not_exists(#cancel_before) OR #cancel_before < :cancel_before"
        condition = {"ConditionExpression": larger}
    try:
        clients.client("dynamodb").update_item(
            TableName=environment().stats_table,
            Key=_key(pool),
            UpdateExpression="SET " + ", ".join(f"#{field} = :{field}" for field in changes),
            ExpressionAttributeNames=names,
            ExpressionAttributeValues={f":{name}": encode(it) for name, it in changes.items()},
            **condition,
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise


def forget_cancel_all(pool: str, before: int) -> None:
    """Remove `cancel_before`: every run that was created before then is canceled. Does nothing if
    cancelAll was called again meanwhile."""
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
