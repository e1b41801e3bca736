"""DynamoDB in memory, for the calls that `workpool.store` makes: a hundred times quicker than moto.

It knows the part of the expression language that is used and refuses the rest; `test_table.py`
holds it to moto. Every change of an item is told to `changed`, in order: the table's stream.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from tests.support.failures import refusal

Item = dict[str, dict[str, Any]]
Key = tuple[str, ...]
Changed = Callable[[str, Item | None, Item | None], None]
Condition = Callable[[Item, dict[str, str], dict[str, dict[str, Any]]], bool]

KEYS: dict[str, Key] = {"runs": ("run",), "stats": ("pk", "sk"), "effects": ("id",)}

_TOKEN = re.compile(r"\s*(#\w+|:\w+|\w+|<=|>=|<>|[=<>(),])")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}


class Tables:
    """The client. Its tables hold items by key."""

    def __init__(self, changed: Changed) -> None:
        self._changed = changed
        self._committed: dict[str, None] = {}
        self.tables: dict[str, dict[Key, Item]] = defaultdict(dict)

    def get_item(self, *, TableName: str, Key: Item, ConsistentRead: bool) -> dict[str, Any]:
        assert ConsistentRead
        item = self.tables[TableName].get(_key(TableName, Key))
        return {"Item": dict(item)} if item else {}

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:
        responses = {}
        for name, asked in RequestItems.items():
            assert asked["ConsistentRead"]
            found = [self.tables[name].get(_key(name, key)) for key in asked["Keys"]]
            responses[name] = [dict(item) for item in found if item]
        return {"Responses": responses, "UnprocessedKeys": {}}

    def scan(
        self,
        *,
        TableName: str,
        IndexName: str,
        Limit: int,
        ExclusiveStartKey: Item | None = None,
    ) -> dict[str, Any]:
        """The open index, partition by partition."""

        def order(key: Item) -> tuple[str, float, str]:
            return key["open"]["S"], float(key["enqueuedAt"]["N"]), key["run"]["S"]

        names = ("run", "open", "enqueuedAt")
        items = self.tables[TableName].values()
        keys = sorted(
            ({name: item[name] for name in names} for item in items if IndexName in item),
            key=order,
        )
        if ExclusiveStartKey:
            keys = [key for key in keys if order(key) > order(ExclusiveStartKey)]
        page = keys[:Limit]
        return {"Items": page} | ({"LastEvaluatedKey": page[-1]} if len(page) == Limit else {})

    def put_item(self, **request: Any) -> dict[str, Any]:
        return self._write("PutItem", request)

    def update_item(self, **request: Any) -> dict[str, Any]:
        return self._write("UpdateItem", request)

    def transact_write_items(
        self, *, TransactItems: list[dict[str, Any]], ClientRequestToken: str
    ) -> dict[str, Any]:
        """All or none. A transaction with the same token is the same one."""
        if ClientRequestToken in self._committed:
            return {}
        requests = [(name, it) for entry in TransactItems for name, it in entry.items()]
        refused = [not self._holds(it) for _, it in requests]
        if any(refused):
            reasons = [
                _reason(it, self._standing(it)) if no else {"Code": "None"}
                for (_, it), no in zip(requests, refused, strict=True)
            ]
            raise refusal(
                "TransactionCanceledException", "TransactWriteItems", CancellationReasons=reasons
            )
        for name, it in requests:
            self._apply(f"{name}Item", it)
        self._committed[ClientRequestToken] = None
        return {}

    def forget(self, table: str, key: Key) -> None:
        """What time to live does."""
        self._changed(table, self.tables[table].pop(key), None)

    def _write(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        if not self._holds(request):
            reason = _reason(request, self._standing(request))
            raise refusal("ConditionalCheckFailedException", operation, **reason)
        new = self._apply(operation, request)
        return {"Attributes": dict(new)} if request.get("ReturnValues") == "ALL_NEW" else {}

    def _standing(self, request: dict[str, Any]) -> Item | None:
        name = request["TableName"]
        return self.tables[name].get(_key(name, request.get("Key") or request["Item"]))

    def _holds(self, request: dict[str, Any]) -> bool:
        _check_used(request)
        condition = request.get("ConditionExpression")
        if condition is None:
            return True
        names = request.get("ExpressionAttributeNames", {})
        values = request.get("ExpressionAttributeValues", {})
        return _condition(condition)(self._standing(request) or {}, names, values)

    def _apply(self, operation: str, request: dict[str, Any]) -> Item:
        name, old = request["TableName"], self._standing(request)
        if operation == "PutItem":
            new = dict(request["Item"])
        else:
            new = dict(old or request["Key"])
            names = request["ExpressionAttributeNames"]
            values = request["ExpressionAttributeValues"]
            sets, removes, adds = _changes(request["UpdateExpression"])
            for attribute, value in sets:
                new[names[attribute]] = values[value]
            for attribute, value in adds:
                before = int(new.get(names[attribute], {"N": "0"})["N"])
                new[names[attribute]] = {"N": str(before + int(values[value]["N"]))}
            for attribute in removes:
                new.pop(names[attribute], None)
        self.tables[name][_key(name, new)] = new
        if new != old:  # Otherwise there is no stream record.
            self._changed(name, old, new)
        return new


def _key(table: str, item: Item) -> Key:
    return tuple(item[name]["S"] for name in KEYS[table])


def _reason(request: dict[str, Any], standing: Item | None) -> dict[str, Any]:
    wanted = request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
    return {"Code": "ConditionalCheckFailed"} | (
        {"Item": dict(standing)} if wanted and standing else {}
    )


def _check_used(request: dict[str, Any]) -> None:
    """DynamoDB refuses a name or a value that no expression uses."""
    text = f"{request.get('ConditionExpression')} {request.get('UpdateExpression')}"
    used = set(re.findall(r"[#:]\w+", text))
    given = {
        *request.get("ExpressionAttributeNames", {}),
        *request.get("ExpressionAttributeValues", {}),
    }
    if used != given:
        message = f"unused or missing: {used ^ given}"
        raise refusal("ValidationException", "UpdateItem", message)


@cache
def _changes(expression: str) -> tuple[list[tuple[str, str]], list[str], list[tuple[str, str]]]:
    """SET #a = :b, ... REMOVE #c, ... ADD #d :e"""
    match = re.fullmatch(r"SET (.+?)(?: REMOVE (.+?))?(?: ADD (#\w+) (:\w+))?", expression)
    assert match, expression
    sets = [tuple(part.strip().split(" = ")) for part in match[1].split(",")]
    removes = [part.strip() for part in (match[2] or "").split(",") if part]
    return [(it[0], it[1]) for it in sets], removes, [(match[3], match[4])] if match[3] else []


@cache
def _condition(expression: str) -> Condition:
    """OR binds weaker than AND, AND weaker than NOT; a missing attribute compares with nothing."""
    tokens = iter([*_TOKEN.findall(expression), ""])
    parsed, rest = _any(next(tokens), tokens)
    assert not rest, expression
    return parsed


def _any(token: str, tokens: Iterator[str]) -> tuple[Condition, str]:
    parsed, token = _all(token, tokens)
    while token == "OR":
        left = parsed
        right, token = _all(next(tokens), tokens)

        def either(i: Item, n: Any, v: Any, left: Any = left, right: Any = right) -> bool:
            return bool(left(i, n, v) or right(i, n, v))

        parsed = either
    return parsed, token


def _all(token: str, tokens: Iterator[str]) -> tuple[Condition, str]:
    parsed, token = _one(token, tokens)
    while token == "AND":
        left = parsed
        right, token = _one(next(tokens), tokens)

        def both(i: Item, n: Any, v: Any, left: Any = left, right: Any = right) -> bool:
            return bool(left(i, n, v) and right(i, n, v))

        parsed = both
    return parsed, token


def _one(token: str, tokens: Iterator[str]) -> tuple[Condition, str]:
    if token == "NOT":
        inner, token = _one(next(tokens), tokens)
        return (lambda i, n, v: not inner(i, n, v)), token
    if token == "(":
        inner, token = _any(next(tokens), tokens)
        assert token == ")"
        return inner, next(tokens)
    if token in ("attribute_exists", "attribute_not_exists"):
        assert next(tokens) == "("
        name = next(tokens)
        assert next(tokens) == ")"
        wanted = token == "attribute_exists"
        return (lambda i, n, v: (n[name] in i) is wanted), next(tokens)
    operator = next(tokens)
    if operator == "IN":
        assert next(tokens) == "("
        values = []
        while (value := next(tokens)) != ")":
            if value != ",":
                values.append(value)
        return (lambda i, n, v: i.get(n[token]) in [v[it] for it in values]), next(tokens)
    compare, value = _COMPARE[operator], next(tokens)

    def compared(item: Item, names: Any, values: Any) -> bool:
        left, right = item.get(names[token]), values[value]
        if left is None or left.keys() != right.keys():
            return False
        if "N" in left:
            return compare(float(left["N"]), float(right["N"]))
        return compare(*left.values(), *right.values())

    return compared, next(tokens)
