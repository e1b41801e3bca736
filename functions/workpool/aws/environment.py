"""The environment of a function: what the function knows about its deployment.

The stack writes it (`infra/workpool.py`). An environment holds only 4 KB, so a name that differs by
pool is one variable with `{pool}` in it.
"""

import os
from dataclasses import dataclass
from functools import cache

VARIABLES = frozenset(
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
        "WORKPOOL_COMPLETION_TIMEOUT_SECONDS",
        "IDEMPOTENT_WORKPOOL_LOG_LEVEL",
    }
)
"""The variables that every function of the stack has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The environment of a function: complete, and read once."""

    stack: str
    runs_table: str
    stats_table: str
    payloads_bucket: str
    event_bus: str
    relay_retry_queue: str
    completion_timeout_ms: int
    """The time that a completion handler was promised."""
    log_level: str
    _work_queue: str
    _dead_letter_queue: str
    _parked_queue: str
    _shared_parked_queue: str
    _retrier: str
    _consumer: str

    def work_queue(self, pool: str) -> str:
        """URL of a pool's work queue."""
        return self._work_queue.format(pool=pool)

    def dead_letter_queue(self, pool: str) -> str:
        """URL of the queue for a pool's messages that were received too often."""
        return self._dead_letter_queue.format(pool=pool)

    def consumer(self, pool: str) -> str:
        """Name of a pool's consumer function."""
        return self._consumer.format(pool=pool)

    def parked_queue(self, pool: str | None) -> str:
        """URL of the queue where a pool's unreadable messages wait for a person. None: those of the
        queues that all pools share."""
        return self._shared_parked_queue if pool is None else self._parked_queue.format(pool=pool)

    def pool_of_queue(self, arn: str) -> str | None:
        """The pool whose work or dead-letter queue has this ARN; None for a queue of all pools."""
        return _pool_in(self._work_queue, arn) or _pool_in(self._dead_letter_queue, arn)

    def retrier(self, pool: str) -> str:
        """ARN of a pool's Retrier, a state machine."""
        return self._retrier.format(pool=pool)


@cache
def environment() -> Environment:
    """The environment of this process. Raises KeyError, which names all missing variables."""
    missing = sorted(name for name in VARIABLES if name not in os.environ)
    if missing:
        raise KeyError(f"the environment lacks {', '.join(missing)}")
    return Environment(
        stack=os.environ["WORKPOOL_STACK"],
        runs_table=os.environ["WORKPOOL_RUNS_TABLE"],
        stats_table=os.environ["WORKPOOL_STATS_TABLE"],
        payloads_bucket=os.environ["WORKPOOL_PAYLOADS_BUCKET"],
        event_bus=os.environ["WORKPOOL_EVENT_BUS"],
        relay_retry_queue=os.environ["WORKPOOL_RELAY_RETRY_QUEUE"],
        completion_timeout_ms=int(os.environ["WORKPOOL_COMPLETION_TIMEOUT_SECONDS"]) * 1000,
        log_level=os.environ["IDEMPOTENT_WORKPOOL_LOG_LEVEL"],
        _work_queue=os.environ["WORKPOOL_WORK_QUEUE"],
        _dead_letter_queue=os.environ["WORKPOOL_DEAD_LETTER_QUEUE"],
        _parked_queue=os.environ["WORKPOOL_PARKED_QUEUE"],
        _shared_parked_queue=os.environ["WORKPOOL_SHARED_PARKED_QUEUE"],
        _retrier=os.environ["WORKPOOL_RETRIER"],
        _consumer=os.environ["WORKPOOL_CONSUMER"],
    )


def _pool_in(url: str, arn: str) -> str | None:
    """The pool's name in the ARN, if the ARN is one of the queues with this URL."""
    before, after = url.rpartition("/")[2].split("{pool}")
    name = arn.rpartition(":")[2]
    if name.startswith(before) and name.endswith(after):
        return name[len(before) : len(name) - len(after)]
    return None
