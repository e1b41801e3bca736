"""docs/behaviour.md is complete: no promise without a test, no test that is not there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from workpool import IdempotentWorkpool
from workpool.core.request import OPTIONS

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "behaviour.md").read_text()
CASES = "integration/test_cases.py"


def rows() -> list[tuple[str, str]]:
    """(promise, tests) of every table, without its head."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", DOCUMENT, re.MULTILINE):
        for line in table.splitlines()[2:]:
            promise, tests = line.strip("|").rsplit("|", 1)
            found.append((promise.strip(), tests.strip()))
    return found


def named(tests: str) -> list[tuple[str, str]]:
    """(file, test) of a row's second column."""
    return re.findall(r"`([\w/]+\.py)::(test_\w+)`", tests)


@cache
def its_tests(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


@pytest.mark.parametrize(("promise", "tests"), rows(), ids=lambda text: text[:40])
def test_every_promise_names_tests_that_exist_and_nothing_else(promise: str, tests: str) -> None:
    assert promise
    assert named(tests)
    assert " ".join(f"`{file}::{test}`" for file, test in named(tests)) == tests
    for file, test in named(tests):
        assert test in its_tests(file), f"{file} has no {test}"


def test_no_promise_is_made_twice() -> None:
    headings = re.findall(r"^## (.+)$", DOCUMENT, re.MULTILINE)
    promises = [promise for promise, _ in rows()]
    assert len(headings) == len(set(headings))
    assert len(promises) == len(set(promises))


def test_every_case_is_promised() -> None:
    promised = {test for _, tests in rows() for file, test in named(tests) if file == CASES}
    assert promised == its_tests(CASES)


def test_every_route_is_promised() -> None:
    source = (ROOT / "infra" / "api.py").read_text()
    routes = re.findall(r'HttpMethod\.(\w+), "(/[^"]*)"', source)
    assert len(routes) >= 10
    for method, path in routes:
        assert f"`{method} {path}`" in DOCUMENT


def test_every_verb_of_the_client_is_promised() -> None:
    verbs = [name for name in vars(IdempotentWorkpool) if not name.startswith("_")]
    assert [name for name in verbs if f"`{name}`" not in DOCUMENT] == []


def test_every_command_is_promised() -> None:
    source = (ROOT / "functions" / "workpool" / "cli" / "commands.py").read_text()
    commands = re.findall(r"^@command\ndef (\w+)", source, re.MULTILINE)
    assert len(commands) == 13
    for name in commands:
        assert f"`workpool {name.replace('_', '-')}`" in DOCUMENT


def test_every_option_of_a_run_is_promised() -> None:
    assert [name for name in sorted(OPTIONS) if f"`{name}`" not in DOCUMENT] == []
