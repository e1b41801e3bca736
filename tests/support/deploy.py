"""A stack for tests: the real deploy, on an emulator of its own, beside any `make up` that runs.

The project is deployed from a copy. It has the actions and completion handlers of `user_code`, and
the files that the README tells a reader to write. Everything is stopped at the end, whatever
happened. Each lane that deploys has its own `stack` fixture, and imports the fixtures below.
"""

import shutil
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from local import Deployment, Emulator, deploy
from tests.support import readme
from tests.support.deployed import Deployed
from tests.support.ledger import Ledger
from workpool import IdempotentWorkpool

USER_CODE = Path(__file__).parent / "user_code"
CHECKOUT = Path(__file__).parents[2]
COMPLETIONS = {"timeoutSeconds": 5, "memoryMb": 256, "maxConcurrency": 3}

Pools = dict[str, dict[str, Any]]


@contextmanager
def deploy_stack(
    factory: pytest.TempPathFactory, pools: Pools, environment: Mapping[str, str] | None = None
) -> Iterator[Deployed]:
    """A deployed stack with these pools and the table that its actions write to. `environment` is
    the emulator's."""
    project = factory.mktemp("project")
    _copy_project(project)
    emulator = Emulator(
        directory=factory.mktemp("emulator"), port=_free_port(), environment=environment
    )
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        emulator.start()

        def deployed(pools: Pools) -> Deployment:
            context = {"stackName": "WorkpoolTest", "pools": pools, "completions": COMPLETIONS}
            return deploy(project=project, emulator=emulator, context=context)

        Ledger(emulator.client("dynamodb")).create()
        yield Deployed(deployed(pools), redeploy=deployed)
    finally:
        emulator.stop()
        signal.signal(signal.SIGTERM, before)


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


def _copy_project(to: Path) -> None:
    for name in ("app.py", "cdk.json"):
        shutil.copy(CHECKOUT / name, to)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("infra", "functions"):
        shutil.copytree(CHECKOUT / name, to / name, ignore=ignored)
    for kind in ("actions", "completions"):
        for module in (USER_CODE / kind).glob("*.py"):
            shutil.copy(module, to / "functions" / kind)
    for path, text in readme.files().items():
        (to / path).write_text(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
