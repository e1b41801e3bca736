"""Faults 42 and 43: user code that leaves its process changed, and user code that returns or raises
anything."""

import asyncio
import contextvars
import io
import json
import locale
import logging.config
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers import api
from tests.faults.cloud import Cloud
from tests.support import environment
from workpool.aws import clients, lambda_actions, logs
from workpool.core.result import outcome_of
from workpool.core.retry import Failure, Success
from workpool.core.run import Payload
from workpool.errors import NonRetryableError
from workpool.verbs.attempt import attempt

FUNCTIONS = Path(logs.__file__).parents[2]
VARIABLE = contextvars.ContextVar("variable", default="as before")


def attempted(message: Any) -> float | None:
    return attempt(message, remaining_ms=lambda: 70_000)


def leave_environment() -> None:
    os.environ["AWS_DEFAULT_REGION"] = "eu-west-1"
    os.environ["LEFT"] = "behind"
    del os.environ["WORKPOOL_RUNS_TABLE"]


def leave_directory() -> None:
    os.chdir("/")


def leave_seed() -> None:
    random.seed(7)


def leave_alarm() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(30)


def leave_default_session() -> None:
    boto3.setup_default_session(region_name="eu-west-1")


def leave_logging() -> None:
    logging.config.dictConfig({"version": 1})
    logging.disable(logging.CRITICAL)


def leave_settings() -> None:
    sys.setrecursionlimit(sys.getrecursionlimit() + 1000)
    sys.set_int_max_str_digits(0)
    socket.setdefaulttimeout(0.001)
    os.umask(0)
    locale.setlocale(locale.LC_ALL, "C")
    VARIABLE.set("left behind")


def leave_output() -> None:
    sys.stdout = io.StringIO()


STATE: dict[str, Callable[[], Any]] = {
    "environment": lambda: dict(os.environ),
    "directory": os.getcwd,
    "alarm": lambda: (signal.getitimer(signal.ITIMER_REAL)[0], signal.getsignal(signal.SIGALRM)),
    "session": lambda: boto3.DEFAULT_SESSION,
    "logging": lambda: (
        logging.root.manager.disable,
        logging.getLogger("botocore").disabled,
        [*logging.root.handlers],
    ),
    "settings": lambda: (
        sys.getrecursionlimit(),
        sys.get_int_max_str_digits(),
        socket.getdefaulttimeout(),
        os.umask(os.umask(0o22) or 0o22),
        locale.setlocale(locale.LC_ALL),
        VARIABLE.get(),
    ),
    "output": lambda: (sys.stdout, sys.stderr),
}
"""What the next run would see of what the functions above leave behind."""


@pytest.mark.parametrize(
    "leave",
    [
        leave_environment,
        leave_directory,
        leave_seed,
        leave_alarm,
        leave_default_session,
        leave_logging,
        leave_settings,
        leave_output,
    ],
    ids=lambda it: it.__name__.removeprefix("leave_"),
)
@pytest.mark.parametrize("ends", ["returns", "raises"])
def test_fault_42_what_an_action_leaves_behind_reaches_neither_the_pool_nor_the_next_run(
    world, message, logged, monkeypatch, leave: Callable[[], None], ends: str
) -> None:
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", boto3.Session())
    seen: list[dict[str, Any]] = []

    def work(ctx: Any, args: Any) -> None:
        seen.append({name: look() for name, look in STATE.items()})
        leave()
        ctx.logger.info("left")
        if ends == "raises":
            raise NonRetryableError("boom")

    world.action(work)
    for run_id in ("r1", "r2"):
        attempted(message(world.put(world.a_run(run_id=run_id))))
    assert seen[0] == seen[1]
    lines = logged()
    assert [it["runId"] for it in lines if it.get("event") == "job-end"] == ["r1", "r2"]
    told = [it["runId"] for it in lines if it.get("message") == "left"]
    assert told == ["r1", "r2"]


def test_fault_42_a_seed_decides_neither_the_next_runs_numbers_nor_the_delays(
    world, message
) -> None:
    drawn: list[float] = []

    def work(ctx: Any, args: Any) -> None:
        drawn.append(random.random())
        random.seed(7)
        raise ValueError("boom")

    world.action(work)
    keys = [world.put(world.a_run(run_id=f"r{it}", initial_backoff_ms=10_000_000)) for it in "123"]
    for run in keys:
        attempted(message(run))
    assert len(set(drawn)) == 3
    assert len({world.run(it.key).due for it in keys}) == 3
    assert drawn[1] != random.Random(7).random()


def test_fault_42_numbers_drawn_in_one_run_are_not_drawn_again_in_the_next(world, message) -> None:
    drawn: list[float] = []
    world.action(lambda ctx, args: drawn.extend(random.random() for _ in range(700)))
    for run_id in ("r1", "r2"):
        attempted(message(world.put(world.a_run(run_id=run_id))))
    assert len(set(drawn)) == 1400


def test_fault_42_what_a_module_sets_while_it_is_imported_stays(world, message) -> None:
    world.code(
        "actions",
        "jobs",
        "import os\nfrom workpool import action\nos.environ['SET_BY_MODULE'] = 'once'\n"
        "@action\ndef work(ctx, args): return os.environ['SET_BY_MODULE']\n",
    )
    try:
        for run_id in ("r1", "r2"):
            attempted(message(world.put(world.a_run(run_id=run_id))))
            assert world.run(f"default#{run_id}").return_value.text == '"once"'
    finally:
        os.environ.pop("SET_BY_MODULE", None)


def test_fault_42_a_logging_configuration_at_import_silences_nothing(
    world, message, logged
) -> None:
    world.code(
        "actions",
        "jobs",
        "import logging.config\nfrom workpool import action\n"
        "logging.config.dictConfig({'version': 1})\n"
        "@action\ndef work(ctx, args): ctx.logger.info('here')\n",
    )
    attempted(message(world.put(world.a_run())))
    lines = logged()
    assert {it.get("event") for it in lines} >= {"job-start", "job-end"}
    assert [it["runId"] for it in lines if it["message"] == "here"] == ["r1"]


def test_fault_42_a_thread_that_is_left_logs_under_its_own_run(world, message, logged) -> None:
    second_runs, logs_again = threading.Event(), threading.Event()

    def work(ctx: Any, args: Any) -> None:
        def later() -> None:
            second_runs.wait(10)
            ctx.logger.info("from the thread")
            logs_again.set()

        if ctx.run_id == "r1":
            threading.Thread(target=later, daemon=True).start()
        else:
            second_runs.set()
            logs_again.wait(10)
            ctx.logger.info("from the action")

    world.action(work)
    for run_id in ("r1", "r2"):
        attempted(message(world.put(world.a_run(run_id=run_id))))
    said = {it["message"]: it["runId"] for it in logged()}
    assert (said["from the thread"], said["from the action"]) == ("r1", "r2")


ASYNC = """
import asyncio
from workpool import action, completion

lock, loops, tasks = asyncio.Lock(), [], []

async def leave():
    tasks.append(asyncio.current_task())
    await asyncio.sleep(3600)

async def use():
    loops.append(asyncio.get_running_loop())
    async def hold():
        async with lock:
            await asyncio.sleep(0.001)
    await asyncio.gather(hold(), hold())
    asyncio.create_task(leave())
    await asyncio.to_thread(int)

@action
async def work(ctx, args):
    await use()
    if args.get("raises"):
        raise SystemExit("out")

@completion
async def done(ctx, context, result):
    await use()
"""


def test_fault_42_all_runs_of_a_process_share_one_event_loop(world, message) -> None:
    """The lock belongs to the loop that it was first contended in."""
    world.code("actions", "jobs", ASYNC)
    raises = Payload('{"raises":true}')
    for run_id, args in (("r1", Payload("{}")), ("r2", raises), ("r3", Payload("{}"))):
        attempted(message(world.put(world.a_run(run_id=run_id, args=args, retries=4))))
    assert [world.run(f"default#r{it}").error for it in (1, 2, 3)] == [None, "out", None]
    module = sys.modules["actions.jobs"]
    assert len(module.loops) == 3 and len(set(map(id, module.loops))) == 1
    assert [it.cancelled() for it in module.tasks] == [True, True, True]
    assert not module.loops[0].is_closed()


def test_fault_42_handlers_share_one_event_loop_too(cloud: Cloud, world: Any) -> None:
    world.code("completions", "jobs", ASYNC)
    keys = [cloud.submit() for _ in range(3)]
    cloud.rest()
    assert [world.run(it).completion for it in keys] == ["done"] * 3
    assert [world.run(it).completion_tries for it in keys] == [1] * 3


def test_fault_42_a_loop_that_an_action_closes_is_replaced(world, message) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    world.action(lambda ctx, args: loops.append(asyncio.get_running_loop()), head="async def")
    for run_id in ("r1", "r2"):
        attempted(message(world.put(world.a_run(run_id=run_id))))
        loops[-1].close()
        assert world.run(f"default#{run_id}").result == "success"


FORKS = {
    "returns": (0, "return 'the child'"),
    "exits": (3, "sys.exit(3)"),
    "raises": (1, "raise ValueError('in the child')"),
}


@pytest.mark.parametrize("child", FORKS)
@pytest.mark.parametrize("head", ["def", "async def"])
def test_fault_42_a_forked_child_does_not_settle_its_parents_run(
    world, message, capfd, child: str, head: str
) -> None:
    status, does = FORKS[child]
    world.code(
        "actions",
        "jobs",
        f"""
import os, sys, warnings
from workpool import action
@action
{head} work(ctx, args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        {does}
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
""",
    )
    worker = os.getpid()
    try:
        attempted(message(world.put(world.a_run())))
    finally:
        if os.getpid() != worker:
            os._exit(99)
    run = world.run("default#r1")
    assert (run.result, run.return_value.text) == ("success", str(status))


CLOSES = """
import os, sys
sys.path.insert(0, {functions!r})
from unittest.mock import patch
from workpool import lookup
from workpool.aws import logs
from workpool.verbs import user_code
logs.log("before")
def closes():
    {closes}
    logs.log("during")
with patch.object(lookup, "find", lambda name, decorator: closes):
    user_code.call("jobs.work", "action")
logs.log("after")
print("printed")
print("complained", file=sys.stderr)
"""


@pytest.mark.parametrize(
    "closes",
    [
        "sys.stdout.close()",
        "sys.stdout.close(); sys.stderr.close()",
        "os.dup2(os.open(os.devnull, os.O_WRONLY), 1); sys.stdout.close()",
        "sys.stdout.close(); open(os.devnull, 'w')",
        "sys.stderr.close(); sys.stderr = None",
    ],
)
def test_fault_42_closed_output_is_open_again_and_no_line_of_the_pool_is_lost(closes: str) -> None:
    program = CLOSES.format(functions=str(FUNCTIONS), closes=closes)
    variables = os.environ | environment.variables()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=variables, check=False
    )
    assert (done.returncode, done.stderr) == (0, "complained\n")
    *lines, printed = done.stdout.splitlines()
    assert [json.loads(it)["event"] for it in lines] == ["before", "during", "after"]
    assert printed == "printed"


def test_fault_42_the_librarys_clients_follow_no_default_session(monkeypatch) -> None:
    clients._session.cache_clear()
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", boto3.Session(region_name="eu-west-1"))
    assert clients.client.__wrapped__("stepfunctions").meta.region_name == "us-east-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert clients.client.__wrapped__("s3").meta.region_name == "us-east-1"
    assert clients.without_retries.__wrapped__("lambda", 1).meta.region_name == "us-east-1"
    clients._session.cache_clear()


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, True),
        ({"region_name": "eu-west-1"}, False),
        ({"aws_access_key_id": "theirs", "aws_secret_access_key": "s"}, False),
    ],
)
def test_fault_42_only_a_default_session_like_the_processes_own_is_kept(
    monkeypatch, changes: dict[str, str], kept: bool
) -> None:
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    boto3.setup_default_session(**changes)
    clients.restore_default_session(None)
    assert (boto3.DEFAULT_SESSION is not None) is kept


# Fault 43


class Odd(dict[str, Any]):
    def __init__(self, error: BaseException) -> None:
        super().__init__(a=1)
        self.error = error

    def items(self) -> Any:
        raise self.error


class OddValues(dict[str, Any]):
    def values(self) -> Any:
        raise KeyError("no values")


class Text(str):
    def __getitem__(self, key: Any) -> Any:
        raise ValueError("no part")

    def __bool__(self) -> bool:
        raise ValueError("no truth")

    __hash__ = str.__hash__


class Says(Exception):
    def __init__(self, says: Any) -> None:
        self.says = says

    def __str__(self) -> str:
        if isinstance(self.says, BaseException):
            raise self.says
        return self.says  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "value",
    [
        Odd(KeyError("x")),
        Odd(SystemExit(1)),
        Odd(RecursionError()),
        Odd(Says(SystemExit())),
        OddValues(a=[1]),
        {"a": float("inf")},
        {float("nan"): 1},
        10**5000,
        {(1, 2): 3},
        [b"bytes"],
        iter([]),
        Says("an exception"),
        type,
        ...,
    ],
    ids=lambda it: type(it).__name__,
)
def test_fault_43_a_value_that_cannot_be_encoded_fails_its_run_at_once(
    world, message, value: Any
) -> None:
    world.action(lambda ctx, args: value)
    assert attempted(message(world.put(world.a_run()))) is None
    run = world.run("default#r1")
    assert (run.kind, run.result, run.retries) == ("completed", "failed", 0)
    assert run.error.startswith("the return value is not JSON: ")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Says("plain"), "plain"),
        (Says(Text("odd")), "odd"),
        (Says(7), "Says"),
        (Says(SystemExit()), "Says"),
        (Says(RecursionError()), "Says"),
        (Says("\ud800"), "?"),
        (GeneratorExit(), "GeneratorExit"),
        (StopIteration(3), "3"),
        (asyncio.CancelledError(), "CancelledError"),
    ],
    ids=lambda it: type(it).__name__,
)
@pytest.mark.parametrize("head", ["def", "async def"])
def test_fault_43_whatever_is_raised_is_a_failed_attempt_of_its_own_run_alone(
    world, message, error: BaseException, text: str, head: str
) -> None:
    def work(ctx: Any, args: Any) -> None:
        if ctx.run_id == "r1":
            raise error

    world.action(work, head=head)
    for run_id in ("r1", "r2"):
        run = world.put(world.a_run(run_id=run_id, retries=4))
        assert attempted(message(run)) is None
    assert world.run("default#r1").result == "failed"
    if not (isinstance(error, StopIteration) and head == "async def"):
        assert world.run("default#r1").error == text
    assert world.run("default#r2").result == "success"


GROUPS = [
    (ExceptionGroup("two", [KeyError("x"), NonRetryableError("no card")]), True),
    (ExceptionGroup("in", [ExceptionGroup("out", [NonRetryableError("no card")])]), True),
    (BaseExceptionGroup("base", [SystemExit(2), NonRetryableError("no card")]), True),
    (ExceptionGroup("two", [KeyError("x"), ValueError("no card")]), False),
]


@pytest.mark.promise("Retries", "An exception group that holds a NonRetryableError ends the run")
@pytest.mark.parametrize(("group", "final"), GROUPS)
def test_fault_43_a_group_that_holds_a_non_retryable_error_ends_the_run(
    world, message, group: BaseException, final: bool
) -> None:
    def work(ctx: Any, args: Any) -> None:
        raise group

    world.action(work)
    attempted(message(world.put(world.a_run(max_retries=9))))
    run = world.run("default#r1")
    assert (run.kind, run.retries) == (("completed", 0) if final else ("scheduled", 1))
    [noted] = json.loads(run.attempts)
    assert noted["error"].startswith(group.args[0])
    assert "no card" in noted["error"]


def test_fault_43_the_errors_of_a_task_group_are_named(world, message) -> None:
    world.code(
        "actions",
        "jobs",
        """
import asyncio
from workpool import NonRetryableError, action
async def fail():
    raise NonRetryableError("no card")
@action
async def work(ctx, args):
    async with asyncio.TaskGroup() as group:
        group.create_task(fail())
""",
    )
    attempted(message(world.put(world.a_run())))
    run = world.run("default#r1")
    assert (run.result, run.retries) == ("failed", 0)
    assert run.error == (
        "unhandled errors in a TaskGroup (1 sub-exception): NonRetryableError: no card"
    )


def deep_group() -> ExceptionGroup[Any]:
    group = ExceptionGroup("g", [ValueError("boom")])
    for _ in range(5000):
        group = ExceptionGroup("g", [group])
    return group


def test_fault_43_a_group_of_any_depth_and_width_is_an_error_like_any_other(world, message) -> None:
    wide = ExceptionGroup("wide", [ValueError(f"e{it}") for it in range(12)])
    raised = {"r1": deep_group(), "r2": wide}

    def work(ctx: Any, args: Any) -> None:
        raise raised[ctx.run_id]

    world.action(work)
    for run_id in raised:
        assert attempted(message(world.put(world.a_run(run_id=run_id, retries=4)))) is None
    assert world.run("default#r1").error == "g (1 sub-exception): ValueError: boom"
    assert world.run("default#r2").error.endswith("ValueError: e9; 2 more")
    raised.clear()


LAMBDA = [
    (b"NaN", "the return value is not JSON: Out of range float values are not JSON"),
    (b"[1e400]", "the return value is not JSON: Out of range float values are not JSON"),
    (b"-Infinity", "the return value is not JSON: Out of range float values are not JSON"),
    (b'"\\ud800"', "the return value is not JSON: 'utf-8' codec can't encode"),
    (b'{"\\udfff": 1}', "the return value is not JSON: 'utf-8' codec can't encode"),
    (b"\xff", "the return value is not JSON: 'utf-8' codec can't decode"),
    (b"", "the return value is not JSON: Expecting value"),
    (b"1" * 5000, "the return value is not JSON: Exceeds the limit"),
    (b"[" * 201 + b"]" * 201, "the return value must be nested at most 200 deep"),
    (b"[" * 100_000, "the return value is not JSON: maximum recursion depth"),
]


@pytest.mark.parametrize(("answer", "error"), LAMBDA, ids=lambda it: str(it)[:12])
def test_fault_43_a_function_that_answers_what_json_cannot_hold_fails_its_run_at_once(
    world, message, answer: bytes, error: str
) -> None:
    world.redeploy(lambdaActions=["far"])
    world.lambdas.functions["far"] = (30, lambda event: answer)
    attempted(message(world.put(world.a_run(action="lambda:far"))))
    run = world.run("default#r1")
    assert (run.kind, run.result, run.retries) == ("completed", "failed", 0)
    assert run.error.startswith(error)


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(JSON_LIKE)
def test_fault_43_both_kinds_of_action_give_a_value_the_same_outcome(value: Any) -> None:
    here = outcome_of(value)
    there = lambda_actions._success(json.dumps(value).encode())
    assert there == here
    if isinstance(here, Success):
        text = here.return_value.text or ""
        strict = json.loads(text, parse_constant=pytest.fail)
        assert strict == value


@settings(
    max_examples=300,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(JSON_LIKE | st.dictionaries(st.text(), JSON_LIKE), st.binary(max_size=40))
def test_fault_43_whatever_a_function_fails_with_is_one_failure(shape: Any, raw: bytes) -> None:
    for payload in (json.dumps(shape).encode(), raw):
        text = payload.decode(errors="replace")
        failure = lambda_actions._failure(text, "far")
        assert isinstance(failure, Failure) and failure.error


def test_fault_43_a_function_that_fails_deeply_or_with_nothing_is_a_failed_attempt() -> None:
    deep = lambda_actions._failure("[" * 100_000, "far")
    assert deep.error.startswith("[[[") and deep.retryable
    assert lambda_actions._failure("", "far").error == "far failed and said nothing"


def test_fault_43_the_api_never_answers_what_is_no_json() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        api._json(200, {"returnValue": float("inf")})
