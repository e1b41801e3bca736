"""What was changed in a pool at run time, and what the newest deploy says: one row of the stats
table per pool.

Each write is conditional on the revision that was read. If it is refused because another write was
first, the row is read and the change decided again, so no write undoes another one. The row keeps
the ids of its last writes: so a write that the SDK repeats, because its answer was lost, is known
as done, even if the row was changed again since. The only module that writes this row.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from botocore.exceptions import ClientError

from workpool.aws import clients
from workpool.aws.environment import environment
from workpool.aws.pools import Pool
from workpool.core.run import Item, decode, encode

REMEMBERED = 20
"""How many of its last writes a row keeps. The SDK repeats a write for about a minute."""

Values = Mapping[str, bool | int | None]
"""New values by field. None removes the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """A pool's row; by default nothing was changed."""

    paused: bool = False
    max_parallelism: int | None = None
    """In force until `cdk.json` has another value: that deploy removes it."""
    cancel_before: int | None = None
    """Set while cancelAll works."""
    deployed_parallelism: int | None = None
    deployed_reserved: bool | None = None
    """What the newest deploy says of `maxParallelism` and `reservedConcurrency`. The code that
    reads this may be of an older deployment."""
    writes: tuple[tuple[str, tuple[str, ...]], ...] = field(default=(), compare=False)
    """The last writes, newest first: the id of each, and the fields that it wrote."""

    def limit(self, pool: Pool) -> int:
        """The maxParallelism in force, unless the pool is paused."""
        if self.max_parallelism is not None:
            return self.max_parallelism
        return self.newest(pool).max_parallelism

    def newest(self, pool: Pool) -> Pool:
        """The pool as the newest deploy left it."""
        if self.deployed_parallelism is None or self.deployed_reserved is None:
            return pool
        return replace(
            pool, max_parallelism=self.deployed_parallelism, reserved=self.deployed_reserved
        )

    @property
    def revision(self) -> str | None:
        """The id of the last write."""
        return self.writes[0][0] if self.writes else None

    def has(self, write: str) -> bool:
        """Whether this write took effect."""
        return any(write == it for it, _ in self.writes)

    def last_wrote(self, name: str) -> str | None:
        """The id of the write that wrote this field last."""
        return next((it for it, names in self.writes if name in names), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A write that took effect: its id, the fields that it wrote, and the row before it."""

    id: str
    fields: tuple[str, ...]
    before: Overrides


def read(pool: str) -> Overrides:
    """The pool's row; the default if the pool has none."""
    answer = clients.client("dynamodb").get_item(
        TableName=environment().stats_table, Key=_key(pool), ConsistentRead=True
    )
    return _from_item(answer.get("Item", {}))


def update(pool: str, **changes: bool | int) -> Update:
    """Change some fields, whatever else was changed meanwhile. Creates the row if the pool has
    none. Of two calls of cancelAll the later one stands."""

    def decide(row: Overrides) -> Values:
        if "cancel_before" in changes and row.cancel_before is not None:
            return {**changes, "cancel_before": max(changes["cancel_before"], row.cancel_before)}
        return changes

    return _change(pool, decide)


def take_back(pool: str, made: Update) -> None:
    """Set the fields that `made` wrote to what they were before it, except those that somebody has
    written again since."""

    def decide(row: Overrides) -> Values:
        return {
            name: getattr(made.before, name)
            for name in made.fields
            if row.last_wrote(name) == made.id
        }

    _change(pool, decide)


def forget_cancel_all(pool: str, before: int) -> None:
    """Remove `cancel_before`: every run that was created before then is canceled. Does nothing if
    cancelAll was called again meanwhile."""
    _change(pool, lambda row: {"cancel_before": None} if row.cancel_before == before else {})


def forget_max_parallelism(pool: str) -> None:
    """Let the deployed maxParallelism be in force again."""
    _change(pool, lambda row: {} if row.max_parallelism is None else {"max_parallelism": None})


def record_deploy(pool: str, *, max_parallelism: int, reserved: bool) -> None:
    """Note what a deploy says. If it says another maxParallelism than the last one, remove the one
    that was set at run time."""

    def decide(row: Overrides) -> Values:
        values: dict[str, bool | int | None] = {}
        if row.deployed_parallelism != max_parallelism:
            values = {"deployed_parallelism": max_parallelism, "max_parallelism": None}
        if row.deployed_reserved is not reserved:
            values["deployed_reserved"] = reserved
        return values

    _change(pool, decide)


def _change(pool: str, decide: Callable[[Overrides], Values]) -> Update:
    """Write what `decide` makes of the row. It is asked again whenever another write was first."""
    write = uuid4().hex
    row = read(pool)
    while True:
        values = decide(row)
        made = Update(id=write, fields=tuple(values), before=row)
        if not values:
            return made
        try:
            _write(pool, row, write, values)
            return made
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            # botocore's types do not know the item that the answer carries.
            refused: Any = error.response
            row = _from_item(refused.get("Item", {}))
            if row.has(write):
                return made


def _write(pool: str, row: Overrides, write: str, values: Values) -> None:
    writes = [(write, tuple(values)), *row.writes][:REMEMBERED]
    sets: dict[str, str | bool | int] = {"revision": write, "writes": json.dumps(writes)}
    sets |= {_ATTRIBUTES[name]: value for name, value in values.items() if value is not None}
    removes = [_ATTRIBUTES[name] for name, value in values.items() if value is None]
    expression = "SET " + ", ".join(f"#{name} = :{name}" for name in sets)
    if removes:
        expression += " REMOVE " + ", ".join(f"#{name}" for name in removes)
    known = {f":{name}": encode(value) for name, value in sets.items()}
    if row.revision is None:
        condition = "attribute_not_exists(#revision)"
    else:
        condition = "#revision = :read"
        known[":read"] = encode(row.revision)
    clients.client("dynamodb").update_item(
        TableName=environment().stats_table,
        Key=_key(pool),
        UpdateExpression=expression,
        ConditionExpression=condition,
        ExpressionAttributeNames={f"#{name}": name for name in (*sets, *removes)},
        ExpressionAttributeValues=known,
        ReturnValuesOnConditionCheckFailure="ALL_OLD",
    )


def _from_item(item: Item) -> Overrides:
    values: dict[str, Any] = {
        name: decode(item[attribute])
        for name, attribute in _ATTRIBUTES.items()
        if attribute in item
    }
    writes = json.loads(decode(item["writes"])) if "writes" in item else []
    return Overrides(**values, writes=tuple((write, tuple(names)) for write, names in writes))


_ATTRIBUTES = {
    "paused": "paused",
    "max_parallelism": "maxParallelism",
    "cancel_before": "cancelBefore",
    "deployed_parallelism": "deployedParallelism",
    "deployed_reserved": "deployedReserved",
}


def _key(pool: str) -> Item:
    return {"pk": {"S": f"pool#{pool}"}, "sk": {"S": "settings"}}
