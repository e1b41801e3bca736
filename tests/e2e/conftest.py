"""One emulator and one real deploy for all end-to-end tests, beside any `make up` that runs.

The project is deployed from a copy, into which the tests' actions and completion handlers are put
where a user would put his own. Everything is stopped at the end, whatever happened.
"""

import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from local import Deployment, Emulator, deploy
from tests.e2e import readme
from tests.e2e.deployed import Deployed
from tests.e2e.ledger import TABLE, Ledger

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
COMPLETIONS = {"timeoutSeconds": 5, "memoryMb": 256, "maxConcurrency": 10}
POOLS: dict[str, dict[str, Any]] = {
    "default": {"maxParallelism": 10, "actionTimeoutSeconds": 3, "tables": [TABLE]},
    "two": {"maxParallelism": 2, "maxRetries": 1, "actionTimeoutSeconds": 3, "tables": [TABLE]},
    "one": {"maxParallelism": 1, "actionTimeoutSeconds": 3, "tables": [TABLE]},
    **{
        name: {"maxParallelism": 2, "actionTimeoutSeconds": 3, "tables": [TABLE]}
        for name in ("scaled", "listed", "paused", "changed", "cli", "emails", "wedged")
    },
    "counted": {"maxParallelism": 10, "initialBackoffMs": 25, "actionTimeoutSeconds": 3},
    "bulk": {"maxParallelism": 20, "actionTimeoutSeconds": 3},
    "canceled": {"maxParallelism": 20, "actionTimeoutSeconds": 3, "tables": [TABLE]},
    "slow": {"maxParallelism": 10, "actionTimeoutSeconds": 20, "tables": [TABLE]},
    "large": {"maxParallelism": 4, "actionTimeoutSeconds": 20, "tables": [TABLE]},
    "lost": {"maxParallelism": 20, "actionTimeoutSeconds": 1, "tables": [TABLE]},
}


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    project = tmp_path_factory.mktemp("project")
    _copy_project(project)
    emulator = Emulator(directory=tmp_path_factory.mktemp("emulator"), port=_free_port())
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        emulator.start()

        def deployed(pools: dict[str, dict[str, Any]]) -> Deployment:
            context = {"stackName": "WorkpoolTest", "pools": pools, "completions": COMPLETIONS}
            return deploy(project=project, emulator=emulator, context=context)

        yield Deployed(deployed(POOLS), redeploy=deployed)
    finally:
        emulator.stop()
        signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def ledger(stack: Deployed) -> Ledger:
    ledger = Ledger(stack.client("dynamodb"))
    ledger.create()
    return ledger


@pytest.fixture(scope="session", autouse=True)
def early(stack: Deployed, ledger: Ledger) -> dict[str, str]:
    """Runs whose processes die: redelivery takes a minute, in which the other tests go on."""
    crash = {"action": "probe.crash", "options": {"onComplete": "probe.settled"}}
    handler = {"action": "probe.work", "options": {"onComplete": "probe.dies_once"}}
    return {"crash": stack.submit(crash)["runId"], "handler": stack.submit(handler)["runId"]}


def _copy_project(to: Path) -> None:
    for name in ("app.py", "cdk.json"):
        shutil.copy(CHECKOUT / name, to)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("infra", "functions"):
        shutil.copytree(CHECKOUT / name, to / name, ignore=ignored)
    for kind in ("actions", "completions"):
        for module in (HERE / kind).glob("*.py"):
            shutil.copy(module, to / "functions" / kind)
    for path, text in readme.files().items():
        (to / path).write_text(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
