"""Writes the pages of docs/evidence: which tests show each promise, and which cause each fault.

It reads the sources of the tests, and imports and runs none of them. What it looks for are the
markers `promise` and `fault`, which pyproject.toml describes, and names like `test_fault_07_...`.
`make evidence` calls it. tests/unit/test_behaviour.py and tests/faults/test_guarantees.py fail when
a page is out of date.
"""

import ast
import re
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
GUARANTEES = DOCS / "guarantees.md"

SECTIONS = (
    "HTTP API",
    "The submit function",
    "The Python client",
    "Your own tests with workpool.testing",
    "Options",
    "Large payloads",
    "Retries",
    "Actions that are Lambda functions",
    "Results and completion",
    "Status",
    "Cancel",
    "Operate a pool",
    "Statistics",
    "The command workpool",
    "Alarms, dashboard, tracing",
    "Log events",
    "Your copy of the template",
    "Cases of the original and its successor",
)
"""What a promise may be about, in the order of the page."""

PLACES = {
    "faults": "moto",
    "e2e": "emulator",
    "outage": "emulator",
    "model": "model",
    "chaos": "chaos",
}
"""Where the tests of a directory cause their faults, in the order of the page."""

_BEHAVIOUR_HEAD = """\
# Behaviour

What the workpool promises, and the tests that show it. `make evidence` writes this page from the
markers `@pytest.mark.promise(section, promise)` on the tests. Files are named from `tests/`.
"""

_FAULTS_HEAD = """\
# Faults

The faults of [guarantees.md](../guarantees.md), and the tests that cause them. `make evidence`
writes this page: a test names its faults in its own name, as `test_fault_07_...` does, or by the
marker `@pytest.mark.fault`. guarantees.md says what the places mean. Files are named from `tests/`.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedTest:
    """A test that shows at least one promise or causes at least one fault."""

    file: str
    """From `tests/`."""

    name: str
    promises: tuple[tuple[str, str], ...]
    """Section and promise."""

    faults: tuple[int, ...]

    @property
    def id(self) -> str:
        return f"{self.file}::{self.name}"

    @property
    def place(self) -> str:
        return PLACES[self.file.split("/")[0]]


@cache
def marked_tests() -> tuple[MarkedTest, ...]:
    """All of them, in the order of files and lines. Raises ValueError for a misplaced marker."""
    return tuple(
        test
        for path in sorted(TESTS.rglob("test_*.py"))
        for test in in_source(path.read_text(), path.relative_to(TESTS).as_posix())
    )


def in_source(source: str, file: str) -> list[MarkedTest]:
    """The marked tests of one file."""
    tree = ast.parse(source)
    found, used = [], 0
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef) or not function.name.startswith("test_"):
            continue
        promises = [_arguments(it) for it in _markers(function, "promise")]
        faults = [_arguments(it) for it in _markers(function, "fault")]
        used += len(promises) + len(faults)
        numbers = [number for them in faults for number in them]
        if match := re.match(r"test_fault_(\d\d)_\w", function.name):
            numbers.append(int(match[1]))
        test = MarkedTest(
            file=file, name=function.name, promises=tuple(promises), faults=tuple(numbers)
        )
        for promise in promises:
            if len(promise) != 2 or promise[0] not in SECTIONS or not promise[1]:
                raise ValueError(f"{test.id}: {promise} is not one of SECTIONS and a sentence")
        if numbers and file.split("/")[0] not in PLACES:
            raise ValueError(f"{test.id}: only tests in {', '.join(PLACES)} cause faults")
        if promises or numbers:
            found.append(test)
    if used != sum(map(_is_marker, ast.walk(tree))):
        raise ValueError(f"{file}: only a test function takes the markers promise and fault")
    return found


def _is_marker(node: ast.AST) -> bool:
    """Whatever it stands on."""
    return (
        isinstance(node, ast.Attribute)
        and node.attr in ("promise", "fault")
        and ast.unparse(node.value).endswith("mark")
    )


def _markers(function: ast.FunctionDef, name: str) -> list[ast.Call]:
    calls = [it for it in function.decorator_list if isinstance(it, ast.Call)]
    return [it for it in calls if ast.unparse(it.func) == f"pytest.mark.{name}"]


def _arguments(marker: ast.Call) -> tuple[Any, ...]:
    return tuple(ast.literal_eval(it) for it in marker.args)


def promises() -> dict[str, dict[str, list[MarkedTest]]]:
    """Section -> promise -> its tests."""
    found: dict[str, dict[str, list[MarkedTest]]] = {section: {} for section in SECTIONS}
    for test in marked_tests():
        for section, promise in test.promises:
            found[section].setdefault(promise, []).append(test)
    return found


def fault_titles() -> dict[int, str]:
    """As docs/guarantees.md names them."""
    headings = re.findall(r"^### (\d+)\. (.+)$", GUARANTEES.read_text(), re.MULTILINE)
    return {int(number): title for number, title in headings}


def render_behaviour() -> str:
    lines = [_BEHAVIOUR_HEAD]
    for section, its in promises().items():
        lines += [f"## {section}", ""]
        for promise, tests in its.items():
            lines += textwrap.wrap(promise, 100, initial_indent="- ", subsequent_indent="  ")
            lines += [f"  - `{test.id}`" for test in tests]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def render_faults() -> str:
    lines = [_FAULTS_HEAD]
    for number, title in fault_titles().items():
        tests = [test for test in marked_tests() if number in test.faults]
        lines += [f"## {number}. {title}", ""]
        for place in dict.fromkeys(PLACES.values()):
            lines += [f"- {place}: `{test.id}`" for test in tests if test.place == place]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


BEHAVIOUR = DOCS / "evidence" / "behaviour.md"
FAULTS = DOCS / "evidence" / "faults.md"
RENDERED_BY = {BEHAVIOUR: render_behaviour, FAULTS: render_faults}


def check(page: Path) -> None:
    assert page.read_text() == RENDERED_BY[page](), (
        f"{page.name} is out of date: run `make evidence`"
    )


if __name__ == "__main__":
    for page, render in RENDERED_BY.items():
        page.parent.mkdir(exist_ok=True)
        page.write_text(render())
