"""A stack for tests: the real deploy, on an emulator of its own, beside any `make up` that runs.

The project is deployed from a copy. It has the actions and completion handlers of `user_code`, and
the files that the README tells a reader to write. Everything is stopped at the end, whatever
happened. Each lane that deploys has its own `stack` fixture, and imports the fixtures below.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from local import Deployment, Emulator, copy_project, deploy
from local.command import sigterm_as_ctrl_c
from tests.support import readme
from tests.support.deployed import Deployed
from tests.support.ledger import Ledger
from workpool import IdempotentWorkpool

USER_CODE = Path(__file__).parent / "user_code"
COMPLETIONS = {"timeoutSeconds": 5, "memoryMb": 256, "maxConcurrency": 3}

Pools = dict[str, dict[str, Any]]


@contextmanager
def deploy_stack(
    factory: pytest.TempPathFactory, pools: Pools, environment: Mapping[str, str] | None = None
) -> Iterator[Deployed]:
    """A deployed stack with these pools and the table that its actions write to. `environment` is
    the emulator's."""
    project = copy_project(factory.mktemp("project"), code=USER_CODE)
    for path, text in readme.files().items():
        (project / path).write_text(text)
    emulator = Emulator(directory=factory.mktemp("emulator"), port=0, environment=environment)
    with sigterm_as_ctrl_c():
        try:
            emulator.start()

            def deployed(pools: Pools) -> Deployment:
                context = {"stackName": "WorkpoolTest", "pools": pools, "completions": COMPLETIONS}
                return deploy(project=project, emulator=emulator, context=context)

            Ledger(emulator.client("dynamodb")).create()
            yield Deployed(deployed(pools), redeploy=deployed)
        finally:
            emulator.stop()


@pytest.fixture(scope="package")
def ledger(stack: Deployed) -> Ledger:
    """What the actions and handlers of the lane's stack wrote."""
    return Ledger(stack.client("dynamodb"))


@pytest.fixture
def pool(stack: Deployed, monkeypatch: pytest.MonkeyPatch) -> type[IdempotentWorkpool]:
    """The Python client of an application that has the stack's addresses in its environment."""
    for name, value in stack.environment.items():
        monkeypatch.setenv(name, value)
    return IdempotentWorkpool
