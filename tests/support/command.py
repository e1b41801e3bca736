"""The command `workpool` as a process, in the environment that `.local/env` would give it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPT = Path(sys.executable).parent / "workpool"


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, which must be one JSON document."""
        return json.loads(self.out)


class Command:
    """Calls the script, with `pool` as --pool in each call that names none."""

    def __init__(self, environment: dict[str, str], *, pool: str) -> None:
        self.environment = {**os.environ, **environment}
        self.environment.pop("AWS_SESSION_TOKEN", None)
        self._pool = pool

    def __call__(self, *typed: str, stdin: str = "", **environment: str) -> Ran:
        arguments = [*typed] if "--pool" in typed else [*typed, "--pool", self._pool]
        return self.plainly(*arguments, stdin=stdin, **environment)

    def plainly(self, *typed: str, stdin: str = "", **environment: str) -> Ran:
        """Call it without a pool."""
        done = subprocess.run(
            [str(SCRIPT), *typed],
            input=stdin,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)
