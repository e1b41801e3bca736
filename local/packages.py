"""Install the packages of `functions/requirements.txt` where the stack finds them for a layer.

For Lambda these are wheels for Lambda's Python and processor, whatever this machine is; for the
emulator, those of the interpreter that runs it. It changes nothing but the directory it is given.
`make` calls it before a synth, and so does each deploy to the emulator.
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
    """Install the packages into `to` unless they are there, and return `to`: a layer's content."""
    requirements = project / "functions" / "requirements.txt"
    wanted = _read_names(requirements)
    stamp = to / "requirements"
    digest = hashlib.sha256("\n".join([target, sys.version, *wanted]).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return to
    shutil.rmtree(to, ignore_errors=True)
    (to / "python").mkdir(parents=True)
    if wanted:
        _run_pip(requirements, to / "python", _FOR_LAMBDA if target == "lambda" else [])
    stamp.write_text(digest)
    return to


def _read_names(requirements: Path) -> list[str]:
    """The file's lines that name a package, without comments."""
    lines = requirements.read_text().splitlines() if requirements.exists() else []
    return [name for line in lines if (name := line.partition("#")[0].strip())]


def _run_pip(requirements: Path, to: Path, options: list[str]) -> None:
    command = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    command += ["--target", str(to), "--requirement", str(requirements), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = next(
            (line for line in done.stderr.splitlines() if line.startswith("ERROR")), done.stderr
        )
        raise LocalError(f"functions/requirements.txt cannot be installed: {reason}")
