"""The packages of `functions/requirements.txt`, installed where the stack finds them for a layer.

For Lambda: wheels for its Python and processor, whatever machine this is. For the emulator: for
the interpreter that runs it. Called by `make` before a synth and by a deploy to the emulator.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

from local.errors import LocalError

Target = Literal["lambda", "emulator"]

_FOR_LAMBDA = [
    "--platform=manylinux2014_aarch64",
    "--platform=manylinux_2_28_aarch64",
    "--implementation=cp",
    "--python-version=3.13",
    "--only-binary=:all:",
]


def install(project: Path, *, to: Path, target: Target) -> Path:
    """Install them, unless they are. Answers the directory, to be a layer's; it may be empty."""
    requirements = project / "functions" / "requirements.txt"
    wanted = named(requirements)
    stamp = to / "requirements"
    digest = hashlib.sha256("\n".join([target, sys.version, *wanted]).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return to
    shutil.rmtree(to, ignore_errors=True)
    (to / "python").mkdir(parents=True)
    if wanted:
        _pip(requirements, to / "python", _FOR_LAMBDA if target == "lambda" else [])
    stamp.write_text(digest)
    return to


def named(requirements: Path) -> list[str]:
    """The file's lines that name a package."""
    lines = requirements.read_text().splitlines() if requirements.exists() else []
    return [it for line in lines if (it := line.partition("#")[0].strip())]


def _pip(requirements: Path, to: Path, options: list[str]) -> None:
    command = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    command += ["--target", str(to), "--requirement", str(requirements), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = next(
            (line for line in done.stderr.splitlines() if line.startswith("ERROR")), done.stderr
        )
        raise LocalError(f"functions/requirements.txt cannot be installed: {reason}")
