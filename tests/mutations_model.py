"""Does the model test notice? `mutations.py`, asked of `tests/model` alone.

`.venv/bin/python tests/mutations_model.py [word ...]` prints what broke first with each mutation:
the broken promise, as the model test words it. A mutation that survives is either out of its
reach or a gap in its rules. One process at a time; about an hour for all.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.mutations import MUTATIONS, Mutation  # noqa: E402

SLOWEST_SECONDS = 400
FILES = (
    "store.py",
    "message.py",
    "attempt.py",
    "relay.py",
    "look.py",
    "dead_letters.py",
    "complete.py",
    "sweep.py",
    "cancel.py",
    "queues.py",
    "bus.py",
    "retrier.py",
    "run.py",
    "submit.py",
    "retry.py",
    "request.py",
    "clock.py",
)


def copy_of_the_tree(to: Path) -> Path:
    for part in ("functions", "tests/model"):
        shutil.copytree(ROOT / part, to / part, ignore=shutil.ignore_patterns("__pycache__"))
    (to / "infra").mkdir()
    for part in ("tests/conftest.py", "pyproject.toml", "infra/relay.py", "infra/retrier.py"):
        shutil.copy(ROOT / part, to / part)
    return to


def broken(tree: Path) -> str | None:
    """What the model test says is broken there; None if it passes."""
    command = [sys.executable, "-m", "pytest", "-q", "tests/model/test_nothing_lost.py"]
    environment = {"PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_PROFILE": "quick"}
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=SLOWEST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return "(it did not end)"
    if not done.returncode:
        return None
    said = re.search(r"^E +(?:AssertionError: |\w*Error: )(.*)$", done.stdout, re.MULTILINE)
    text = said[1] if said else done.stdout[-300:]
    return re.sub(r"default#\w+", "the run", text)[:160].replace("\n", " ")


def main(words: list[str]) -> int:
    chosen: list[Mutation] = [
        it
        for it in MUTATIONS
        if it.file in FILES
        and (not words or any(word in f"{it.file} {it.breaks}" for word in words))
    ]
    missed = 0
    with tempfile.TemporaryDirectory(prefix="mutations-model-") as scratch:
        base = copy_of_the_tree(Path(scratch) / "base")
        for number, mutation in enumerate(chosen):
            tree = shutil.copytree(base, Path(scratch) / str(number))
            file = tree / "functions" / "workpool" / mutation.file
            text = file.read_text()
            if text.count(mutation.old) != 1:
                note = f"stale: stands {text.count(mutation.old)} times there"
            else:
                file.write_text(text.replace(mutation.old, mutation.new))
                found = broken(tree)
                note = found or "SURVIVES"
                missed += found is None
            shutil.rmtree(tree)
            print(f"{mutation.file:<16} {mutation.breaks:<58} | {note}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} mutations found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
