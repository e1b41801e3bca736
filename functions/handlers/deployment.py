"""Invoked by CloudFormation at each deploy, after everything else is deployed: a custom resource.

It applies the limits of the pools, and refuses a deploy that removes a pool with open runs. It
answers CloudFormation in every case; otherwise a deploy would wait for the answer.
"""

import json
import urllib.request
from typing import Any

from workpool.aws import logs
from workpool.core import clock
from workpool.verbs import deployment

RESERVE_MS = 40_000
"""The last part of the function's time, kept for the answer."""

ANSWER_TRIES = 3
MAX_REASON = 800
"""CloudFormation takes an answer of at most 4096 bytes."""


def handler(event: Any, context: Any) -> None:
    """A create, an update or a delete of the custom resource. Its property `Pools` is a JSON text:
    {pool: {"maxParallelism": n, "reservedConcurrency": true or false}}"""
    reason = None
    try:
        _carry_out(event, lambda: bool(context.get_remaining_time_in_millis() > RESERVE_MS))
    except Exception as error:  # Whatever it is: CloudFormation waits for an answer.
        logs.log_error("deploy-refused", error)
        reason = str(error)[:MAX_REASON] or type(error).__name__
    _answer(event, reason)


def _carry_out(event: Any, in_time: Any) -> None:
    now = _pools(event["ResourceProperties"])
    before = _pools(event.get("OldResourceProperties", {}))
    if event["RequestType"] == "Delete":
        deployment.refuse_removal(now)
        return
    deployment.refuse_removal(before.keys() - now.keys())
    deployment.apply(now, in_time=in_time)


def _pools(properties: Any) -> dict[str, deployment.Deployed]:
    return {
        name: deployment.Deployed(
            max_parallelism=says["maxParallelism"], reserved=says["reservedConcurrency"]
        )
        for name, says in json.loads(properties.get("Pools", "{}")).items()
    }


def _answer(event: Any, reason: str | None) -> None:
    """Tell CloudFormation how it went. Raises OSError if it cannot be reached: then Lambda invokes
    the function again."""
    answer = {
        "Status": "SUCCESS" if reason is None else "FAILED",
        "Reason": reason or "done",
        # Never another id: it would make CloudFormation delete the resource with the old one.
        "PhysicalResourceId": "settings",
        **{name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")},
    }
    request = urllib.request.Request(
        event["ResponseURL"],
        data=json.dumps(answer, ensure_ascii=False).encode(),
        method="PUT",
        headers={"Content-Type": ""},  # The URL was signed without one.
    )
    for left in reversed(range(ANSWER_TRIES)):
        try:
            with urllib.request.urlopen(request, timeout=8):
                return
        except OSError:
            if left == 0:
                raise
            clock.sleep(1)
