"""What a function finds around it in tests: its environment variables, its pools, user code, a
clock and the clients of AWS. Nothing here is deployed; the names are those of a stack `Test`.

The world on moto (`tests.support.world`) and the model's (`tests.model.world`) are built on it.
"""

import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from workpool import lookup
from workpool.aws import clients, pools
from workpool.core import clock
from workpool.testing.stack import DEFAULTS
from workpool.testing.stack import forget as forget_deployment

ACCOUNT = "123456789012"
REGION = "us-east-1"
STACK = "Test"
BUCKET = "payloads"
EVENT_BUS = f"{STACK}-events"
POOL = DEFAULTS | {"maxParallelism": 10}
"""A pool of `cdk.json`, as it is deployed."""

START_MS = 1_790_000_000_000
"""The time when a test begins."""


def queue_url(queue: str) -> str:
    """The address of the queue `<stack>-<queue>`."""
    return f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{STACK}-{queue}"


def retrier_arn(pool: str) -> str:
    return f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{STACK}-{pool}-retrier"


def consumer_of(pool: str) -> str:
    """The name of the function that runs the pool's actions."""
    return f"{STACK}-{pool}-consumer"


def variables() -> dict[str, str]:
    """A function's environment variables."""
    return {
        "WORKPOOL_STACK": STACK,
        "WORKPOOL_RUNS_TABLE": "runs",
        "WORKPOOL_STATS_TABLE": "stats",
        "WORKPOOL_PAYLOADS_BUCKET": BUCKET,
        "WORKPOOL_EVENT_BUS": EVENT_BUS,
        "WORKPOOL_WORK_QUEUE": queue_url("{pool}-work"),
        "WORKPOOL_DEAD_LETTER_QUEUE": queue_url("{pool}-dead-letters"),
        "WORKPOOL_PARKED_QUEUE": queue_url("{pool}-parked"),
        "WORKPOOL_SHARED_PARKED_QUEUE": queue_url("parked"),
        "WORKPOOL_RELAY_RETRY_QUEUE": queue_url("relay-retry"),
        "WORKPOOL_RETRIER": retrier_arn("{pool}"),
        "WORKPOOL_CONSUMER": consumer_of("{pool}"),
        "WORKPOOL_COMPLETION_TIMEOUT_SECONDS": "40",
        "IDEMPOTENT_WORKPOOL_LOG_LEVEL": "INFO",
    }


def set_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables().items():
        monkeypatch.setenv(name, value)


def install(
    monkeypatch: pytest.MonkeyPatch,
    source: Path,
    *,
    now_ms: Callable[[], int],
    sleep: Callable[[float], None],
    client: Callable[[str], Any],
) -> None:
    """Let the library find all this: `source` is what `write_source` wrote; `client` makes the
    client of a service."""
    set_variables(monkeypatch)
    monkeypatch.syspath_prepend(str(source))
    monkeypatch.setattr(pools, "POOLS_FILE", source / "pools.json")
    monkeypatch.setattr(lookup, "ROOT", source)
    monkeypatch.setattr(clock, "now_ms", now_ms)
    monkeypatch.setattr(clients, "client", cache(client))
    monkeypatch.setattr(clients, "without_retries", lambda service, _: clients.client(service))
    monkeypatch.setattr(clock, "sleep", sleep)
    forget()


def forget() -> None:
    """Forget what this process knows of a stack, and the user code that it imported."""
    forget_deployment(STACK)
    for name in [it for it in sys.modules if it.split(".")[0] in lookup.PACKAGES.values()]:
        del sys.modules[name]


# What is deployed beside the library


def write_source(source: Path, settings: dict[str, dict[str, Any]]) -> None:
    """The pools, and empty packages for user code."""
    write_pools(source, settings)
    for package in lookup.PACKAGES.values():
        (source / package).mkdir()
        (source / package / "__init__.py").touch()


def write_pools(source: Path, settings: dict[str, dict[str, Any]]) -> None:
    """The settings of each pool. The library reads them anew."""
    (source / "pools.json").write_text(json.dumps(settings))
    pools.pools.cache_clear()


def write_action(source: Path, *, head: str = "def") -> None:
    """The action jobs.work; `set_action` says what it does."""
    _write_job(source, "action", f"{head} work(ctx, args):\n    return do(ctx, args)\n")


def set_action(do: Callable[..., Any]) -> None:
    lookup.find("jobs.work", "action").__globals__["do"] = do


def write_handler(source: Path, *, head: str = "def") -> None:
    """The completion handler jobs.done; `set_handler` says what it does."""
    _write_job(source, "completion", f"{head} done(*given):\n    return do(*given)\n")


def set_handler(do: Callable[..., Any]) -> None:
    lookup.find("jobs.done", "completion").__globals__["do"] = do


def _write_job(source: Path, decorator: lookup.Decorator, function: str) -> None:
    text = f"import workpool\n\n@workpool.{decorator}\n{function}"
    (source / lookup.PACKAGES[decorator] / "jobs.py").write_text(text)
