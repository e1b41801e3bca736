"""The completion handler of the chaos runs.

It writes each call into the chaos ledger at once, and its effect in the run's own transaction.
Chaos deploys a copy of the project with it.
"""

import os
import time
from typing import Any
from uuid import uuid4

import boto3

from workpool import CompletionContext, completion

_ledger = boto3.client("dynamodb")
TABLE = "workpool-chaos-ledger"


@completion
def effect(ctx: CompletionContext, context: Any, result: dict[str, Any]) -> list[dict[str, Any]]:
    """Count one effect. The first `dies` calls kill the process, the next `raises` calls raise."""
    calls = _count_calls(ctx.run_id)
    call = {"run": {"S": ctx.run_id}, "at": {"S": f"call#{uuid4().hex}"}, "what": {"S": "call"}}
    _ledger.put_item(TableName=TABLE, Item=call | {"time": {"N": str(time.time_ns())}})
    if calls < context["dies"]:
        os._exit(1)
    if calls < context["dies"] + context["raises"]:
        raise RuntimeError(f"call {calls} fails on purpose")
    count = {
        "TableName": TABLE,
        "Key": {"run": {"S": ctx.run_id}, "at": {"S": "effect"}},
        "UpdateExpression": "SET #what = :what, #how = :how ADD #count :one",
        "ExpressionAttributeNames": {"#what": "what", "#how": "how", "#count": "count"},
        "ExpressionAttributeValues": {
            ":what": {"S": "effect"},
            ":how": {"S": result["type"]},
            ":one": {"N": "1"},
        },
    }
    return [{"Update": count}]


def _count_calls(run_id: str) -> int:
    answer = _ledger.query(
        TableName=TABLE,
        KeyConditionExpression="#run = :run AND begins_with(#at, :call)",
        ExpressionAttributeNames={"#run": "run", "#at": "at"},
        ExpressionAttributeValues={":run": {"S": run_id}, ":call": {"S": "call#"}},
        ConsistentRead=True,
        Select="COUNT",
    )
    return int(answer["Count"])
