"""The action of the chaos runs.

It writes its beginning, its end and its process into the chaos ledger, and fails as its arguments
say. Chaos deploys a copy of the project with it.
"""

import os
import time
from typing import Any
from uuid import uuid4

import boto3

from workpool import ActionContext, NonRetryableError, action

_ledger = boto3.client("dynamodb")
TABLE = "workpool-chaos-ledger"


@action
def work(ctx: ActionContext, args: dict[str, Any]) -> dict[str, Any]:
    """Sleep for `ms` milliseconds. The first `fails` attempts fail in the way that `how` says.

    `how` is raise, refuse, overrun or exit, and `at` says when to exit: begun, midway or done. The
    first and the last statement take the times, so the interval lies within the real one.
    """
    began = time.time_ns()
    attempt = uuid4().hex
    bad = ctx.retries < args["fails"]
    how = args["how"] if bad else "ok"

    def write(what: str, at: int, outcome: str | None = None) -> None:
        item = {
            "run": {"S": ctx.run_id},
            "at": {"S": f"{what}#{attempt}"},
            "what": {"S": what},
            "attempt": {"S": attempt},
            "label": {"S": args["label"]},
            "pool": {"S": ctx.pool},
            "pid": {"N": str(os.getpid())},
            "retries": {"N": str(ctx.retries)},
            "time": {"N": str(at)},
        }
        if outcome is not None:
            item["outcome"] = {"S": outcome}
        _ledger.put_item(TableName=TABLE, Item=item)

    write("start", began)
    if how == "exit" and args["at"] == "begun":
        os._exit(1)
    time.sleep(args["ms"] / 2000)
    if how == "exit" and args["at"] == "midway":
        os._exit(1)
    time.sleep(args["ms"] / 2000)
    if how == "overrun":
        time.sleep(60)
    write("end", time.time_ns(), how)
    if how == "exit":
        os._exit(1)  # The work is done, and nobody knows of it.
    if how == "refuse":
        raise NonRetryableError("refused on purpose")
    if how == "raise":
        raise RuntimeError(f"attempt {ctx.retries} fails on purpose")
    return {"attempt": attempt}
