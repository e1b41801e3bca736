"""What is typed at the command line, how it is shown, and that Lambda never loads any of it."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from workpool.cli import arguments, failures, tables, tail, terminal
from workpool.cli.arguments import Mistake
from workpool.cli.commands import app
from workpool.client import IdempotentWorkpool, RunStatus
from workpool.core import clock
from workpool.errors import Internal, UnknownAction, WorkpoolError

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
    first, second = {"action": "a.b"}, {"action": "c.d"}
    path.write_text('{"action": "a.b"}\n\n{"action": "c.d"}\n')
    assert arguments.read_requests(str(path)) == {
        f"line 1 of {path}": first,
        f"line 3 of {path}": second,
    }
    path.write_text('[{"action": "a.b"},\n {"action": "c.d"}]')
    assert arguments.read_requests(str(path)) == {"number 1": first, "number 2": second}
    path.write_text('{"action": "a.b"}\n{"action"}\n')
    with pytest.raises(Mistake, match=r"runs must be JSON: .* at line 2, column 10"):
        arguments.read_requests(str(path))
    path.write_bytes(b"\xff")
    with pytest.raises(Mistake, match="runs is not UTF-8: byte 0"):
        arguments.read_requests(str(path))


def test_only_a_newline_ends_a_request(tmp_path) -> None:
    path = tmp_path / "runs"
    separators = "\u2028\u2029\x85"
    request = {"action": "a.b", "args": {"text": separators}}
    path.write_bytes(f"{json.dumps(request, ensure_ascii=False)}\r\n".encode() * 2)
    assert list(arguments.read_requests(str(path)).values()) == [request, request]


def test_a_byte_order_mark_is_taken(tmp_path, monkeypatch) -> None:
    path = tmp_path / "runs"
    path.write_bytes(b'\xef\xbb\xbf{"action": "a.b"}\n')
    assert list(arguments.read_requests(str(path)).values()) == [{"action": "a.b"}]
    assert arguments.read_json(f"@{path}", "ARGS") == {"action": "a.b"}
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b"\xef\xbb\xbfr1 r2\n")))
    assert arguments.read_run_ids(["-"]) == ["r1", "r2"]


@pytest.mark.promise(
    "The command workpool",
    "`workpool run --batch --idempotency-prefix` submits each request of a file once, "
    "however often the file is submitted",
)
def test_a_prefix_makes_a_repeated_file_safe() -> None:
    requests = [{"action": "a.b"}, {"action": "a.b"}, {"action": "c.d", "args": {"x": 1, "y": 2}}]
    keyed = arguments.add_idempotency_keys(requests, "june")
    keys = [it["options"]["idempotencyKey"] for it in keyed]
    assert len(set(keys)) == 3  # Equal requests both run.
    assert all(re.fullmatch(r"june-[0-9a-f]{32}-[12]", key) for key in keys)
    turned = [{"args": {"y": 2, "x": 1}, "action": "c.d"}, *requests[:2]]
    again = [
        it["options"]["idempotencyKey"] for it in arguments.add_idempotency_keys(turned, "june")
    ]
    assert again == [keys[2], *keys[:2]]
    assert keys != [
        it["options"]["idempotencyKey"] for it in arguments.add_idempotency_keys(requests, "july")
    ]
    own = {"action": "a.b", "options": {"idempotencyKey": "o1"}}
    odd = [own, 7, None, {"action": "a.b", "options": None}]
    assert arguments.add_idempotency_keys(odd, "june") == odd
    for prefix in ("", "a b", "x" * 81):
        with pytest.raises(Mistake, match="--idempotency-prefix must be 1 to 80"):
            arguments.add_idempotency_keys(requests, prefix)


@pytest.fixture
def no_waiting(monkeypatch) -> list[float]:
    """A clock that only sleeping moves. Returns its times of sleep."""
    slept: list[float] = []
    monkeypatch.setattr(clock, "monotonic", lambda: sum(slept))
    monkeypatch.setattr(clock, "sleep", slept.append)
    return slept


RUNNING = RunStatus(run_id="r1", kind="running")


@pytest.mark.promise(
    "The command workpool", "`workpool wait` waits for the time that was asked for"
)
def test_wait_keeps_the_time_that_was_asked_for(monkeypatch, no_waiting) -> None:
    monkeypatch.setattr(IdempotentWorkpool, "status_batch", lambda *_, **options: [RUNNING])
    ran = CliRunner().invoke(app, ["wait", "r1", "--timeout", "9.8s"])
    assert isinstance(ran.exception, failures.Stop)
    assert "have not ended after 9.8s; r1 is running" in str(ran.exception)
    assert sum(no_waiting) == pytest.approx(9.8)


def test_wait_goes_on_through_an_outage_and_names_it_at_its_end(monkeypatch, no_waiting) -> None:
    answers = [Internal("away"), Internal("away"), RunStatus(run_id="r1", kind="canceled")]

    def read(*_: object, **options: object) -> list[RunStatus]:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Internal):
            raise answer
        return [answer]

    monkeypatch.setattr(IdempotentWorkpool, "status_batch", read)
    assert CliRunner().invoke(app, ["wait", "r1", "--timeout", "9s"]).exit_code == 3
    answers[:] = [Internal("away")]
    ran = CliRunner().invoke(app, ["wait", "r1", "--timeout", "9s"])
    assert isinstance(ran.exception, failures.Stop) and ran.exception.exit_code == 4
    assert "no answer after 9.0 s: away" in str(ran.exception)


@pytest.mark.promise(
    "The command workpool", "`workpool run --batch` names the file and the line of what was refused"
)
def test_what_a_batch_refused_is_named_by_file_and_line(monkeypatch, tmp_path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text('{"action": "a.b"}\n\n{"action": "x.y"}\n{"action": "x.z"}\n')

    def run_batch(self: object, requests: list[dict[str, str]]) -> list[str | WorkpoolError]:
        return [
            "r1" if it["action"] == "a.b" else UnknownAction(f"no {it['action']}")
            for it in requests
        ]

    monkeypatch.setattr(IdempotentWorkpool, "run_batch", run_batch)
    ran = CliRunner().invoke(app, ["run", "--batch", str(path)])
    assert f"workpool: line 3 of {path}: UnknownAction: no x.y" in ran.output
    assert f"workpool: line 4 of {path}: UnknownAction: no x.z" in ran.output
    assert f"2 of 3 requests were refused; the first is line 3 of {path}: no x.y" in str(
        ran.exception
    )


def test_what_was_submitted_is_printed_whatever_ends_the_batch(monkeypatch, tmp_path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text('{"action": "a.b"}\n' * 150)
    chunks: list[int] = []

    def run_batch(self: object, requests: list[dict[str, str]]) -> list[str | WorkpoolError]:
        chunks.append(len(requests))
        if len(chunks) == 2:
            raise KeyboardInterrupt
        return [f"r{number}" for number in range(len(requests))]

    monkeypatch.setattr(IdempotentWorkpool, "run_batch", run_batch)
    ran = CliRunner().invoke(app, ["run", "--batch", str(path)])
    assert ran.exit_code != 0
    assert [it for it in ran.output.split() if it.startswith("r")] == [
        f"r{number}" for number in range(100)
    ]


@pytest.mark.promise("The command workpool", "`workpool redrive` goes through all parked runs")
def test_redrive_of_all_goes_through_all(monkeypatch) -> None:
    """Though none of the first hundred, which the index still lists, is parked any longer."""
    parked = [RunStatus(run_id=f"r{number}", kind="completed") for number in range(250)]
    redriven: list[str] = []

    def redrive(self: object, run_ids: list[str]) -> int:
        redriven.extend(run_ids)
        return 0 if "r0" in run_ids else len(run_ids)

    monkeypatch.setattr(IdempotentWorkpool, "runs", lambda *_, **options: iter(parked))
    monkeypatch.setattr(IdempotentWorkpool, "redrive", redrive)
    ran = CliRunner().invoke(app, ["redrive", "--json"])
    assert json.loads(ran.output) == {"redriving": 150}
    assert redriven == [run.run_id for run in parked]


@pytest.mark.promise("The command workpool", "`workpool tail` says what it counted")
def test_tail_says_what_it_counted() -> None:
    def line(runs: int, pending: int) -> str:
        stats = {"pending": pending, "oldestPending": 5, "recentErrorRate": 0.0}
        return tail.line(
            tail.Snapshot(
                at_ms=0,
                pool={"name": "default", "paused": False, "maxParallelism": 10, "deadLetters": 0},
                stats=stats | {"recentExecutions": 0},
                runs=[RUNNING] * runs,
                ended=[],
            )
        )

    assert "3 pending, 3 of 10 slots, oldest" in line(3, 3)
    assert "900 pending, 100 of 10 slots (of the oldest 100 runs), oldest" in line(100, 900)


def test_what_a_terminal_cannot_show_is_replaced() -> None:
    """As under LANG=C: the annotation has letters that ASCII has not."""
    program = """
import sys
from workpool import IdempotentWorkpool, RunStatus
from workpool.cli import commands
shown = RunStatus(run_id="r1", kind="running", annotation="Zoë")
IdempotentWorkpool.status = lambda *_, **options: shown
sys.argv = ["workpool", "status", "r1"]
commands.main()
"""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict", "PYTHONPATH": str(FUNCTIONS)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Zo?" in done.stdout


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
    assert len(names) == 14
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


HOSTILE = "a\x1b[2J\x9b1m\u202eb\x07 [red]c[/red] 12:on:30 \ud800"


@pytest.mark.promise("The command workpool", "Nothing from outside reaches a terminal raw")
def test_nothing_from_outside_reaches_the_terminal_raw(monkeypatch, capsys) -> None:
    status = RunStatus(
        run_id=HOSTILE,
        kind=HOSTILE,
        action=HOSTILE,
        retries=HOSTILE,  # type: ignore[arg-type]
        annotation=HOSTILE,
        enqueued_at=1,
        completion=HOSTILE,
        completion_error=HOSTILE,
        attempts=[{HOSTILE: HOSTILE}],
    )
    pool = {"name": HOSTILE, "paused": False, "maxParallelism": HOSTILE, "deadLetters": HOSTILE}
    out = terminal.PlainConsole(file=StringIO(), width=400, force_terminal=False)
    out.print(tables.runs([status], 2), tables.run_details(status, 2), tables.pools([pool]))
    out.print(HOSTILE)
    shown = out.file.getvalue()
    assert not set("\x1b\x9b\u202e\x07\ud800") & set(shown)
    assert shown.count("[red]c[/red] 12:on:30") >= 10
    failures.print_error(
        failures.Explanation(code="x", message=HOSTILE, exit_code=1), as_json=False
    )
    assert not set("\x1b\x9b\u202e\x07\ud800") & set(capsys.readouterr().err)
