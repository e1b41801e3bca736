"""Operate a pool: pause it, resume it, change its maxParallelism.

Writes the wanted settings to the pool's row first, then applies them to AWS. The sweeper calls
`repair` for what was interrupted.
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
    """The JSON of a pool, as it is now."""
    row = overrides.read(pool.name)
    shape: dict[str, Any] = {
        "name": pool.name,
        "maxParallelism": row.limit(pool),
        "paused": row.paused,
        "deadLetters": _count_given_up(pool.name),
    }
    return shape if row.cancel_before is None else shape | {"cancelingBefore": row.cancel_before}


def _count_given_up(pool: str) -> int:
    """Count the messages that wait for a person: dead letters, and messages that nobody can read
    and that were set aside."""
    return queues.depth(environment().dead_letter_queue(pool)) + queues.depth(
        environment().parked_queue(pool)
    )


@library_errors()
def list_pools() -> dict[str, Any]:
    """All pools, as they are now."""
    return {"pools": [describe(pool) for pool in pools.pools().values()]}


@library_errors()
def change(pool_name: str, body: Any) -> dict[str, Any]:
    """Change {"maxParallelism"?, "paused"?} without a deploy; maxParallelism then holds until
    cdk.json's value changes. Returns the pool. Raises UnknownPool, or InvalidRequest; then nothing
    has changed."""
    pool = pools.pool(pool_name)
    changes = _parse_changes(body, pool)
    before = overrides.read(pool.name)
    overrides.update(pool.name, **changes)
    try:
        enforce(pool)
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidParameterValueException":
            raise  # The row keeps the new settings; the sweeper applies them later.
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


def _parse_changes(body: Any, pool: pools.Pool) -> dict[str, bool | int]:
    """The fields of the pool's row that a request changes. Raises InvalidRequest."""
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
    """Apply the settings of the pool's row to AWS.

    Another call may change the row meanwhile and finish first, so the row is read again afterwards.
    This repeats until the row has stayed the same.
    """
    row = overrides.read(pool.name)
    while True:
        concurrency.enforce(pool, limit=row.limit(pool), paused=row.paused)
        before, row = row, overrides.read(pool.name)
        if (row.limit(pool), row.paused) == (before.limit(pool), before.paused):
            return


def repair(pool: pools.Pool) -> bool:
    """Apply the settings of the pool's row again if a deploy or a failure undid them. Returns
    whether that was necessary."""
    row = overrides.read(pool.name)
    limit, paused = row.limit(pool), row.paused
    if concurrency.is_enforced(pool, limit=limit, paused=paused):
        return False
    enforce(pool)
    logs.log("pool-repaired", pool=pool.name, maxParallelism=limit, paused=paused)
    return True
