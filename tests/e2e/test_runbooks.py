"""Every command of docs/runbooks.md, as it stands there, on the deployed stack."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import aws_cli
from tests.support.command import SCRIPT, Command
from workpool import IdempotentWorkpool

pytestmark = pytest.mark.e2e

CHECKOUT = Path(__file__).parents[2]
RUNBOOKS = (CHECKOUT / "docs" / "runbooks.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", RUNBOOKS, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """A directory with `workpool` and `aws`."""
    directory = tmp_path_factory.mktemp("bin")
    (directory / "workpool").symlink_to(SCRIPT)
    (directory / "aws").write_text(f'#!/bin/sh\nexec {sys.executable} {aws_cli.__file__} "$@"\n')
    (directory / "aws").chmod(0o755)
    return directory


@pytest.fixture(scope="module")
def run_id(stack):
    environment = pytest.MonkeyPatch()
    for name, value in stack.environment.items():
        environment.setenv(name, value)
    yield IdempotentWorkpool("emails").run_after(3_600_000, "probe.work", {"to": "ada"})
    environment.undo()


@pytest.mark.promise(
    "Alarms, dashboard, tracing", "The commands in a runbook run as they are written"
)
@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_runbooks_commands_run_as_they_stand_there(stack, commands, run_id, block):
    script = block.replace("Workpool-", f"{stack.name}-").replace("RUN_ID", run_id)
    environment = Command(stack.environment, pool="emails").environment
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={**environment, "PATH": f"{commands}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr


def test_every_command_of_the_runbooks_is_in_a_block_that_is_run():
    outside = re.sub(r"^```sh\n.*?^```$", "", RUNBOOKS, flags=re.DOTALL | re.MULTILINE)
    assert "```" not in outside
    assert not re.search(r"`(workpool|aws) ", outside)


def test_every_event_that_is_looked_for_is_one_that_is_logged():
    library = CHECKOUT / "functions" / "workpool"
    source = "".join(path.read_text() for path in library.rglob("*.py"))
    events = set(re.findall(r'\$\.event = "([a-z-]+)"', RUNBOOKS))
    assert len(events) == 4
    for event in events:
        assert re.search(rf'\blog(_error)?\(\s*"{event}"', source), event
