"""What is typed at the command line, how it is shown, and that Lambda never loads any of it."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from workpool.cli import arguments, tables
from workpool.cli.arguments import Mistake
from workpool.cli.commands import app
from workpool.client import RunStatus

FUNCTIONS = Path(__file__).parents[2] / "functions"


@pytest.mark.promise(
    "The command workpool",
    "`workpool run` reads JSON from an argument, from `@file` or from standard input",
)
def test_json_is_an_argument_a_file_or_standard_input(tmp_path, monkeypatch) -> None:
    path = tmp_path / "args.json"
    path.write_text('{"a": 1}')
    assert (
        arguments.read_json('{"a": 1}', "ARGS")
        == arguments.read_json(f"@{path}", "ARGS")
        == {"a": 1}
    )


@pytest.mark.promise("The command workpool", "An error is one line that says what to do")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": x}', "ARGS must be JSON: expecting value at line 1, column 7"),
        ("{\n 'a': 1}", "ARGS must be JSON: expecting property name .* at line 2, column 2"),
        ("@/nowhere/a.json", "/nowhere/a.json: No such file or directory"),
    ],
)
def test_a_mistake_names_its_place(text, told) -> None:
    with pytest.raises(Mistake, match=told):
        arguments.read_json(text, "ARGS")


@pytest.mark.promise(
    "The command workpool",
    "`workpool run --batch` submits many requests, as a JSON array or one per line",
)
def test_requests_are_an_array_or_one_a_line(tmp_path) -> None:
    path = tmp_path / "runs"
    path.write_text('{"action": "a.b"}\n\n{"action": "c.d"}\n')
    assert arguments.read_requests(str(path)) == [{"action": "a.b"}, {"action": "c.d"}]
    path.write_text('[{"action": "a.b"},\n {"action": "c.d"}]')
    assert arguments.read_requests(str(path)) == [{"action": "a.b"}, {"action": "c.d"}]
    path.write_text('{"action": "a.b"}\n{"action"}\n')
    with pytest.raises(Mistake, match=r"runs must be JSON: .* at line 2, column 10"):
        arguments.read_requests(str(path))
    path.write_bytes(b"\xff")
    with pytest.raises(Mistake, match="runs is not UTF-8: byte 0"):
        arguments.read_requests(str(path))


@pytest.mark.parametrize(
    ("text", "ms"), [("250ms", 250), ("90s", 90_000), ("1.5h", 5_400_000), ("7d", 604_800_000)]
)
def test_a_duration_has_a_unit(text, ms) -> None:
    assert arguments.duration_ms(text) == ms


@pytest.mark.parametrize("text", ["90", "-1s", "1w", "", "s"])
def test_what_is_no_duration_is_refused(text) -> None:
    with pytest.raises(Mistake, match="a duration is a number and one of ms, s, m, h, d"):
        arguments.duration_ms(text)


def test_a_time_is_iso_8601_or_epoch_milliseconds() -> None:
    assert arguments.point_in_time("1790000000000") == 1_790_000_000_000
    assert arguments.point_in_time("2026-12-24T18:00:00Z") == datetime(2026, 12, 24, 18, tzinfo=UTC)
    with pytest.raises(Mistake, match="a time is ISO 8601"):
        arguments.point_in_time("tomorrow")


def test_what_others_wrote_steers_no_terminal() -> None:
    evil = "\x1b[2J\x07[red]x\ny"
    status = RunStatus(
        run_id="r1", kind="completed", result={"type": "failed", "error": evil}, annotation=evil
    )
    console = Console(record=True, width=200, file=StringIO(), markup=False)
    console.print(tables.run_details(status, 0), tables.runs([status], 0))
    shown = console.export_text()
    assert "\x1b" not in shown and "\x07" not in shown
    assert shown.count("?[2J?[red]x y") == 4


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (0, "0 ms"),
        (59_940, "59.9 s"),
        (300_000, "5 min"),
        (3_599_999, "1 h"),
        (90_000_000, "1 d 1 h"),
    ],
)
def test_a_span_is_short(ms, shown) -> None:
    assert tables.span(ms) == shown


@pytest.mark.promise("The command workpool", "The help shows the options and the exit codes")
def test_the_help_of_every_command_tells_its_options() -> None:
    names = [it.name for it in app.registered_commands]
    assert len(names) == 13
    for name in names:
        told = CliRunner().invoke(app, [str(name), "-h"], env={"COLUMNS": "120"})
        assert told.exit_code == 0
        for option in ("--json", "--pool", "--stack", "--profile", "--region"):
            assert option in told.output, name


@pytest.mark.promise("The command workpool", "No function loads typer, rich or a tracing SDK")
def test_no_function_loads_a_terminal() -> None:
    """Every handler, in a process of its own: typer, rich and a tracing SDK are not for Lambda."""
    handlers = sorted(path.stem for path in (FUNCTIONS / "handlers").glob("[!_]*.py"))
    code = f"""
import importlib, json, sys
for name in {handlers!r}:
    importlib.import_module(f"handlers.{{name}}")
print(json.dumps(sorted({{it.partition(".")[0] for it in sys.modules}})))
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=FUNCTIONS, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(ran.stdout))
    assert "workpool" in loaded and "boto3" in loaded
    assert not loaded & {"typer", "rich", "aws_xray_sdk"}


def test_without_its_packages_the_command_says_what_to_install(tmp_path) -> None:
    code = "import sys; sys.modules['typer'] = None; from workpool.__main__ import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=FUNCTIONS, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr == (
        "workpool: the command line needs typer and rich: pip install -e '.[cli]'\n"
    )
