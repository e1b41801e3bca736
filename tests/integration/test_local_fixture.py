"""`workpool.testing`, for a team's own tests: on a project with actions and handlers of theirs."""

import asyncio
import importlib
import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from workpool import IdempotentWorkpool, InvalidRequest, UnknownAction, UnknownPool, lookup
from workpool.testing import WorkpoolLocal, workpool_local

ACTIONS = """
import asyncio
import os

import boto3
import pytest
from workpool import IdempotentWorkpool, NonRetryableError, action

@action
def charge(ctx, args):
    calls = boto3.client("dynamodb").update_item(
        TableName="calls",
        Key={"id": {"S": ctx.idempotency_key}},
        UpdateExpression="ADD calls :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
        ReturnValues="ALL_NEW",
    )["Attributes"]["calls"]["N"]
    if ctx.retries < args.get("failures", 0):
        raise ConnectionError("the bank is away")
    if args.get("bank"):
        return os.environ.get("BANK")
    if args.get("wrong"):
        assert pytest.fail("a mistake of the test's")
    if args.get("stolen"):
        raise NonRetryableError("no card")
    return {"calls": int(calls)} | ({"x": args["x"]} if "x" in args else {})

@action
async def chain(ctx, args):
    if args["left"]:
        pool = IdempotentWorkpool(ctx.pool)
        return pool.run("orders.chain", {"left": args["left"] - 1})

@action
async def grouped(ctx, args):
    if "says" in args:
        ctx.logger.info(args["says"])
        return
    async def fail():
        pytest.fail("in the group")
    async with asyncio.TaskGroup() as group:
        group.create_task(fail())

@action
def parent(ctx, args):
    pool = IdempotentWorkpool(args["pool"])
    run_id = pool.run("orders.chain", {"left": 0})
    return pool.wait(run_id, timeout=args.get("timeout", 60)).kind

@action
def grandparent(ctx, args):
    pool = IdempotentWorkpool()
    return pool.wait(pool.run("orders.parent", args), timeout=60).kind
"""
COMPLETIONS = """
from workpool import completion

@completion
def settled(ctx, context, result):
    if context == "raises" and not pytest_says_no:
        raise ValueError("not yet")
    item = {"id": {"S": f"settled {ctx.run_id}"}, "result": {"S": result["type"]}}
    return [{"Put": {"TableName": "calls", "Item": item}}]

pytest_says_no = []
"""


THEIRS = """
import pytest
from workpool import IdempotentWorkpool, UnknownPool

@pytest.mark.parametrize("again", [1, 2])
def test_a_mail(workpool_local, again, capsys):
    run_id = IdempotentWorkpool("mails").run("orders.charge")
    workpool_local.settle()
    status = IdempotentWorkpool("mails").status(run_id)
    assert status.result["type"] == "failed" and "calls" not in status.result["error"]
    assert '"event":"job-end"' in capsys.readouterr().out
    with pytest.raises(UnknownPool):
        IdempotentWorkpool("default").run("orders.charge")
"""
POOLS: dict[str, dict[str, Any]] = {
    "default": {"maxParallelism": 10},
    "other": {"maxRetries": 0, "lambdaActions": ["far"], "environment": {"BANK": "far away"}},
}
LIBRARY = Path(lookup.__file__).parent


@pytest.fixture
def workpool_pools() -> dict[str, dict[str, Any]]:
    return POOLS


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A team's functions/, in place of this project's."""
    for package, text in (("actions", ACTIONS), ("completions", COMPLETIONS)):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        (tmp_path / package / "orders.py").write_text(text)
        for name in (package, f"{package}.orders"):
            monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(lookup, "ROOT", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.fixture
def local(workpool_local: WorkpoolLocal) -> Iterator[WorkpoolLocal]:
    boto3.client("dynamodb").create_table(
        TableName="calls",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    yield workpool_local
    boto3.client("dynamodb").delete_table(TableName="calls")


def stored(key: str) -> dict[str, Any]:
    answer = boto3.client("dynamodb").get_item(TableName="calls", Key={"id": {"S": key}})
    return dict(answer.get("Item", {}))


@pytest.mark.promise(
    "Your own tests with workpool.testing",
    "In `workpool_local`, a run waits, is retried and completes as in a deployment",
)
@pytest.mark.promise(
    "Your own tests with workpool.testing",
    "`settle`, `tick` and `wait` move the clock of `workpool_local`",
)
def test_a_run_that_fails_twice_waits_between_and_completes(local) -> None:
    pool, began = IdempotentWorkpool(), local.now_ms
    run_id = pool.run("orders.charge", {"failures": 2}, on_complete="orders.settled")
    assert pool.status(run_id).kind == "enqueued"
    local.tick(0)
    waiting = pool.status(run_id)
    assert (waiting.kind, waiting.retries) == ("scheduled", 1)
    assert waiting.next_run is not None and waiting.next_run >= began + 125
    local.settle()
    status = pool.status(run_id)
    assert status.result == {"type": "success", "returnValue": {"calls": 3}}
    assert (status.retries, status.completion) == (2, "done")
    assert stored(f"settled {run_id}")["result"] == {"S": "success"}
    assert local.now_ms - began < 10_000
    assert pool.stats()["recentExecutions"] == 3


@pytest.mark.promise(
    "Your own tests with workpool.testing",
    "In `workpool_local`, a run waits, is retried and completes as in a deployment",
)
def test_a_failed_run_is_told_to_its_handler(local) -> None:
    pool = IdempotentWorkpool()
    failed = pool.run_once("orders.charge", {"failures": 9}, on_complete="orders.settled")
    stolen = pool.run("orders.charge", {"stolen": True}, on_complete="orders.settled")
    local.settle()
    assert pool.status(failed).result == {"type": "failed", "error": "the bank is away"}
    assert stored(stolen)["calls"] == {"N": "1"}
    for run_id in (failed, stolen):
        assert stored(f"settled {run_id}")["result"] == {"S": "failed"}


@pytest.mark.promise(
    "Your own tests with workpool.testing",
    "After `workpool_local.kill`, the action is called again with the same idempotency key",
)
def test_a_killed_attempt_calls_the_action_again_with_the_same_key(local) -> None:
    pool = IdempotentWorkpool()
    local.kill()
    run_id = pool.run("orders.charge", on_complete="orders.settled")
    local.settle()
    status = pool.status(run_id, include=["attempts"])
    assert status.result == {"type": "success", "returnValue": {"calls": 2}}
    first, second = status.attempts or []
    assert "worker lost" in first["error"]
    assert second["ended"] == "success"


@pytest.mark.promise(
    "Your own tests with workpool.testing",
    "`settle`, `tick` and `wait` move the clock of `workpool_local`",
)
def test_wait_moves_the_clock_and_a_run_for_later_comes_in_its_time(local) -> None:
    pool, began = IdempotentWorkpool(), local.now_ms
    later = pool.run_after(3_600_000, "orders.charge")
    local.tick(3_598)
    assert pool.status(later).kind == "scheduled"
    assert pool.wait(later, timeout=60).succeeded
    assert 3_600_000 <= local.now_ms - began < 3_660_000
    never = pool.run_after(3_600_000, "orders.charge")
    with pytest.raises(TimeoutError):
        pool.wait(never, timeout=60)


@pytest.mark.promise(
    "Your own tests with workpool.testing",
    "`settle` does not wait for the start time of a canceled run",
)
def test_a_canceled_run_moves_no_clock(local) -> None:
    pool, began = IdempotentWorkpool(), local.now_ms
    next_month = pool.run_after(30 * 86_400_000, "orders.charge", on_complete="orders.settled")
    local.tick(0)
    pool.cancel(next_month)
    local.settle()
    assert pool.status(next_month).completion == "done"
    assert stored(f"settled {next_month}")["result"] == {"S": "canceled"}
    assert local.now_ms - began < 60_000


@pytest.mark.promise(
    "Your own tests with workpool.testing", "`workpool_local` lists runs and cancels all of them"
)
def test_cancel_all_and_lists(local) -> None:
    pool = IdempotentWorkpool()
    runs = [pool.run_after(3_600_000, "orders.charge") for _ in range(3)]
    local.tick(0)
    assert [it.run_id for it in pool.runs("scheduled")] == runs
    pool.cancel_all()
    local.settle()
    assert {it.kind for it in pool.status_batch(runs)} == {"canceled"}
    assert list(pool.runs()) == []


@pytest.mark.promise(
    "Your own tests with workpool.testing",
    "`workpool_local` parks the completion of a handler that keeps raising, and redrives it",
)
def test_a_handler_that_raises_is_parked_and_redriven(local) -> None:
    pool = IdempotentWorkpool()
    run_id = pool.run("orders.charge", on_complete="orders.settled", context="raises")
    local.settle()
    status = pool.status(run_id)
    assert (status.completion, status.completion_error) == ("parked", "not yet")
    lookup.find("orders.settled", "completion").__globals__["pytest_says_no"].append(True)
    assert pool.redrive() == 1
    local.settle()
    assert pool.status(run_id).completion == "done"


@pytest.mark.promise(
    "Your own tests with workpool.testing",
    "In `workpool_local`, a run starts with a transaction of the test if the transaction commits",
)
def test_a_transaction_of_ones_own_starts_its_run_if_it_commits(local) -> None:
    pool, dynamodb = IdempotentWorkpool(), boto3.client("dynamodb")
    put = {"Put": {"TableName": "calls", "Item": {"id": {"S": "order"}}}}
    refused = {"Put": put["Put"] | {"ConditionExpression": "attribute_exists(id)"}}
    never, entry = pool.transact_item("orders.charge")
    with pytest.raises(dynamodb.exceptions.TransactionCanceledException):
        dynamodb.transact_write_items(TransactItems=[entry, refused])
    run_id, entry = pool.transact_item("orders.charge")
    dynamodb.transact_write_items(TransactItems=[put, entry])
    local.settle()
    assert pool.status(run_id).succeeded
    assert pool.status(never).kind == "unknown"
    assert pool.stats()["pending"] == 0


@pytest.mark.promise(
    "Your own tests with workpool.testing",
    "In `workpool_local`, an action may submit further runs; if "
    "this never ends, the test gets an error",
)
def test_an_action_submits_runs_and_one_that_never_stops_is_told(local, monkeypatch) -> None:
    pool = IdempotentWorkpool()
    run_id = pool.run("orders.chain", {"left": 2})
    local.settle()
    for _ in range(2):
        result = pool.status(run_id).result
        assert result is not None
        run_id = result["returnValue"]
    assert pool.status(run_id).succeeded
    monkeypatch.setattr("workpool.testing.MAX_STEPS", 30)
    pool.run("orders.chain", {"left": 1000})
    for goes_on in (local.settle, lambda: local.tick(1)):
        with pytest.raises(RuntimeError, match="after 30 steps there is still something to do"):
            goes_on()


@pytest.mark.promise(
    "Your own tests with workpool.testing",
    "`workpool_local.function` sets what a `lambda:` action answers",
)
def test_a_lambda_action_is_what_the_test_says(local) -> None:
    pool, given = IdempotentWorkpool("other"), []

    def far(event: dict[str, Any]) -> str:
        given.append(event)
        if event["args"]:
            raise ValueError("too far")
        return "here"

    local.function("far", far)
    good, bad = pool.run("lambda:far"), pool.run("lambda:far", {"n": 1})
    local.settle()
    assert pool.status(good).result == {"type": "success", "returnValue": "here"}
    assert pool.status(bad).result == {"type": "failed", "error": "too far"}
    assert [it["runId"] for it in given] == [good, bad]
    assert "BANK" not in os.environ


@pytest.mark.promise(
    "Your own tests with workpool.testing",
    "In `workpool_local`, a mistake raises the same error as in a deployment",
)
def test_mistakes_are_told_as_where_it_is_deployed(local) -> None:
    with pytest.raises(UnknownAction, match=r"orders\.charge"):
        IdempotentWorkpool().run("orders.nothing")
    with pytest.raises(UnknownPool, match="deployed are: default, other"):
        IdempotentWorkpool("ghost").run("orders.charge")
    for asks in (
        lambda pool: pool.status("r"),
        lambda pool: list(pool.runs()),
        lambda pool: pool.cancel("r"),
        lambda pool: pool.redrive(),
    ):
        with pytest.raises(UnknownPool):
            asks(IdempotentWorkpool("ghost"))
    with pytest.raises(InvalidRequest, match="include must be one of"):
        IdempotentWorkpool().status("r", include=["all"])
    with pytest.raises(NotImplementedError, match="make up"):
        IdempotentWorkpool().pause()
    assert [it["paused"] for it in IdempotentWorkpool().pools()] == [False, False]


@pytest.mark.promise(
    "Your own tests with workpool.testing", "`workpool_local` accepts batches and large values"
)
def test_large_values_and_batches(local) -> None:
    pool = IdempotentWorkpool()
    runs = pool.run_batch([{"action": "orders.charge", "args": {"x": "x" * 50_000}}] * 30)
    local.settle()
    assert all(it.succeeded for it in pool.status_batch([str(it) for it in runs]))
    status = pool.status(str(runs[0]), include=["args"])
    assert status.args == {"x": "x" * 50_000}
    assert status.result == {"type": "success", "returnValue": {"calls": 1, "x": "x" * 50_000}}


@pytest.mark.promise(
    "Your own tests with workpool.testing",
    "In `workpool_local`, only the actions of a pool see its `environment`",
)
def test_a_pools_environment_is_its_actions_alone(local) -> None:
    runs = {it: IdempotentWorkpool(it).run("orders.charge", {"bank": 1}) for it in POOLS}
    local.settle()
    values = [IdempotentWorkpool(it).status(run_id).result for it, run_id in runs.items()]
    assert [it and it["returnValue"] for it in values] == [None, "far away"]


@pytest.mark.promise(
    "Your own tests with workpool.testing",
    "An exception that is meant for pytest ends the test; it is no failure of the action",
)
def test_what_is_meant_for_pytest_is_no_failure_of_the_action(local) -> None:
    IdempotentWorkpool().run("orders.charge", {"wrong": True})
    with pytest.raises(pytest.fail.Exception, match="a mistake of the test's"):
        local.settle()


@pytest.mark.promise(
    "Your own tests with workpool.testing",
    "`workpool_local` says when an action waits for a run that can get no slot",
)
@pytest.mark.parametrize("action", ["orders.parent", "orders.grandparent"])
def test_an_action_that_waits_for_a_run_of_its_own_full_pool_ends_the_test(local, action) -> None:
    inside = "other" if action == "orders.parent" else "default"
    run = IdempotentWorkpool(inside).run(action, {"pool": "other"})
    if action == "orders.grandparent":  # Another run has the slot of the pool `other`.
        IdempotentWorkpool("other").run("orders.parent", {"pool": "other"})
    with pytest.raises(RuntimeError, match="every slot is held by an action that waits"):
        local.settle()
    assert IdempotentWorkpool(inside).status(run).kind in ("scheduled", "enqueued", "completed")


def test_an_action_may_wait_for_a_run_that_gets_a_slot(local) -> None:
    pool = IdempotentWorkpool()
    same = pool.run("orders.parent", {"pool": "default"})
    other = pool.run("orders.grandparent", {"pool": "other"})
    beside = IdempotentWorkpool("other").run("orders.chain", {"left": 0})
    local.settle()
    assert pool.status(same).result == {"type": "success", "returnValue": "completed"}
    assert pool.status(other).succeeded
    assert IdempotentWorkpool("other").status(beside).succeeded


def test_the_traceback_of_a_failing_test_begins_with_its_own_mistake(local) -> None:
    IdempotentWorkpool().run("orders.charge", {"wrong": True})
    with pytest.raises(pytest.fail.Exception, match="a mistake of the test's") as caught:
        local.settle()
    assert "no running event loop" not in "".join(traceback.format_exception(caught.value))


def test_a_mistake_of_the_tests_in_a_task_group_ends_the_test(local) -> None:
    IdempotentWorkpool().run("orders.grouped", {})
    with pytest.raises(pytest.fail.Exception, match="in the group"):
        local.settle()


def test_caplog_sees_what_user_code_logs(local) -> None:
    seen: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    logging.root.addHandler(handler)
    try:
        IdempotentWorkpool().run("orders.grouped", {"says": "hello"})
        local.settle()
    finally:
        logging.root.removeHandler(handler)
    assert seen == ["hello"]


def test_motos_account_may_be_another(monkeypatch, request) -> None:
    monkeypatch.setenv("MOTO_ACCOUNT_ID", "111122223333")
    local = request.getfixturevalue("workpool_local")
    run_id = IdempotentWorkpool().run("orders.chain", {"left": 0})
    local.settle()
    assert IdempotentWorkpool().status(run_id).succeeded
    assert boto3.client("sts").get_caller_identity()["Account"] == "111122223333"


@pytest.mark.promise(
    "Your own tests with workpool.testing",
    "`workpool_local` finds the project's actions, although another package is called `actions`",
)
def test_a_package_of_the_same_name_is_replaced_for_the_time_of_the_test(
    tmp_path: Path, monkeypatch, workpool_pools
) -> None:
    theirs = tmp_path / "theirs" / "actions"
    theirs.mkdir(parents=True)
    (theirs / "__init__.py").touch()
    (theirs / "orders.py").write_text("MINE = True\n")
    monkeypatch.syspath_prepend(str(theirs.parent))
    before = importlib.import_module("actions.orders")
    fixture = workpool_local.__wrapped__(tmp_path, workpool_pools)
    local = next(fixture)
    run_id = IdempotentWorkpool().run("orders.chain", {"left": 0})
    local.settle()
    assert IdempotentWorkpool().status(run_id).succeeded
    assert next(fixture, None) is None
    assert sys.modules["actions.orders"] is before
    assert importlib.import_module("actions.orders").MINE


@pytest.mark.promise(
    "Your own tests with workpool.testing", "`workpool_local` works inside an event loop"
)
def test_in_an_event_loop_an_async_action_runs_all_the_same(local) -> None:
    async def test() -> str:
        run_id = IdempotentWorkpool().run("orders.chain", {"left": 0})
        local.settle()
        return run_id

    assert IdempotentWorkpool().status(asyncio.run(test())).succeeded


@pytest.mark.promise(
    "Your own tests with workpool.testing",
    "`workpool_local` works in another region, and with a client that was made before",
)
def test_a_client_made_before_speaks_to_the_pools_too_and_another_region_is_kept(
    monkeypatch, request
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    pool = IdempotentWorkpool("other")
    outside = pool._verbs
    local = request.getfixturevalue("workpool_local")
    assert pool._verbs is not outside
    assert boto3.client("dynamodb").meta.region_name == "eu-west-1"
    run_id = pool.run("orders.chain", {"left": 0, "x": "x" * 50_000})
    local.settle()
    assert pool.status(run_id).succeeded


@pytest.mark.promise(
    "Your own tests with workpool.testing", "`workpool_local` counts all runs in its statistics"
)
def test_many_runs_are_counted(local) -> None:
    pool = IdempotentWorkpool()
    pool.run_batch([{"action": "orders.chain", "args": {"left": 0}}] * 150)
    local.settle()
    assert pool.stats() | {"recentJobAverageMs": 0} == {
        "pending": 0,
        "oldestPending": 0,
        "recentExecutions": 150,
        "recentErrorRate": 0,
        "recentPermanentFailureRate": 0,
        "recentJobAverageMs": 0,
        "statsWindowMs": 300_000,
    }


@pytest.mark.promise(
    "Your own tests with workpool.testing",
    "The pools of `workpool_local` are those of `cdk.json`, or of the fixture `workpool_pools`",
)
def test_a_project_names_the_plugin_and_its_pools_are_those_of_cdk_json(tmp_path: Path) -> None:
    """In a process of its own, as a clone's own tests are: its actions, its `cdk.json`."""
    functions = tmp_path / "project" / "functions"
    functions.mkdir(parents=True)
    (functions / "workpool").symlink_to(LIBRARY, target_is_directory=True)
    for package, text in (("actions", ACTIONS), ("completions", COMPLETIONS)):
        (functions / package).mkdir()
        (functions / package / "orders.py").write_text(text)
    context = {"pools": {"mails": {"maxParallelism": 2, "maxRetries": 0}}}
    (functions.parent / "cdk.json").write_text(json.dumps({"context": context}))
    (functions.parent / "conftest.py").write_text('pytest_plugins = ["workpool.testing"]\n')
    (functions.parent / "test_mails.py").write_text(THEIRS)
    environment = {**os.environ, "PYTHONPATH": str(functions)}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_REGION"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=functions.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "2 passed" in done.stdout, done.stdout
