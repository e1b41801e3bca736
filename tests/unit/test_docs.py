"""docs/ names what there is: files, transitions, routes, errors, options and settings."""

import ast
import re
from pathlib import Path

import pytest

from workpool.core.request import OPTIONS
from workpool.errors import BY_CODE

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "functions" / "workpool"
PAGES = ("README.md", "CONTRIBUTING.md", "DECISIONS.md", "docs/architecture.md", "docs/api.md")
ROOTS = (ROOT, ROOT / "functions", LIBRARY)
"""What a path in these pages begins at; docs/architecture.md says so."""

YOURS = {"functions/actions/invoices.py", "functions/completions/invoices.py", "conftest.py"}
"""Files that the README tells a reader to write."""


def page(name: str) -> str:
    return (ROOT / name).read_text()


def rows(text: str, first: str) -> list[list[str]]:
    """The rows of the table whose first column has this title."""
    table = text.partition(f"\n| {first} |")[2].split("\n\n")[0]
    return [[cell.strip() for cell in row.split(" | ")] for row in table.splitlines()[2:]]


def paths_in(text: str) -> set[str]:
    return set(re.findall(r"`((?:[\w.-]+/)*\w+\.py|(?:[\w-]+/)+)`", text))


@pytest.mark.parametrize("name", PAGES)
def test_every_file_and_folder_that_a_page_names_is_there(name: str) -> None:
    named = paths_in(page(name)) - YOURS
    assert [it for it in sorted(named) if not any((root / it).exists() for root in ROOTS)] == []


@pytest.mark.parametrize("name", PAGES)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(name: str) -> None:
    for target in re.findall(r"\]\(([^)#:]*(?:#[^)]*)?)\)", page(name)):
        path, _, heading = target.partition("#")
        file = ((ROOT / name).parent / path) if path else ROOT / name
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", it.lower()).replace(" ", "-") for it in titles}
            assert heading in anchors, target


def transitions() -> set[str]:
    """The functions of the store that write a run: they return the run as they leave it."""
    tree = ast.parse((LIBRARY / "aws" / "store.py").read_text())
    functions = [it for it in tree.body if isinstance(it, ast.FunctionDef)]
    return {
        it.name
        for it in functions
        if not it.name.startswith("_") and it.returns and ast.unparse(it.returns) == "Run"
    }


def test_the_table_of_transitions_is_complete_and_says_where_each_is_called() -> None:
    verbs = {path: path.read_text() for path in (LIBRARY / "verbs").glob("*.py")}
    called_in = {
        name: {f"verbs/{path.name}" for path, text in verbs.items() if f"store.{name}(" in text}
        for name in transitions()
    }
    assert len(called_in) == 13
    table = rows(page("docs/architecture.md"), "Transition")
    assert {row[0].strip("`| "): paths_in(row[-1]) for row in table} == called_in


def test_every_handler_is_in_the_table_of_functions() -> None:
    files = {f"handlers/{path.name}" for path in (ROOT / "functions" / "handlers").glob("*.py")}
    table = rows(page("docs/architecture.md"), "Lambda function")
    named = set().union(*(paths_in(row[2]) for row in table))
    assert named == files - {"handlers/__init__.py", "handlers/records.py", "handlers/stream.py"}


def test_the_api_page_lists_every_route_and_every_error() -> None:
    source = (ROOT / "infra" / "api.py").read_text()
    routes = {f"{it[0]} {it[1]}" for it in re.findall(r'HttpMethod\.(\w+), "(/[^"]*)"', source)}
    assert len(routes) == 10
    text = page("docs/api.md")
    named = {f"{it[0]} {it[1]}" for it in re.findall(r"`(GET|POST|PATCH) ([^`?]+)", text)}
    assert named == routes
    codes = {row[0].strip("`| "): row[1] for row in rows(text, "Code")}
    assert codes == {code: str(error.status) for code, error in BY_CODE.items()}


def test_the_readme_lists_every_option_of_a_run() -> None:
    named = {
        name for row in rows(page("README.md"), "Option") for name in re.findall(r"`(\w+)`", row[0])
    }
    assert named == OPTIONS


def test_the_page_of_the_configuration_lists_every_setting() -> None:
    source = (ROOT / "infra" / "config.py").read_text()
    takes = r'\.(?:integer|number|flag|text|text_or_null|texts|choice|part)\(\s*"(\w+)"'
    settings = set(re.findall(takes, source))
    assert len(settings) > 20
    text = page("docs/configuration.md")
    named = {
        name
        for first in ("Setting", "Setting of a pool", "Setting of the handlers")
        for row in rows(text, first)
        for name in re.findall(r"`(\w+)`", row[0])
    }
    assert named == settings
