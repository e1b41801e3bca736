"""Statuses in every state, and cancel in every situation."""

from typing import Any

import pytest

from workpool.aws import store
from workpool.core.retry import Finish, Reschedule
from workpool.core.run import Payload
from workpool.errors import UnknownPool
from workpool.verbs.cancel import cancel
from workpool.verbs.status import status

NOW = 1_790_000_000_000
EXPIRES = NOW // 1000 + 86_400
RUNNING = {"kind": "running", "claim": "c1", "lease": NOW + 1}
ABOUT = {"runId": "r1", "pool": "default", "action": "jobs.work", "enqueuedAt": NOW}
OVER = {"finished_at": NOW + 5}


@pytest.mark.promise(
    "Status",
    "A status is `enqueued`, `scheduled` with retries and nextRun, `running` "
    "with retries, `completed`, `canceled` or `unknown`",
)
@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ({}, {"kind": "enqueued"}),
        ({"annotation": "o1"}, {"kind": "enqueued", "annotation": "o1"}),
        (
            {"kind": "scheduled", "retries": 1, "due": NOW + 1000},
            {"kind": "scheduled", "retries": 1, "nextRun": NOW + 1000},
        ),
        (
            {"kind": "scheduled", "due": NOW + 1000},
            {"kind": "scheduled", "retries": 0, "nextRun": NOW + 1000},
        ),
        (RUNNING | {"retries": 1}, {"kind": "running", "retries": 1}),
        (RUNNING | {"cancel_requested": True}, {"kind": "running", "retries": 0}),
        (
            OVER
            | {
                "kind": "completed",
                "retries": 1,
                "result": "success",
                "return_value": Payload("[1]"),
            },
            {
                "kind": "completed",
                "retries": 1,
                "finishedAt": NOW + 5,
                "result": {"type": "success", "returnValue": [1]},
            },
        ),
        (
            OVER | {"kind": "completed", "result": "success", "return_value": Payload("null")},
            {
                "kind": "completed",
                "retries": 0,
                "finishedAt": NOW + 5,
                "result": {"type": "success", "returnValue": None},
            },
        ),
        (
            OVER
            | {"kind": "completed", "retries": 4, "result": "failed", "error": "boom"}
            | {"on_complete": "jobs.done", "completion": "pending"},
            {
                "kind": "completed",
                "retries": 4,
                "finishedAt": NOW + 5,
                "result": {"type": "failed", "error": "boom"},
                "completion": "pending",
            },
        ),
        (
            OVER | {"kind": "canceled", "result": "canceled", "completion": "done"},
            {
                "kind": "canceled",
                "finishedAt": NOW + 5,
                "result": {"type": "canceled"},
                "completion": "done",
            },
        ),
        (
            OVER | {"kind": "canceled", "result": "canceled", "completion": "parked"},
            {
                "kind": "canceled",
                "finishedAt": NOW + 5,
                "result": {"type": "canceled"},
                "completion": "parked",
            },
        ),
    ],
)
def test_a_status_shows_what_its_state_has(
    world, state: dict[str, Any], shown: dict[str, Any]
) -> None:
    world.put(world.a_run(**state))
    assert status("default", "r1") == ABOUT | shown


@pytest.mark.promise(
    "Status", "A malformed or foreign id is unknown and raises no exception, also in a cancel"
)
@pytest.mark.parametrize(
    ("pool", "run_id", "reads"),
    [
        ("default", "r2", 2),
        ("other", "r1", 2),
        ("default", "", 0),
        ("default", "r1#", 0),
        ("default", "../r1", 0),
        ("default", "x" * 3000, 0),
        ("default", "\ud800", 0),
        ("default", "ü", 0),
    ],
)
def test_a_malformed_or_foreign_id_is_unknown_and_a_malformed_one_is_not_even_read(
    world, pool: str, run_id: str, reads: int
) -> None:
    before = world.put(world.a_run())
    unknown = {"runId": run_id, "kind": "unknown"}
    assert status(pool, run_id) == unknown
    assert cancel(pool, run_id) == unknown
    assert world.made("get_item") == reads
    assert world.run("default#r1") == before


@pytest.mark.parametrize("pool", ["ghost", "", "default#r1", "x" * 3000])
def test_a_pool_that_is_not_deployed_is_refused_and_not_even_read(world, pool: str) -> None:
    before = world.put(world.a_run())
    for verb in (status, cancel):
        with pytest.raises(UnknownPool, match="deployed are: default, other"):
            verb(pool, "r1")
    assert world.made("get_item") == 0
    assert world.run("default#r1") == before


@pytest.mark.promise("Status", "An ended run is unknown once its retention is over")
def test_a_run_is_unknown_once_its_retention_is_over(world) -> None:
    world.put(world.a_run(kind="canceled", result="canceled", expires_at=NOW // 1000 + 1))
    assert status("default", "r1")["kind"] == "canceled"
    world.tick(1)
    assert status("default", "r1") == {"runId": "r1", "kind": "unknown"}
    assert cancel("default", "r1") == {"runId": "r1", "kind": "unknown"}


@pytest.mark.promise("Cancel", "A canceled run that waits ends at once and never starts")
@pytest.mark.promise("Cancel", "A canceled run is logged as canceled")
@pytest.mark.parametrize(
    "state",
    [{}, {"kind": "scheduled", "due": NOW + 1000}, {"kind": "scheduled", "retries": 1}],
)
def test_what_has_not_started_ends_at_once(world, logged, state: dict[str, Any]) -> None:
    world.put(world.a_run(**state))
    shown = cancel("default", "r1")
    assert (shown["kind"], shown["result"], shown["finishedAt"]) == (
        "canceled",
        {"type": "canceled"},
        NOW,
    )
    run = world.run("default#r1")
    assert (run.kind, run.open, run.expires_at) == ("canceled", None, EXPIRES)
    assert [line["result"] for line in logged("job-end")] == ["canceled"]


@pytest.mark.promise("Cancel", "A canceled run with a handler stays open until its handler is done")
def test_a_canceled_run_with_a_completion_waits_for_it(world) -> None:
    world.put(world.a_run(on_complete="jobs.done"))
    assert cancel("default", "r1")["completion"] == "pending"
    run = world.run("default#r1")
    assert (run.open, run.expires_at) == ("default#3", None)


@pytest.mark.promise("Status", "A canceled run whose action still runs is shown as `running`")
def test_what_runs_is_asked_and_reads_as_running(world, logged) -> None:
    world.put(world.a_run(**RUNNING))
    assert cancel("default", "r1") == ABOUT | {"kind": "running", "retries": 0}
    assert world.run("default#r1").cancel_requested
    assert logged("job-end") == []


@pytest.mark.promise(
    "Cancel", "A cancel of an ended run changes nothing and answers the real status"
)
@pytest.mark.parametrize(
    "state",
    [
        {"kind": "completed", "result": "success", "return_value": Payload("1")},
        {"kind": "completed", "result": "failed", "error": "boom"},
        {"kind": "canceled", "result": "canceled"},
    ],
)
def test_what_has_ended_stays_as_it_is(world, logged, state: dict[str, Any]) -> None:
    before = world.put(world.a_run(finished_at=NOW, **state))
    assert cancel("default", "r1") == status("default", "r1")
    assert world.run("default#r1") == before
    assert logged("job-end") == []


@pytest.mark.parametrize("state", [{}, RUNNING])
def test_canceling_twice_is_canceling_once(world, logged, state: dict[str, Any]) -> None:
    world.put(world.a_run(**state))
    first = cancel("default", "r1")
    once = world.run("default#r1")
    world.tick(5)
    assert cancel("default", "r1") == first
    assert world.run("default#r1") == once
    assert len(logged("job-end")) == (0 if state else 1)


def test_two_who_cancel_at_once_both_see_it_canceled(world) -> None:
    world.put(world.a_run())

    def other() -> None:
        world.tick(1)
        cancel("default", "r1")

    world.meanwhile("update_item", other)
    assert cancel("default", "r1")["kind"] == "canceled"
    assert world.run("default#r1").finished_at == NOW + 1000


@pytest.mark.parametrize("operation", ["cancel", "ask"])
def test_a_cancel_whose_answer_is_lost_is_done(world, logged, operation: str) -> None:
    world.put(world.a_run(**({} if operation == "cancel" else RUNNING)))
    world.lose_answer("update_item")
    shown = cancel("default", "r1")
    assert shown["kind"] == ("canceled" if operation == "cancel" else "running")
    assert len(logged("job-end")) == (1 if operation == "cancel" else 0)


def claim(run: Any) -> Any:
    return store.claim(run, claim="c1", lease=NOW + 70_000)


def succeed(run: Any) -> Any:
    success = Finish(result="success", return_value=Payload("1"))
    return store.finish(run, success, finished_at=NOW, expires_at=EXPIRES)


def test_a_run_claimed_meanwhile_is_asked(world) -> None:
    run = world.put(world.a_run())
    world.meanwhile("update_item", lambda: claim(run))
    assert cancel("default", "r1")["kind"] == "running"
    assert world.run("default#r1").cancel_requested


def test_a_run_that_succeeded_meanwhile_stays_a_success(world) -> None:
    run = world.put(world.a_run(**RUNNING))
    world.meanwhile("update_item", lambda: succeed(run))
    assert cancel("default", "r1")["result"] == {"type": "success", "returnValue": 1}
    assert not world.run("default#r1").cancel_requested


def test_a_run_that_moves_on_again_and_again_is_canceled_in_the_end(world) -> None:
    run = world.put(world.a_run())

    def fail_again() -> None:
        again = Reschedule(due=NOW + 1000, error="boom")
        store.reschedule(world.run("default#r1"), again, execution="r1-1-1")

    world.meanwhile("update_item", lambda: claim(run))  # the cancel meets a running run,
    world.pass_by("update_item")  # (the claim itself)
    world.meanwhile("update_item", fail_again)  # the request one that is scheduled again
    assert cancel("default", "r1")["kind"] == "canceled"
    assert world.run("default#r1").retries == 1


def test_a_run_forgotten_meanwhile_is_unknown(world) -> None:
    world.put(world.a_run())
    key = {"run": {"S": "default#r1"}}
    dynamodb = world.client("dynamodb")
    world.meanwhile("update_item", lambda: dynamodb.delete_item(TableName="runs", Key=key))
    assert cancel("default", "r1") == {"runId": "r1", "kind": "unknown"}
    assert world.items() == []
