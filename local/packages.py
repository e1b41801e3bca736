"""Install the packages of `functions/requirements.txt` where the stack finds them for a layer.

For Lambda these are wheels for Lambda's Python and processor, whatever this machine is; for the
emulator, those of the interpreter that runs it. It changes nothing but the directory it is given.
`make` calls it before a synth, and so does each deploy to the emulator.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

from infra.packages import STAMP, digest, set_modes, wanted
from local.errors import LocalError

Target = Literal["lambda", "emulator"]

_FOR_LAMBDA = [
    "--platform=manylinux2014_aarch64",
    "--platform=manylinux_2_28_aarch64",
    "--implementation=cp",
    "--python-version=3.13",
    "--only-binary=:all:",
]

_NO_WHEEL = re.compile(r"No matching distribution found for (\S+)")


def install(project: Path, *, to: Path, target: Target) -> Path:
    """Install the packages into `to` unless they are there, and return `to`: a layer's content.
    If that fails, `to` does not exist afterwards: a layer must not be empty, or of another day."""
    requirements = project / "functions" / "requirements.txt"
    names = wanted(requirements)
    stamp = f"{digest(names)}\n{target} {sys.version if target == 'emulator' else ''}\n"
    if (to / STAMP).exists() and (to / STAMP).read_text() == stamp:
        return to
    shutil.rmtree(to, ignore_errors=True)
    unfinished = to.with_name(f"{to.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "python").mkdir(parents=True)
    if names:
        _run_pip(requirements, unfinished / "python", target)
    (unfinished / STAMP).write_text(stamp)
    set_modes(unfinished)
    return unfinished.rename(to)


def _run_pip(requirements: Path, to: Path, target: Target) -> None:
    command = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    command += ["--target", str(to), "--requirement", str(requirements)]
    command += _FOR_LAMBDA if target == "lambda" else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = errors[0] if errors else done.stderr
        if target == "lambda" and (missing := _NO_WHEEL.search(done.stderr)):
            reason = (
                f"{missing[1]} has no wheel for Lambda, that is, for Python 3.13 on Linux and "
                f"arm64. Choose a version that has one, or check the name. pip said: {reason}"
            )
        raise LocalError(f"functions/requirements.txt cannot be installed: {reason}")
