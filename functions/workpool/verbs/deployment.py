"""What each deploy does to the pools, after everything else is deployed.

The template creates a consumer closed: nothing of its pool starts until this module opens it, so a
deploy neither exceeds a limit nor interrupts a pause. It takes what is deployed from the deploy
itself: the code that runs here may be newer, if CloudFormation rolls a deploy back. Called by the
deployment function only.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from botocore.exceptions import ClientError

from workpool.aws import concurrency, logs, open_runs, overrides
from workpool.aws.pools import Pool, pools
from workpool.core import clock
from workpool.verbs import control

LOOK_SECONDS = 3
"""How long to wait before looking again whether AWS has applied a change of a mapping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What a deploy says of a pool."""

    max_parallelism: int
    reserved: bool


class PoolsInUse(Exception):
    """Pools cannot be removed: they have open runs."""


def apply(deployed: Mapping[str, Deployed], *, in_time: Callable[[], bool]) -> None:
    """Let every pool have the limit of this deploy, or what was set at run time if the deploy says
    what the last one said. A paused pool stays paused.

    Raises ClientError if AWS refuses a limit. A mapping that AWS is still changing when the time
    is over is left to the sweeper.
    """
    for name, says in deployed.items():
        overrides.record_deploy(name, max_parallelism=says.max_parallelism, reserved=says.reserved)
    here = [pool for name, pool in pools().items() if name in deployed]
    _enforce_each(here)
    for pool in here:
        if not deployed[pool.name].reserved:
            concurrency.unreserve(pool)
    while not all([control.is_enforced(pool, overrides.read(pool.name)) for pool in here]):
        if not in_time():
            logs.log("deploy-unfinished", pools=[pool.name for pool in here])
            break
        clock.sleep(LOOK_SECONDS)
        _enforce_each(here)
    logs.log("deployed", pools={name: says.max_parallelism for name, says in deployed.items()})


def _enforce_each(left: list[Pool]) -> None:
    """Enforce the limits of these pools. One pool's higher limit may fit into the account only
    after another pool's was lowered, so those that AWS refuses are tried again after the others."""
    while left:
        refused = []
        for pool in left:
            try:
                control.enforce(pool)
            except ClientError as error:
                if error.response["Error"]["Code"] != "InvalidParameterValueException":
                    raise
                refused.append((pool, error))
        if len(refused) == len(left):
            raise refused[0][1]
        left = [pool for pool, _ in refused]


def refuse_removal(names: Iterable[str]) -> None:
    """Raise PoolsInUse if one of these pools has open runs, or runs whose completion is parked."""
    used = [
        name
        for name in names
        if open_runs.list_open_keys(name, limit=1)
        or open_runs.list_open_keys(name, parked=True, limit=1)
    ]
    if used:
        commands = " and ".join(f"`workpool drain -p {name}`" for name in used)
        raise PoolsInUse(
            f"{', '.join(used)} cannot be removed: there are open runs. "
            f"Before you remove a pool or the stack, call {commands}."
        )
