"""Completion handlers of the tests on the emulator: they write their calls and effects into the
ledger."""

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


def _times_noted(ctx: CompletionContext, what: str) -> int:
    answer = _ledger.query(
        TableName="ledger",
        KeyConditionExpression="#run = :run",
        FilterExpression="what = :what",
        ExpressionAttributeNames={"#run": "run"},
        ExpressionAttributeValues={":run": {"S": ctx.run_id}, ":what": {"S": what}},
    )
    return int(answer["Count"])


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
    """Notes each call at once, and counts its effects in the run's transaction."""
    _write(ctx, f"completion {result['type']} {context}")
    return [_count(ctx)]


@completion
def weighed(ctx: CompletionContext, context: Any, result: dict[str, Any]) -> None:
    """Notes how large the context and the return value are that it is called with."""
    _write(ctx, f"{len(context)} {len(result['returnValue'])}")


@completion
def dies_once(ctx: CompletionContext, context: Any, result: dict[str, Any]) -> list[dict[str, Any]]:
    """Its process ends in the middle of the first call."""
    if not _times_noted(ctx, "died"):
        _write(ctx, "died")
        os._exit(1)
    return [_count(ctx)]


@completion
def raises_twice(ctx: CompletionContext, context: Any, result: dict[str, Any]) -> None:
    calls_before = _times_noted(ctx, "called")
    _write(ctx, "called")
    if calls_before < 2:
        raise RuntimeError("not yet")
