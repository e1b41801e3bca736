"""One emulator and one real deploy for all end-to-end tests but those of tests/outage."""

from collections.abc import Iterator

import pytest

from tests.support.deploy import Pools, deploy_stack
from tests.support.deploy import ledger as ledger
from tests.support.deploy import pool as pool
from tests.support.deployed import Deployed
from tests.support.ledger import TABLE

POOLS: Pools = {
    "default": {"maxParallelism": 5, "actionTimeoutSeconds": 3, "tables": [TABLE]},
    "two": {"maxParallelism": 2, "maxRetries": 1, "actionTimeoutSeconds": 3, "tables": [TABLE]},
    "one": {"maxParallelism": 1, "actionTimeoutSeconds": 3, "tables": [TABLE]},
    **{
        name: {"maxParallelism": 2, "actionTimeoutSeconds": 3, "tables": [TABLE]}
        for name in ("listed", "paused", "cli", "emails")
    },
    # Its actions take 2.5 s, in eight processes that are loaded at the same moment.
    "scaled": {"maxParallelism": 2, "actionTimeoutSeconds": 10, "tables": [TABLE]},
    "counted": {"maxParallelism": 4, "initialBackoffMs": 25, "actionTimeoutSeconds": 3},
    "bulk": {"maxParallelism": 4, "actionTimeoutSeconds": 3},
    "slow": {"maxParallelism": 4, "actionTimeoutSeconds": 20, "tables": [TABLE]},
    "large": {"maxParallelism": 4, "actionTimeoutSeconds": 20, "tables": [TABLE]},
}


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with deploy_stack(tmp_path_factory, POOLS) as stack:
        yield stack


@pytest.fixture(scope="package", autouse=True)
def early(stack: Deployed) -> dict[str, str]:
    """Runs whose processes die: redelivery takes a minute, in which the other tests go on."""
    crash = {"action": "probe.crash", "options": {"onComplete": "probe.settled"}}
    handler = {"action": "probe.work", "options": {"onComplete": "probe.dies_once"}}
    runs = {"crash": stack.submit(crash)["runId"], "handler": stack.submit(handler)["runId"]}
    stack.status("default", runs["crash"])  # Loads the API's process: no test is to wait for that.
    return runs
