"""What the commands of local, demo and chaos have in common."""

import os
import subprocess
import sys

import pytest

from local.node import CHECKOUT


@pytest.mark.parametrize("command", [["local", "up"], ["demo"], ["chaos"]])
def test_each_command_says_what_is_missing_without_a_traceback(command, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=CHECKOUT,
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "Node is missing: install Node 20 or newer (with npm)\n"
