"""The pools of `cdk.json` as they were deployed: a file of the asset, which the stack writes
(`infra/asset.py`), since an environment holds 4 KB."""

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
    """Whether the function's reserved concurrency enforces maxParallelism."""
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
    """A deployed pool. Raises UnknownPool, naming those that there are."""
    try:
        return pools()[name]
    except KeyError:
        known = ", ".join(sorted(pools()))
        raise UnknownPool(f"no pool {name!r}; deployed are: {known}") from None


def expiry(pool_name: str, now_ms: int) -> int:
    """When a run that is over and done with is forgotten, in epoch seconds. A pool that was
    removed from the deployment still has its runs ended: those keep for a day."""
    known = pools().get(pool_name)
    return now_ms // 1000 + (known.retention_seconds if known else 86_400)


def policy(run: Run) -> Policy:
    """How a run is retried: its own options over its pool's."""
    deployed = pool(run.pool).policy
    return Policy(
        initial_backoff_ms=_own(run.initial_backoff_ms, deployed.initial_backoff_ms),
        base=_own(run.base, deployed.base),
        max_retries=int(_own(run.max_retries, deployed.max_retries)),
    )


def _own(given: float | None, deployed: float) -> float:
    return deployed if given is None else given
