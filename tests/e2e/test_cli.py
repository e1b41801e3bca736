"""Every command of `workpool`, as a process against the deployed stack."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest

from tests.support.command import SCRIPT, Command

pytestmark = pytest.mark.e2e

ID = re.compile(r"[0-9a-f]{32}")
LATER = ("--after", "1h")


@pytest.fixture
def workpool(stack):
    return Command(stack.environment, pool="cli")


@pytest.fixture
def waiting(workpool) -> str:
    """A run that starts in an hour."""
    return workpool("run", "probe.work", *LATER).out.strip()


@pytest.mark.promise(
    "The command workpool", "`workpool run` passes every option on and prints the run id"
)
@pytest.mark.promise(
    "The command workpool",
    "`workpool run` reads JSON from an argument, from `@file` or from standard input",
)
def test_run_prints_the_id_of_a_run_that_every_option_reaches(workpool, stack, tmp_path):
    (tmp_path / "args.json").write_text('{"n": 1}')
    ran = workpool(
        *("run", "probe.work", f"@{tmp_path / 'args.json'}", "--json", "--after", "1h"),
        *("--max-retries", "3", "--initial-backoff-ms", "100", "--base", "1.5"),
        *("--on-complete", "probe.settled", "--context", "[1]", "--annotation", "order o1"),
        *("--idempotency-key", "cli-1", "--fairness-key", "tenant"),
    )
    assert (ran.code, ran.err, ran.json.keys()) == (0, "", {"runId"})
    item = stack.item("cli", ran.json["runId"])
    for name, stored in {
        "args": {"S": '{"n":1}'},
        "maxRetries": {"N": "3"},
        "initialBackoffMs": {"N": "100"},
        "base": {"N": "1.5"},
        "onComplete": {"S": "probe.settled"},
        "context": {"S": "[1]"},
        "annotation": {"S": "order o1"},
        "fairnessKey": {"S": "tenant"},
    }.items():
        assert item[name] == stored, name
    assert workpool("cancel", ran.json["runId"]).code == 0


@pytest.mark.promise(
    "The command workpool",
    "`workpool run` reads JSON from an argument, from `@file` or from standard input",
)
@pytest.mark.promise(
    "The command workpool", "`workpool run --wait` tells by its exit code how the run ended"
)
@pytest.mark.promise(
    "The command workpool",
    "`workpool wait` exits with 0 for success, 3 if a run did "
    "not succeed, and 4 when the time is up",
)
def test_run_and_wait_tell_by_their_exit_code_how_the_run_ended(workpool):
    good = workpool("run", "probe.work", "-", "--wait", "--json", stdin='{"failures": 1}')
    assert good.code == 0
    assert good.json["result"] == {"type": "success", "returnValue": {"attempts": 2}}
    bad = workpool("run", "probe.refuse", "--wait")
    assert bad.code == 3
    assert "no such card" in bad.out
    ids = [good.json["runId"], re.search(ID, bad.out)[0]]
    both = workpool("wait", "-", "--json", stdin="\n".join(ids))
    assert both.code == 3
    assert [it["result"]["type"] for it in both.json["statuses"]] == ["success", "failed"]
    assert workpool("wait", ids[0], "--json").json == good.json


@pytest.mark.promise(
    "The command workpool",
    "`workpool wait` exits with 0 for success, 3 if a run did "
    "not succeed, and 4 when the time is up",
)
def test_wait_gives_up_with_a_code_of_its_own(workpool, waiting):
    ran = workpool("wait", waiting, "--timeout", "500ms", "--json")
    assert (ran.code, ran.out) == (4, "")
    assert json.loads(ran.err)["error"]["code"] == "TimedOut"
    assert f"workpool status {waiting} -p cli" in ran.err
    workpool("cancel", waiting)


@pytest.mark.promise(
    "The command workpool",
    "`workpool run --batch` submits many requests, as a JSON array or one per line",
)
def test_a_batch_prints_an_id_a_line_and_what_was_refused(workpool, tmp_path):
    path = tmp_path / "runs.jsonl"
    good = '{"action": "probe.gently"}'
    path.write_text(f"{good}\n{good}\n")
    ran = workpool("run", "--batch", str(path))
    assert (ran.code, [len(it) for it in ran.out.split()]) == (0, [32, 32])
    assert workpool("wait", "-", stdin=ran.out).code == 0
    ran = workpool("run", "--batch", "-", "--json", stdin=f'[{good}, {{"action": "x.y"}}]')
    assert ran.code == 1
    assert [it.keys() for it in ran.json["results"]] == [{"runId"}, {"error"}]
    assert "1 of 2 requests were refused; the first is number 2: no action 'x.y'" in ran.err


@pytest.mark.promise(
    "The command workpool", "`workpool status` shows one run or many, and what `--include` asks for"
)
def test_status_shows_one_run_or_many_and_what_is_asked_for(workpool, waiting):
    one = workpool("status", waiting, "--json", "--include", "args,attempts")
    assert one.code == 0
    assert (one.json["kind"], one.json["args"], one.json["attempts"]) == ("scheduled", {}, [])
    shown = workpool("status", waiting).out
    assert waiting in shown and "scheduled" in shown and ", in " in shown
    two = workpool("status", waiting, "nobody", "--json")
    assert two.code == 1
    assert [it["kind"] for it in two.json["statuses"]] == ["scheduled", "unknown"]
    assert "pool 'cli' has no run 'nobody'" in two.err
    workpool("cancel", waiting)


@pytest.mark.promise(
    "The command workpool", "`workpool cancel` cancels a run and shows the status after it"
)
def test_cancel_answers_the_status_after_it(workpool, waiting):
    ran = workpool("cancel", waiting, "--json")
    assert (ran.code, ran.json["kind"]) == (0, "canceled")
    assert ran.json["result"] == {"type": "canceled"}


@pytest.mark.promise(
    "The command workpool",
    "`workpool runs` lists the open runs, and `workpool cancel-all` cancels them",
)
def test_runs_are_listed_and_all_of_them_canceled(workpool, waiting):
    listed = workpool("runs", "--json", "--kind", "scheduled", "--limit", "0")
    assert waiting in [it["runId"] for it in listed.json["runs"]]
    assert len(workpool("runs", "--json", "--limit", "1").json["runs"]) == 1
    assert waiting in workpool("runs").out
    ran = workpool("cancel-all", "--yes", "--wait", "--json")
    assert (ran.code, ran.json) == (0, {"canceling": False})
    assert workpool("status", waiting, "--json").json["kind"] == "canceled"
    assert workpool("cancel-all", "--json").json == {"canceling": True}


@pytest.mark.promise("The command workpool", "`workpool stats` shows the statistics of the API")
def test_stats_are_those_of_the_api(workpool, stack):
    ran = workpool("stats", "--json")
    assert ran.code == 0
    assert ran.json.keys() == stack.http("GET", "/pools/cli/stats")[1].keys()
    assert "pending" in workpool("stats").out


@pytest.mark.promise(
    "The command workpool",
    "`workpool pools` lists the pools; `workpool pause`, `workpool "
    "resume` and `workpool scale` change one",
)
def test_a_pool_is_paused_resumed_and_scaled(workpool):
    paused = workpool("pause", "--json").json
    paused.pop("cancelingBefore", None)  # For a minute after the test above.
    assert paused == {"name": "cli", "maxParallelism": 2, "paused": True, "deadLetters": 0}
    assert re.search(r"cli +paused", workpool.plainly("pools").out)
    assert workpool("resume", "--json").json["paused"] is False
    assert workpool("scale", "3", "--json").json["maxParallelism"] == 3
    shown = {it["name"]: it for it in workpool.plainly("pools", "--json").json["pools"]}
    assert shown["cli"]["maxParallelism"] == 3
    assert workpool("scale", "2").code == 0


@pytest.mark.promise(
    "The command workpool", "`workpool redrive` redrives parked completions and says how many"
)
def test_redrive_says_how_many(workpool):
    ran = workpool("redrive", "--json")
    assert (ran.code, ran.json) == (0, {"redriving": 0})
    assert workpool("redrive", "r1", "-", "--json", stdin="r2\n").json == {"redriving": 0}


@pytest.mark.promise(
    "The command workpool", "`workpool tail` prints lines or JSON, and saves a picture"
)
def test_tail_prints_a_line_or_an_object_a_look_and_saves_a_picture(workpool, waiting, tmp_path):
    picture = tmp_path / "tail.svg"
    looked = ("tail", "--looks", "2", "--interval", "0.2")
    lines = workpool(*looked, "--picture", str(picture)).out.splitlines()
    assert len(lines) == 2
    assert "1 pending, 0 of 2 slots" in lines[1]
    assert waiting in picture.read_text()
    first, _ = map(json.loads, workpool(*looked, "--json").out.splitlines())
    assert first.keys() == {"at", "pool", "stats", "runs", "ended"}
    assert [it["runId"] for it in first["runs"]] == [waiting]
    workpool("cancel", waiting)


@pytest.mark.promise(
    "The command workpool",
    "On a terminal, `workpool tail` is live until Ctrl-C, and then exits with 130",
)
def test_on_a_terminal_tail_is_live_until_ctrl_c(workpool):
    master, terminal = pty.openpty()
    with subprocess.Popen(
        [str(SCRIPT), "tail", "--pool", "cli", "--interval", "0.2"],
        env={**workpool.environment, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    ) as process:
        os.close(terminal)
        seen = b""
        deadline = time.monotonic() + 20
        while b"nothing since this began" not in seen and time.monotonic() < deadline:
            if select.select([master], [], [], 0.5)[0]:
                seen += os.read(master, 65536)
        process.send_signal(signal.SIGINT)
        while select.select([master], [], [], 5)[0]:
            try:
                seen += os.read(master, 65536)
            except OSError:  # The other side is closed.
                break
        assert process.wait(10) == 130
    os.close(master)
    assert b"pool cli" in seen and b"slots in use" in seen
    assert b"Traceback" not in seen


@pytest.mark.promise("The command workpool", "An error is one line that says what to do")
@pytest.mark.promise(
    "The command workpool", "The exit code is 1 for a refused request and 2 for a mistyped command"
)
@pytest.mark.parametrize(
    ("typed", "code", "told"),
    [
        (["statu"], 2, "workpool: No such command 'statu'. Did you mean"),
        (["run"], 2, "workpool: give an ACTION, or --batch"),
        (["run", "probe.work", '{"a": x}'], 2, "ARGS must be JSON: expecting value at line 1, co"),
        (["run", "probe.work", "[]"], 1, "workpool: args must be an object"),
        (["run", "probe.nothing"], 1, "workpool: no action 'probe.nothing' is deployed"),
        (["runs", "--pool", "emial"], 1, "workpool: no pool 'emial'; deployed are: bulk"),
        (["tail", "--pool", "emial"], 1, "workpool: no pool 'emial'; deployed are: bulk"),
        (["scale", "0"], 1, "workpool: maxParallelism must be an integer from 1 to 1000, got 0"),
        (["wait", "x", "--timeout", "5"], 2, "a duration is a number and one of ms, s, m, h, d"),
        (["pools", "--stack", "Other"], 1, "no such stack here: give --stack, --profile or"),
        (["pools", "--profile", "nobody"], 1, "The config profile (nobody) could not be found"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_error_is_one_line_that_says_what_to_do(workpool, typed, code, told):
    ran = workpool.plainly(*typed) if "pools" in typed or "statu" in typed else workpool(*typed)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.count("\n") == 1 and ran.err.startswith("workpool: ")
    assert told in ran.err


@pytest.mark.promise("The command workpool", "An error is one line that says what to do")
def test_a_stack_that_does_not_answer_is_named(workpool):
    ran = workpool("stats", "--json", WORKPOOL_API_URL="http://127.0.0.1:1")
    assert ran.code == 1
    error = json.loads(ran.err)["error"]
    assert error["code"] == "Internal"
    assert error["message"].startswith("http://127.0.0.1:1 did not answer")


@pytest.mark.promise("The command workpool", "An error is one line that says what to do")
def test_without_credentials_it_says_so(workpool):
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": "/nonexistent"}
    ran = workpool("stats", **nobody)
    assert ran.code == 1
    assert ran.err.startswith("workpool: no AWS credentials: give --profile")


@pytest.mark.promise(
    "The command workpool", "`--stack`, `--profile` and `--region` find the deployment as on AWS"
)
def test_a_profile_and_a_stack_find_the_deployment_as_on_aws(workpool, stack, tmp_path):
    """By the parameter, whatever the environment says; the emulator's own name for its API does
    not resolve everywhere, so that it may be found and not reached."""
    config = tmp_path / "config"
    config.write_text("[profile ops]\naws_access_key_id = a\naws_secret_access_key = b\n")
    ran = workpool(
        *("pools", "--profile", "ops", "--stack", stack.name),
        WORKPOOL_API_URL="http://127.0.0.1:1",
        AWS_CONFIG_FILE=str(config),
    )
    assert "127.0.0.1:1 " not in ran.err
    assert ran.code == 0 or "execute-api.localhost" in ran.err


@pytest.mark.promise("The command workpool", "The help shows the options and the exit codes")
def test_without_a_command_it_shows_its_help(workpool):
    ran = workpool.plainly()
    assert (ran.code, ran.err) == (0, "")
    assert "Exit codes: 0 done" in ran.out and "130 Ctrl-C" in ran.out


@pytest.mark.promise("The command workpool", "The shell completes commands and pools")
def test_the_shell_completes_commands_and_pools(workpool):
    def completed(typed: str) -> str:
        return workpool.plainly(
            _WORKPOOL_COMPLETE="complete_bash",
            COMP_WORDS=typed,
            COMP_CWORD=str(len(typed.split(" ")) - 1),
        ).out

    assert completed("workpool sc").split() == ["scale"]
    assert completed("workpool stats --pool em").split() == ["emails"]
    assert "complete_bash" in workpool.plainly(_WORKPOOL_COMPLETE="source_bash").out
