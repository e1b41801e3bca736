"""Actions of the tests on the emulator: they write what they do into the ledger."""

import asyncio
import os
import time
from typing import Any

import boto3

from workpool import ActionContext, IdempotentWorkpool, NonRetryableError, action

_ledger = boto3.client("dynamodb")


def _write(ctx: ActionContext, what: str) -> None:
    _ledger.put_item(
        TableName="ledger",
        Item={
            "run": {"S": ctx.run_id},
            "at": {"S": f"{time.time_ns()}"},
            "what": {"S": what},
            "retries": {"N": str(ctx.retries)},
        },
    )


@action
def work(ctx: ActionContext, args: dict[str, Any]) -> dict[str, Any]:
    """Sleeps `seconds` in each attempt, and fails in the first `failures` of them."""
    _write(ctx, "start")
    time.sleep(args.get("seconds", 0))
    if ctx.retries < args.get("failures", 0):
        raise RuntimeError(f"attempt {ctx.retries} fails on purpose")
    _write(ctx, "end")
    return {"attempts": ctx.retries + 1}


@action
async def gently(ctx: ActionContext, args: dict[str, Any]) -> str:
    await asyncio.sleep(0.01)
    return "async"


@action
def refuse(ctx: ActionContext, args: dict[str, Any]) -> None:
    _write(ctx, "start")
    raise NonRetryableError("no such card")


@action
def swell(ctx: ActionContext, args: dict[str, Any]) -> str:
    """Returns a value of `bytes` bytes of JSON."""
    return "x" * (args["bytes"] - 2)


@action
def crash(ctx: ActionContext, args: dict[str, Any]) -> str:
    """Ends its process on the first attempt."""
    _write(ctx, "start")
    if ctx.retries == 0:
        os._exit(1)
    return "recovered"


@action
def overrun(ctx: ActionContext, args: dict[str, Any]) -> str:
    """Runs longer than its pool allows, on the first attempt."""
    _write(ctx, "start")
    if ctx.retries == 0:
        time.sleep(60)
    return "in time"


@action
def spread(ctx: ActionContext, args: dict[str, Any]) -> str:
    """Submits another run from inside an action."""
    return IdempotentWorkpool("default").run(work, {}, idempotency_key=f"after-{ctx.run_id}")


def undecorated(ctx: ActionContext, args: dict[str, Any]) -> None:
    """Nobody may run this."""
