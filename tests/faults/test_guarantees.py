"""docs/guarantees.md says the truth: all faults are in it, and its tests exist and are run."""

import ast
import re

from tests import evidence

PAGE = evidence.GUARANTEES.read_text()
FAULTS = (*range(1, 41), *range(42, 48))
LEFT_OUT = {"skip", "skipif", "xfail", "importorskip"}
TESTS = [test for test in evidence.marked_tests() if test.faults]


def names_in(node: ast.AST) -> set[str]:
    attributes = {it.attr for it in ast.walk(node) if isinstance(it, ast.Attribute)}
    return attributes | {it.id for it in ast.walk(node) if isinstance(it, ast.Name)}


def test_each_fault_has_a_section_that_says_what_happens() -> None:
    sections = re.split(r"^#+ ", PAGE, flags=re.MULTILINE)
    faults = [it.splitlines() for it in sections if re.match(r"\d+\. ", it)]
    assert [int(lines[0].split(".")[0]) for lines in faults] == list(FAULTS)
    assert list(evidence.fault_titles()) == list(FAULTS)
    for title, empty, happens, *_ in faults:
        assert re.fullmatch(r"\d+\. [A-Z].+", title)
        assert empty == ""
        assert re.match(r"[A-Z]", happens) and not happens.startswith("Not shown")


def test_each_invariant_is_stated() -> None:
    stated = re.findall(r"^- \*\*(I\d)\*\* \S", PAGE, re.MULTILINE)
    assert stated == [f"I{number}" for number in range(1, 9)]


def test_the_page_can_be_read_in_an_editor() -> None:
    assert [line for line in PAGE.splitlines() if len(line) > 100] == []


def test_each_fault_has_a_test_of_its_number_and_each_numbered_test_a_fault() -> None:
    named = {
        int(match[1]) for test in TESTS if (match := re.match(r"test_fault_(\d\d)_\w", test.name))
    }
    assert named == set(FAULTS)
    assert {number for test in TESTS for number in test.faults} == set(FAULTS)


def test_no_test_of_a_fault_is_left_out() -> None:
    for test in TESTS:
        tree = ast.parse((evidence.TESTS / test.file).read_text())
        for node in tree.body:
            if isinstance(node, ast.Assign) or getattr(node, "name", None) == test.name:
                assert LEFT_OUT & names_in(node) == set(), test.id


def test_the_page_of_evidence_is_up_to_date() -> None:
    evidence.check(evidence.FAULTS)
