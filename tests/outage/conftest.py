"""A deploy of its own for tests that take away what all pools share (the relay, the completion
function, the rule, or the deployed stack itself), and for what an operator is told of outages."""

from collections.abc import Iterator

import pytest

from local import restart
from tests.support.deploy import Pools, deploy_stack
from tests.support.deploy import ledger as ledger
from tests.support.deploy import pool as pool
from tests.support.deployed import Deployed
from tests.support.ledger import TABLE

POOLS: Pools = {
    "slow": {"maxParallelism": 6, "actionTimeoutSeconds": 20, "tables": [TABLE]},
    "lost": {"maxParallelism": 5, "actionTimeoutSeconds": 1, "tables": [TABLE]},
    "canceled": {"maxParallelism": 4, "actionTimeoutSeconds": 3, "tables": [TABLE]},
    "changed": {"maxParallelism": 2, "actionTimeoutSeconds": 3, "tables": [TABLE]},
    "restarted": {"maxParallelism": 5, "actionTimeoutSeconds": 3, "tables": [TABLE]},
    **{
        name: {"maxParallelism": 2, "actionTimeoutSeconds": 3, "tables": [TABLE]}
        for name in ("left", "wedged", "paused", "emails")
    },
}


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with deploy_stack(tmp_path_factory, POOLS, environment=restart.PERSIST) as stack:
        yield stack
