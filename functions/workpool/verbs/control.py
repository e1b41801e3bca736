"""Operate a pool: pause, resume, change maxParallelism. Writes the pool's row first, which is what
should be, then makes it so; the sweeper repairs what was interrupted.
"""

import json
from typing import Any

from botocore.exceptions import ClientError

from workpool.aws import concurrency, logs, overrides, pools, queues
from workpool.aws.clients import library_errors
from workpool.aws.environment import environment
from workpool.errors import InvalidRequest

MAX_PARALLELISM = 1000


def describe(pool: pools.Pool) -> dict[str, Any]:
    """The pool as it is now."""
    row = overrides.read(pool.name)
    shape: dict[str, Any] = {
        "name": pool.name,
        "maxParallelism": row.limit(pool),
        "paused": row.paused,
        "deadLetters": _given_up(pool.name),
    }
    return shape if row.cancel_before is None else shape | {"cancelingBefore": row.cancel_before}


def _given_up(pool: str) -> int:
    """Messages that were given up: in the dead-letter queue, or parked for a person."""
    return queues.depth(environment().dead_letter_queue(pool)) + queues.depth(
        environment().parked_queue(pool)
    )


@library_errors()
def list_pools() -> dict[str, Any]:
    """All pools."""
    return {"pools": [describe(pool) for pool in pools.pools().values()]}


@library_errors()
def change(pool_name: str, body: Any) -> dict[str, Any]:
    """Change {"maxParallelism"?, "paused"?}; in force without a deploy until cdk.json's value
    changes. Answers the pool. Raises InvalidRequest, and then nothing changed."""
    pool = pools.pool(pool_name)
    changes = _checked(body, pool)
    before = overrides.read(pool.name)
    overrides.update(pool.name, **changes)
    try:
        enforce(pool)
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidParameterValueException":
            raise  # The row stands: the sweeper makes it so later.
        overrides.update(
            pool.name,
            paused=before.paused,
            max_parallelism=before.limit(pool),
            overrode=pool.max_parallelism,
        )
        raise InvalidRequest(
            f"maxParallelism: AWS refused it: {error.response['Error'].get('Message')}"
        ) from error
    logs.log("pool-changed", pool=pool.name, changes=changes)
    return describe(pool)


def _checked(body: Any, pool: pools.Pool) -> dict[str, bool | int]:
    if not isinstance(body, dict) or not body or not body.keys() <= {"maxParallelism", "paused"}:
        raise InvalidRequest("give maxParallelism, paused, or both")
    changes: dict[str, bool | int] = {}
    if "maxParallelism" in body:
        limit = body["maxParallelism"]
        if type(limit) is not int or not 1 <= limit <= MAX_PARALLELISM:
            raise InvalidRequest(
                f"maxParallelism must be an integer from 1 to {MAX_PARALLELISM}, "
                f"got {json.dumps(limit)[:60]}"
            )
        if limit == 1 and not pool.reserved:
            raise InvalidRequest(
                "maxParallelism 1 needs reserved concurrency, which is switched off"
            )
        changes |= {"max_parallelism": limit, "overrode": pool.max_parallelism}
    if "paused" in body:
        if not isinstance(body["paused"], bool):
            raise InvalidRequest(f"paused must be a boolean, got {json.dumps(body['paused'])[:60]}")
        changes["paused"] = body["paused"]
    return changes


def enforce(pool: pools.Pool) -> None:
    """Make it so, until the row says afterwards what it said before: another call may change it
    meanwhile, and be done sooner."""
    row = overrides.read(pool.name)
    while True:
        concurrency.enforce(pool, limit=row.limit(pool), paused=row.paused)
        before, row = row, overrides.read(pool.name)
        if (row.limit(pool), row.paused) == (before.limit(pool), before.paused):
            return


def repair(pool: pools.Pool) -> bool:
    """What a change at run time set and a deploy or a failure undid is set again."""
    row = overrides.read(pool.name)
    limit, paused = row.limit(pool), row.paused
    if concurrency.is_enforced(pool, limit=limit, paused=paused):
        return False
    enforce(pool)
    logs.log("pool-repaired", pool=pool.name, maxParallelism=limit, paused=paused)
    return True
