"""Operate a pool: pause it, resume it, change its maxParallelism.

Writes the wanted settings to the pool's row first, then applies them to AWS. The sweeper calls
`repair` for what was interrupted, `verbs/deployment.py` calls `enforce` at each deploy. Code of an
older deployment may still run: what was deployed comes from the row, too.
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
    changes = _parse_changes(body, overrides.read(pool.name).newest(pool))
    made = overrides.update(pool.name, **changes)
    try:
        enforce(pool)
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidParameterValueException":
            raise  # The row keeps the new settings; the sweeper applies them later.
        overrides.take_back(pool.name, made)
        _enforce_what_was_restored(pool)
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
        changes["max_parallelism"] = limit
    if "paused" in body:
        if not isinstance(body["paused"], bool):
            raise InvalidRequest(f"paused must be a boolean, got {json.dumps(body['paused'])[:60]}")
        changes["paused"] = body["paused"]
    return changes


def _enforce_what_was_restored(pool: pools.Pool) -> None:
    """Another call may have applied the refused change together with its own. If AWS refuses what
    was restored, too, it is an earlier change that was still being refused: forget it as well."""
    try:
        enforce(pool)
    except ClientError as error:
        if error.response["Error"]["Code"] != "InvalidParameterValueException":
            raise
        overrides.forget_max_parallelism(pool.name)
        enforce(pool)


def enforce(pool: pools.Pool) -> None:
    """Apply the settings of the pool's row to AWS.

    Another call may change the row meanwhile and finish first, so the row is read again afterwards.
    This repeats until the row has stayed the same.
    """
    row = overrides.read(pool.name)
    while True:
        concurrency.enforce(row.newest(pool), limit=row.limit(pool), paused=row.paused)
        before, row = row, overrides.read(pool.name)
        if row == before:
            return


def repair(pool: pools.Pool) -> bool:
    """Apply the settings of the pool's row again if a deploy or a failure undid them. Returns
    whether that was necessary."""
    row = overrides.read(pool.name)
    if is_enforced(pool, row):
        return False
    enforce(pool)
    logs.log("pool-repaired", pool=pool.name, maxParallelism=row.limit(pool), paused=row.paused)
    return True


def is_enforced(pool: pools.Pool, row: overrides.Overrides) -> bool:
    """Whether the settings of the pool's row are those in force."""
    return concurrency.is_enforced(row.newest(pool), limit=row.limit(pool), paused=row.paused)
