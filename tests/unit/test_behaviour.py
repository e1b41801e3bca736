"""docs/evidence/behaviour.md is complete: what users can ask for is promised, each promise once."""

import ast
import re

import pytest

from tests import evidence
from workpool import IdempotentWorkpool
from workpool.core.request import OPTIONS

ROOT = evidence.TESTS.parent
PROMISES = evidence.promises()
CASES = "integration/test_cases.py"


def promised(section: str) -> str:
    return "\n".join(PROMISES[section])


def test_the_page_is_up_to_date() -> None:
    evidence.check(evidence.BEHAVIOUR)


def test_every_section_has_promises() -> None:
    assert [section for section, its in PROMISES.items() if not its] == []


def test_no_promise_is_made_twice() -> None:
    made = [promise for its in PROMISES.values() for promise in its]
    assert sorted(made) == sorted(set(made))
    for test in evidence.marked_tests():
        assert len(test.promises) == len(set(test.promises)), test.id


def test_every_case_is_promised() -> None:
    tree = ast.parse((evidence.TESTS / CASES).read_text())
    functions = {it.name for it in ast.walk(tree) if isinstance(it, ast.FunctionDef)}
    cases = PROMISES["Cases of the original and its successor"].values()
    assert {test.name for tests in cases for test in tests if test.file == CASES} == {
        name for name in functions if name.startswith("test_")
    }


def test_every_route_is_promised() -> None:
    source = (ROOT / "infra" / "api.py").read_text()
    routes = re.findall(r'HttpMethod\.(\w+), "(/[^"]*)"', source)
    assert len(routes) >= 10
    for method, path in routes:
        assert f"`{method} {path}`" in promised("HTTP API")


def test_every_verb_of_the_client_is_promised() -> None:
    verbs = [name for name in vars(IdempotentWorkpool) if not name.startswith("_")]
    assert [name for name in verbs if f"`{name}`" not in promised("The Python client")] == []


def test_every_command_is_promised() -> None:
    source = (ROOT / "functions" / "workpool" / "cli" / "commands.py").read_text()
    commands = re.findall(r"^@command\ndef (\w+)", source, re.MULTILINE)
    assert len(commands) == 14
    for name in commands:
        assert f"`workpool {name.replace('_', '-')}`" in promised("The command workpool")


def test_every_option_of_a_run_is_promised() -> None:
    assert [name for name in sorted(OPTIONS) if f"`{name}`" not in promised("Options")] == []


def test_a_marker_is_found_in_the_source_of_its_test() -> None:
    source = """
@pytest.mark.promise("Cancel", "A run "
                     "ends")
@pytest.mark.parametrize("n", [1])
@pytest.mark.fault(3, 4)
def test_fault_07_all_is_well(n): ...

def test_of_nothing(): ...
"""
    [test] = evidence.in_source(source, "e2e/test_x.py")
    assert test.id == "e2e/test_x.py::test_fault_07_all_is_well"
    assert (test.promises, test.faults) == ((("Cancel", "A run ends"),), (3, 4, 7))


@pytest.mark.parametrize(
    "source",
    [
        'pytestmark = pytest.mark.promise("Cancel", "A run ends")',
        '@pytest.mark.promise("Cancel", "A run ends")\nclass TestCancel: ...',
        '@pytest.mark.promise("Cancel", "A run ends")\ndef its_test(): ...',
        '@mark.promise("Cancel", "A run ends")\ndef test_x(): ...',
        "@pytest.mark.promise\ndef test_x(): ...",
        '@pytest.mark.promise("Cancel", SENTENCE)\ndef test_x(): ...',
        '@pytest.mark.promise("Cancel", promise="A run ends")\ndef test_x(): ...',
        '@pytest.mark.promise("Cancels", "A run ends")\ndef test_x(): ...',
        '@pytest.mark.promise("Cancel", "")\ndef test_x(): ...',
        "@pytest.mark.fault(3)\ndef test_x(): ...",
        "def test_fault_03_in_a_directory_of_no_faults(): ...",
    ],
)
def test_a_marker_that_would_not_be_found_is_an_error(source: str) -> None:
    with pytest.raises(ValueError):
        evidence.in_source(source, "unit/test_x.py")
