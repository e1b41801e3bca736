"""docs/guarantees.md says the truth: all faults are in it, and its tests exist and are run."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "guarantees.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if re.match(r"\| \d+ \|", line)
]
FAULTS = range(1, 34)
PLACES = {"moto", "emulator", "model", "chaos"}
LEFT_OUT = {"skip", "skipif", "xfail", "importorskip"}


def named(row: list[str]) -> list[tuple[str, str]]:
    """The tests of a row: path in `tests`, function."""
    found = re.findall(r"`((?:(?:e2e|outage)/)?test_\w+\.py)::(test_\w+)`", row[3])
    return [(file if "/" in file else f"faults/{file}", test) for file, test in found]


def functions_of(path: Path) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(path.read_text())
    functions = [it for it in tree.body if isinstance(it, ast.FunctionDef)]
    return {it.name: it for it in functions if it.name.startswith("test_")}


def names_in(node: ast.AST) -> set[str]:
    attributes = {it.attr for it in ast.walk(node) if isinstance(it, ast.Attribute)}
    return attributes | {it.id for it in ast.walk(node) if isinstance(it, ast.Name)}


def test_each_fault_has_one_row_that_says_all_of_it() -> None:
    assert [int(row[0].strip("| ")) for row in ROWS] == list(FAULTS)
    for row in ROWS:
        assert len(row) in (5, 6), row
        assert all(row[:5]), row
        assert set(row[4].rstrip("| ").split(", ")) <= PLACES, row


def test_each_invariant_is_stated() -> None:
    assert re.findall(r"^\| (I\d) \| \S", PAGE, re.MULTILINE) == [f"I{n}" for n in range(1, 9)]


def test_each_named_test_exists_and_is_not_left_out() -> None:
    for row in ROWS:
        assert len(named(row)) == row[3].count("::") >= 1, row
        for file, test in named(row):
            path = TESTS / file
            function = functions_of(path).get(test)
            assert function is not None, f"{file}::{test}"
            assert LEFT_OUT & names_in(function) == set(), f"{file}::{test}"
            marks = [it for it in ast.parse(path.read_text()).body if isinstance(it, ast.Assign)]
            for mark in marks:
                assert LEFT_OUT & names_in(mark) == set(), file


def test_a_row_says_rightly_where_its_tests_run() -> None:
    for row in ROWS:
        places = set(row[4].rstrip("| ").split(", "))
        files = {file for file, _ in named(row)}
        assert ("moto" in places) == any(it.startswith("faults/") for it in files), row
        assert ("emulator" in places) == any(it.startswith(("e2e/", "outage/")) for it in files), (
            row
        )


def test_each_fault_has_a_test_of_its_number_and_each_numbered_test_a_fault() -> None:
    files = [it for name in ("faults", "e2e", "outage") for it in (TESTS / name).glob("test_*.py")]
    numbers = {
        int(match[1])
        for path in files
        for name in functions_of(path)
        if (match := re.match(r"test_fault_(\d\d)_\w", name))
    }
    assert numbers == set(FAULTS)
