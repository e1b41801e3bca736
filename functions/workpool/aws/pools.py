"""The pools of `cdk.json` as they were deployed. The stack writes them into a file of the asset
(`infra/asset.py`), since an environment holds only 4 KB.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from workpool.core.retry import Policy
from workpool.core.run import Run
from workpool.errors import UnknownPool

POOLS_FILE = Path(__file__).parents[2] / "pools.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A pool as it was deployed."""

    name: str
    policy: Policy
    action_timeout_ms: int
    retention_seconds: int
    stats_window_ms: int
    max_parallelism: int
    reserved: bool
    """Whether reserved concurrency enforces maxParallelism."""
    lambda_actions: frozenset[str]
    tracing: bool = False


@cache
def pools() -> dict[str, Pool]:
    """The deployed pools by name."""
    return {
        name: Pool(
            name=name,
            policy=Policy(
                initial_backoff_ms=deployed["initialBackoffMs"],
                base=deployed["base"],
                max_retries=deployed["maxRetries"],
            ),
            action_timeout_ms=deployed["actionTimeoutSeconds"] * 1000,
            retention_seconds=deployed["retentionSeconds"],
            stats_window_ms=deployed["statsWindowMs"],
            max_parallelism=deployed["maxParallelism"],
            reserved=deployed.get("reservedConcurrency", True),
            lambda_actions=frozenset(deployed["lambdaActions"]),
            tracing=deployed.get("tracing", False),
        )
        for name, deployed in json.loads(POOLS_FILE.read_text()).items()
    }


def pool(name: str) -> Pool:
    """A deployed pool. Raises UnknownPool, which names the deployed pools."""
    try:
        return pools()[name]
    except KeyError:
        known = ", ".join(sorted(pools()))
        raise UnknownPool(f"no pool {name!r}; deployed are: {known}") from None


def expiry(pool_name: str, now_ms: int) -> int:
    """When a run will be forgotten if nothing is left to do for it now, in epoch seconds. Runs may
    still end in a pool that is no longer deployed: these are kept for one day."""
    deployed = pools().get(pool_name)
    return now_ms // 1000 + (deployed.retention_seconds if deployed else 86_400)


def policy(run: Run) -> Policy:
    """How a run is retried: its own options, or else its pool's."""
    deployed = pool(run.pool).policy
    return Policy(
        initial_backoff_ms=_own_or_deployed(run.initial_backoff_ms, deployed.initial_backoff_ms),
        base=_own_or_deployed(run.base, deployed.base),
        max_retries=int(_own_or_deployed(run.max_retries, deployed.max_retries)),
    )


def _own_or_deployed(own: float | None, deployed: float) -> float:
    return deployed if own is None else own
