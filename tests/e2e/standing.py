"""A stack for tests: the real deploy, on an emulator of its own, beside any `make up` that runs.

The project is deployed from a copy that has the tests' actions and completion handlers, and those
of the README. Everything is stopped at the end, whatever happened.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from local import Deployment, Emulator, copy_project, deploy
from local.command import sigterm_as_ctrl_c
from tests.e2e import readme
from tests.e2e.deployed import Deployed
from tests.e2e.ledger import Ledger
from workpool import IdempotentWorkpool

HERE = Path(__file__).parent
COMPLETIONS = {"timeoutSeconds": 5, "memoryMb": 256, "maxConcurrency": 3}

Pools = dict[str, dict[str, Any]]


@contextmanager
def standing(
    factory: pytest.TempPathFactory, pools: Pools, environment: Mapping[str, str] | None = None
) -> Iterator[Deployed]:
    """A deployed stack with these pools and the table that its actions write to. `environment` is
    the emulator's."""
    project = copy_project(factory.mktemp("project"), code=HERE)
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
    """What the actions and handlers of the package's stack wrote."""
    return Ledger(stack.client("dynamodb"))


@pytest.fixture
def pool(stack: Deployed, monkeypatch: pytest.MonkeyPatch) -> type[IdempotentWorkpool]:
    """The Python client as an application has it: the stack's addresses are in its environment."""
    for name, value in stack.environment.items():
        monkeypatch.setenv(name, value)
    return IdempotentWorkpool
