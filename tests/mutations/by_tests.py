"""Asks tests/unit and tests/integration whether they notice a mutation."""

import re
from collections.abc import Iterable
from pathlib import Path

from tests.mutations.catalogue import MUTATIONS
from tests.mutations.tree import ROOT, copy_tree, run_pytest

CHOSEN = MUTATIONS
AT_ONCE = 2
ALL = ("tests/unit", "tests/integration")
PAYLOADS = "tests/integration/test_payloads.py"
"""Quick as well, and they go through most modules."""

USER_CODE = "tests/faults/test_faults_user_code.py"
"""What user code does to its process, and the answers of functions."""

TESTED_THERE = (
    "clients",
    "lambda_actions",
    "logs",
    "process_state",
    "raised",
    "result",
    "user_code",
)
"""Modules that USER_CODE tests."""

FOREIGN = "tests/faults/test_faults_foreign.py"
"""Items and messages that somebody else wrote."""

FOREIGN_TESTED = ("cancel", "item", "message", "open_runs", "payloads", "run", "unreadable")
"""Modules that FOREIGN tests."""

SETTINGS = "tests/faults/test_faults_settings.py"
"""Two who change the settings of a pool at once."""

SETTINGS_TESTED = ("control", "deployment", "overrides")
"""Modules that SETTINGS tests."""

COPIED = (
    *ALL,
    "tests/faults/conftest.py",
    "tests/faults/cloud.py",
    USER_CODE,
    FOREIGN,
    SETTINGS,
    "infra",
)

ABOUT_THE_CHECKOUT = ("test_behaviour.py", "test_docs.py", "test_mutations.py")
"""Tests that read the docs or the catalogue, of which the copy has none."""

SLOWEST_SECONDS = 180
ELSEWHERE = {
    "__init__": "local_fixture",
    "_answers": "client",
    "_connection": "client",
    "_http": "client",
    "arguments": "terminal",
    "bus": "relay",
    "changes": "hints",
    "counters": "stats",
    "lambda_actions": "remote",
    "look": "relay",
    "orphans": "payloads",
    "overrides": "control",
    "patience": "complete",
    "promise": "complete",
    "queues": "relay",
    "retrier": "relay",
    "status": "cancel",
    "user_code": "attempt",
    "watchdog": "attempt",
}
"""By module: whose tests test it, where that is not `test_<module>.py`."""


class Tests:
    def __init__(self, base: Path) -> None:
        """Copy the tree to `base`, and find out which tests fail there without a mutation. Raises
        RuntimeError if the tests cannot be run there."""
        copy_tree(base, COPIED, leave_out=ABOUT_THE_CHECKOUT)
        failing = _failures(base, ALL, seconds=SLOWEST_SECONDS * 10)
        for test in failing:
            if test.startswith("("):
                raise RuntimeError(test)
            print(f"fails without a mutation, left out: {test}", flush=True)
        self._left_out = [f"--deselect={test}" for test in failing]

    def first_to_notice(self, file: str, tree: Path) -> str | None:
        """A test that fails in this tree, in which the file was changed."""
        for tests in ([*own_tests(file), PAYLOADS], ALL):
            if failed := _failures(tree, tests, "-x", *self._left_out):
                return failed[0]
        return None


def own_tests(file: str) -> list[str]:
    """The tests that are most likely to notice. They are tried first, since they are quick."""
    module = Path(file).stem
    paths = [f"{part}/test_{ELSEWHERE.get(module, module)}.py" for part in ALL]
    paths += [USER_CODE] if module in TESTED_THERE else []
    paths += [FOREIGN] if module in FOREIGN_TESTED else []
    paths += [SETTINGS] if module in SETTINGS_TESTED else []
    return [it for it in paths if (ROOT / it).is_file()]


def _failures(
    tree: Path, tests: Iterable[str], *options: str, seconds: int = SLOWEST_SECONDS
) -> list[str]:
    """The tests that fail there; or, in parentheses, why they could not be run to the end."""
    done = run_pytest(tree, "--tb=no", *tests, *options, seconds=seconds)
    if done is None:
        return ["(the tests did not end)"]
    test = r"^(?:FAILED|ERROR) (\S+?\.py(?:::\w+(?:\[.*?\])?)?)(?: - .*)?$"
    found = re.findall(test, done.stdout, re.MULTILINE)
    if not found and done.returncode:
        return [f"(pytest ended with {done.returncode}) {done.stdout[-300:]}"]
    return found
