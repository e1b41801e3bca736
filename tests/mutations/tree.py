"""Copies of the checkout, and pytest in one of them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEEDED = ("functions", "tests/support", "tests/conftest.py", "pyproject.toml")
"""What every test needs."""


def copy_tree(to: Path, parts: Sequence[str], *, leave_out: Sequence[str] = ()) -> Path:
    ignore = shutil.ignore_patterns("__pycache__", *leave_out)
    for part in (*NEEDED, *parts):
        (to / part).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, to / part, ignore=ignore)
        else:
            shutil.copy(ROOT / part, to / part)
    return to


def run_pytest(
    tree: Path, *arguments: str, seconds: int, **environment: str
) -> subprocess.CompletedProcess[str] | None:
    """None: it did not end in time."""
    try:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *arguments],
            cwd=tree,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | environment,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return None
