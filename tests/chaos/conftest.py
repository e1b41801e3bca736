"""The minute of chaos has a process and an emulator of its own: it is spent beside the tests that
need none, and asked for its report at the very end. Begun only if its test is to be run."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SEED = os.environ.get("CHAOS_SEED", "1")


@dataclass
class Minute:
    """A run of `make chaos`."""

    process: subprocess.Popen[str]
    report: Path
    output: Path

    def end(self) -> int:
        """Its exit code, when it is over."""
        return self.process.wait(timeout=600)

    def stop(self) -> None:
        """As by Ctrl-C, which stops its emulator."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.process.kill()


_MINUTE = pytest.StashKey[Minute]()


def pytest_collection_finish(session: pytest.Session) -> None:
    asked = any(item.get_closest_marker("chaos") for item in session.items)
    if asked and not session.config.option.collectonly:
        factory = pytest.TempPathFactory.from_config(session.config, _ispytest=True)
        session.config.stash[_MINUTE] = _begin(factory.mktemp("chaos"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _MINUTE in session.config.stash:
        session.config.stash[_MINUTE].stop()


@pytest.fixture
def minute(pytestconfig: pytest.Config) -> Minute:
    return pytestconfig.stash[_MINUTE]


def _begin(directory: Path) -> Minute:
    report, output = directory / "report.json", directory / "output.txt"
    command = [sys.executable, "-m", "local", "chaos", "--seed", SEED, "--minutes", "1"]
    command += ["--json", str(report), "--directory", str(directory / "emulator")]
    with output.open("w") as out:
        process = subprocess.Popen(
            command, cwd=CHECKOUT, stdout=out, stderr=subprocess.STDOUT, text=True
        )
    return Minute(process=process, report=report, output=output)
