"""Asks tests/model alone whether it notices a mutation, and of which promise it says that it broke.

A mutation that survives is either out of the model's reach or a gap in its rules.
"""

import re
from pathlib import Path

from tests.mutations.catalogue import MUTATIONS
from tests.mutations.tree import copy_tree, run_pytest

FILES = (
    "aws/store.py",
    "core/message.py",
    "core/hints.py",
    "core/changes.py",
    "verbs/attempt.py",
    "verbs/user_code.py",
    "verbs/watchdog.py",
    "verbs/relay.py",
    "verbs/look.py",
    "verbs/dead_letters.py",
    "verbs/complete.py",
    "verbs/sweep.py",
    "verbs/cancel.py",
    "aws/queues.py",
    "aws/bus.py",
    "aws/retrier.py",
    "core/run.py",
    "verbs/submit.py",
    "core/retry.py",
    "core/request.py",
    "core/clock.py",
)
CHOSEN = [it for it in MUTATIONS if it.file in FILES]
AT_ONCE = 1
SLOWEST_SECONDS = 400


class Model:
    def __init__(self, base: Path) -> None:
        """Copy the tree to `base`."""
        copy_tree(base, ("tests/model", "infra/relay.py", "infra/retrier.py"))

    def first_to_notice(self, file: str, tree: Path) -> str | None:
        """What the model test says is broken in this tree."""
        done = run_pytest(
            tree,
            "tests/model/test_nothing_lost.py",
            seconds=SLOWEST_SECONDS,
            HYPOTHESIS_PROFILE="quick",
        )
        if done is None:
            return "(it did not end)"
        if not done.returncode:
            return None
        said = re.search(r"^E +(?:AssertionError: |\w*Error: )(.*)$", done.stdout, re.MULTILINE)
        text = said[1] if said else done.stdout[-300:]
        return re.sub(r"default#\w+", "the run", text)[:160].replace("\n", " ")
