"""What a function knows of its deployment: the environment, and the pools of `cdk.json`.

The stack writes both (`infra/lambdas.py`). Names that differ by pool come with a `{pool}` to
fill in, and the pools' settings in a file of the asset, since an environment holds 4 KB.
"""

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from workpool.errors import UnknownPool
from workpool.retry import Policy
from workpool.run import Run

ENVIRONMENT = frozenset(
    {
        "WORKPOOL_STACK",
        "WORKPOOL_RUNS_TABLE",
        "WORKPOOL_STATS_TABLE",
        "WORKPOOL_PAYLOADS_BUCKET",
        "WORKPOOL_EVENT_BUS",
        "WORKPOOL_WORK_QUEUE",
        "WORKPOOL_DEAD_LETTER_QUEUE",
        "WORKPOOL_PARKED_QUEUE",
        "WORKPOOL_SHARED_PARKED_QUEUE",
        "WORKPOOL_RELAY_RETRY_QUEUE",
        "WORKPOOL_RETRIER",
        "WORKPOOL_CONSUMER",
        "IDEMPOTENT_WORKPOOL_LOG_LEVEL",
    }
)
"""What every function of the stack finds in its environment."""

POOLS_FILE = Path(__file__).parent.parent / "pools.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The environment of a function, checked once."""

    stack: str
    runs_table: str
    stats_table: str
    payloads_bucket: str
    event_bus: str
    relay_retry_queue: str
    log_level: str
    _work_queue: str
    _dead_letter_queue: str
    _parked_queue: str
    _shared_parked_queue: str
    _retrier: str
    _consumer: str

    def work_queue(self, pool: str) -> str:
        """URL of a pool's queue."""
        return self._work_queue.format(pool=pool)

    def dead_letter_queue(self, pool: str) -> str:
        """URL of the queue of a pool's messages that were received too often."""
        return self._dead_letter_queue.format(pool=pool)

    def consumer(self, pool: str) -> str:
        """Name of a pool's consumer function."""
        return self._consumer.format(pool=pool)

    def parked_queue(self, pool: str | None) -> str:
        """URL of the queue where a pool's unreadable messages wait for a person; None: those of
        the queues that all pools share."""
        return self._shared_parked_queue if pool is None else self._parked_queue.format(pool=pool)

    def pool_of_queue(self, arn: str) -> str | None:
        """The pool whose work or dead-letter queue has this ARN; None for one that all share."""
        return _filled(self._work_queue, arn) or _filled(self._dead_letter_queue, arn)

    def retrier(self, pool: str) -> str:
        """ARN of a pool's state machine."""
        return self._retrier.format(pool=pool)


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
def settings() -> Settings:
    """The settings of this process. Raises KeyError naming all that is missing."""
    missing = sorted(name for name in ENVIRONMENT if name not in os.environ)
    if missing:
        raise KeyError(f"the environment lacks {', '.join(missing)}")
    return Settings(
        stack=os.environ["WORKPOOL_STACK"],
        runs_table=os.environ["WORKPOOL_RUNS_TABLE"],
        stats_table=os.environ["WORKPOOL_STATS_TABLE"],
        payloads_bucket=os.environ["WORKPOOL_PAYLOADS_BUCKET"],
        event_bus=os.environ["WORKPOOL_EVENT_BUS"],
        relay_retry_queue=os.environ["WORKPOOL_RELAY_RETRY_QUEUE"],
        log_level=os.environ["IDEMPOTENT_WORKPOOL_LOG_LEVEL"],
        _work_queue=os.environ["WORKPOOL_WORK_QUEUE"],
        _dead_letter_queue=os.environ["WORKPOOL_DEAD_LETTER_QUEUE"],
        _parked_queue=os.environ["WORKPOOL_PARKED_QUEUE"],
        _shared_parked_queue=os.environ["WORKPOOL_SHARED_PARKED_QUEUE"],
        _retrier=os.environ["WORKPOOL_RETRIER"],
        _consumer=os.environ["WORKPOOL_CONSUMER"],
    )


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


def _filled(url: str, arn: str) -> str | None:
    """What stands for {pool} in a queue's URL, if it is the queue of this ARN."""
    before, after = url.rpartition("/")[2].split("{pool}")
    name = arn.rpartition(":")[2]
    if name.startswith(before) and name.endswith(after):
        return name[len(before) : len(name) - len(after)]
    return None


def _own(given: float | None, deployed: float) -> float:
    return deployed if given is None else given
