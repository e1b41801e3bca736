"""Completion handlers of the end-to-end tests: they count in the tests' own ledger table."""

import os
import time
from typing import Any

import boto3

from workpool import CompletionContext, completion

_ledger = boto3.client("dynamodb")


def _write(ctx: CompletionContext, what: str) -> None:
    _ledger.put_item(
        TableName="ledger",
        Item={"run": {"S": ctx.run_id}, "at": {"S": f"{time.time_ns()}"}, "what": {"S": what}},
    )


def _count(ctx: CompletionContext) -> dict[str, Any]:
    return {
        "Update": {
            "TableName": "ledger",
            "Key": {"run": {"S": ctx.run_id}, "at": {"S": "completions"}},
            "UpdateExpression": "ADD #count :one",
            "ExpressionAttributeNames": {"#count": "count"},
            "ExpressionAttributeValues": {":one": {"N": "1"}},
        }
    }


@completion
def settled(ctx: CompletionContext, context: Any, result: dict[str, Any]) -> list[dict[str, Any]]:
    """Called once: it counts its calls plainly, its effects in the transaction."""
    _write(ctx, f"completion {result['type']} {context}")
    return [_count(ctx)]


@completion
def weighed(ctx: CompletionContext, context: Any, result: dict[str, Any]) -> None:
    """Writes how large the context and the value are that it is told."""
    _write(ctx, f"{len(context)} {len(result['returnValue'])}")


@completion
def dies_once(ctx: CompletionContext, context: Any, result: dict[str, Any]) -> list[dict[str, Any]]:
    """Its process ends in the middle of the first call."""
    seen = _ledger.query(
        TableName="ledger",
        KeyConditionExpression="#run = :run",
        FilterExpression="what = :died",
        ExpressionAttributeNames={"#run": "run"},
        ExpressionAttributeValues={":run": {"S": ctx.run_id}, ":died": {"S": "died"}},
    )
    if not seen["Items"]:
        _write(ctx, "died")
        os._exit(1)
    return [_count(ctx)]


@completion
def raises_twice(ctx: CompletionContext, context: Any, result: dict[str, Any]) -> None:
    calls = _ledger.query(
        TableName="ledger",
        KeyConditionExpression="#run = :run",
        FilterExpression="what = :called",
        ExpressionAttributeNames={"#run": "run"},
        ExpressionAttributeValues={":run": {"S": ctx.run_id}, ":called": {"S": "called"}},
    )["Items"]
    _write(ctx, "called")
    if len(calls) < 2:
        raise RuntimeError("not yet")
