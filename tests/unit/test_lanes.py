"""A directory of tests is a lane: lanes share what is in tests/support, and nothing else."""

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
SHARED = {"support", "mutations", "evidence"}


def imported_from_tests(source: str) -> set[str]:
    """The directories and modules of `tests` that a source imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [it.name for it in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{it.name}" for it in node.names]
        else:
            continue
        found |= {it.split(".")[1] for it in names if it.startswith("tests.")}
    return found


def test_no_lane_imports_another() -> None:
    across = {}
    for path in TESTS.glob("*/**/*.py"):
        lane = path.relative_to(TESTS).parts[0]
        others = imported_from_tests(path.read_text()) - SHARED - {lane}
        if others:
            across[path.relative_to(TESTS).as_posix()] = others
    assert across == {}


def test_support_imports_no_lane_and_has_no_tests() -> None:
    support = [*(TESTS / "support").rglob("*.py")]
    assert len(support) > 10
    for path in support:
        assert imported_from_tests(path.read_text()) <= {"support"}, path
        assert not path.name.startswith("test_"), path


def test_every_form_of_an_import_is_seen() -> None:
    for source in (
        "import tests.faults.cloud",
        "from tests.faults import cloud",
        "from tests import faults",
        "def f():\n    from tests.faults.cloud import Cloud",
    ):
        assert imported_from_tests(source) == {"faults"}
    assert imported_from_tests("import testsuite, workpool.testing") == set()
