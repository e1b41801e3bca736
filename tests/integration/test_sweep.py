"""The sweeper: it repeats the hint of what waits too long, and nothing else."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from handlers import sweeper
from tests.support.invocations import context_with
from tests.support.runs import SETTLED
from workpool.aws import open_runs, store
from workpool.verbs import control, stats, sweep

NOW = 1_790_000_000_000
MINUTE = 60_000
OVERDUE = 15 * MINUTE


def swept(overdue_ms: int = OVERDUE, remaining_ms: int = 240_000) -> dict[str, int]:
    found = sweep.sweep(remaining_ms=lambda: remaining_ms, overdue_ms=overdue_ms)
    return dict(found.repeated)


@pytest.fixture
def messages(world: Any) -> Callable[[], list[Any]]:
    return lambda: world.bodies("default-work")


def test_a_healthy_system_is_left_alone(world, messages) -> None:
    world.put(world.a_run(run_id="r1"))
    world.put(world.a_run(run_id="r2", kind="scheduled", due=NOW + 3_600_000))
    world.put(world.a_run(run_id="r3", kind="running", claim="c", lease=NOW + 1000))
    world.put(world.a_run(run_id="r4", **SETTLED, completion="pending", finished_at=NOW))
    world.put(world.a_run(run_id="r5", **SETTLED, completion="parked", finished_at=0))
    before = world.items()
    world.tick(10 * 60)
    assert swept() == {}
    assert (messages(), world.announced(), world.executions()) == ([], [], {})
    assert world.items() == before


@pytest.mark.parametrize(
    "state",
    [
        {"kind": "enqueued"},
        {"kind": "scheduled", "due": NOW},
        {"kind": "running", "claim": "c", "lease": NOW},
    ],
    ids=lambda state: str(state["kind"]),
)
def test_a_run_that_waits_in_vain_is_sent_again_as_a_message_without_a_token(
    world, messages, state
) -> None:
    run = world.put(world.a_run(**state))
    world.tick(15 * 60)
    assert swept() == {"default": 1}
    (message,) = messages()
    assert (message["run"], "token" in message) == (run.key, False)
    after = world.run(run.key)
    assert (after.kind, after.due, after.claim) == (run.kind, run.due, run.claim)
    assert (after.hints, after.hinted_at) == (1, NOW + OVERDUE)


def test_an_ended_run_whose_event_was_lost_is_announced_again(world) -> None:
    world.put(world.a_run(**SETTLED, completion="pending", finished_at=NOW))
    world.tick(15 * 60)
    assert swept() == {"default": 1}
    assert [it["runId"] for it in world.announced()] == ["r1"]


def test_a_handler_that_waits_for_its_next_try_is_not_overdue_before_that(world) -> None:
    world.put(
        world.a_run(
            **SETTLED, completion="pending", finished_at=NOW, completion_lease=NOW + 10 * MINUTE
        )
    )
    world.tick(24 * 60)
    assert swept() == {}
    world.tick(60)
    assert swept() == {"default": 1}


def test_the_same_hint_is_repeated_after_twice_as_long_each_time(world, messages) -> None:
    world.put(world.a_run())
    times = []
    for minute in range(0, 24 * 60, 5):
        if swept():
            times.append(minute)
        world.tick(5 * 60)
    assert times == [15, 45, 105, 225, 465, 945]
    assert len(messages()) == 6


def test_a_new_wait_begins_with_the_first_interval_again(world) -> None:
    world.put(world.a_run(kind="scheduled", due=NOW + 60 * MINUTE, hints=5, hinted_at=NOW - 1))
    world.tick(74 * 60)
    assert swept() == {}
    world.tick(60)
    assert swept() == {"default": 1}
    assert world.run("default#r1").hints == 1


def test_two_sweepers_at_once_repeat_a_hint_once(world, messages) -> None:
    world.put(world.a_run())
    world.tick(15 * 60)
    world.meanwhile("update_item", lambda: swept())
    assert swept() == {}
    assert len(messages()) == 1


def test_what_moved_on_meanwhile_is_left_alone(world, messages) -> None:
    run = world.put(world.a_run())
    world.tick(15 * 60)
    world.meanwhile("update_item", lambda: store.claim(run, claim="c1", lease=world.now_ms + 1000))
    assert swept() == {}
    assert messages() == []


def test_a_walk_stops_when_its_time_is_short_and_goes_on_where_it_stopped(
    world, messages, monkeypatch
) -> None:
    monkeypatch.setattr(sweep, "PAGE", 2)
    for number in range(5):
        world.put(world.a_run(run_id=f"r{number}"))
    world.tick(15 * 60)
    first = swept(remaining_ms=1000)
    assert first == {"default": 2}
    assert open_runs.read_sweeper_cursor() is not None
    assert swept(remaining_ms=1000) == {"default": 2}
    assert swept() == {"default": 1}
    assert open_runs.read_sweeper_cursor() is None
    assert {it["run"] for it in messages()} == {f"default#r{number}" for number in range(5)}


def test_an_item_of_a_newer_version_does_not_hold_up_the_walk(world, messages) -> None:
    world.put_item(world.a_run(run_id="r1").to_item() | {"v": {"N": "2"}})
    world.put(world.a_run(run_id="r2"))
    world.tick(15 * 60)
    assert swept() == {"default": 1}
    assert [it["run"] for it in messages()] == ["default#r2"]


def test_a_run_that_is_gone_though_the_index_still_names_it_is_passed_over(
    world, monkeypatch
) -> None:
    monkeypatch.setattr(open_runs, "scan_open_keys", lambda cursor, limit: (["default#gone"], None))
    assert swept() == {}


def test_the_schedules_event_says_what_is_overdue_and_each_pools_count_is_a_metric(
    world, logged
) -> None:
    world.put(world.a_run())
    world.tick(2)
    context = context_with(240_000)
    assert sweeper.handler({"overdueSeconds": 900}, context) == {}
    assert sweeper.handler({"overdueSeconds": 1}, context) == {"default": 1}
    metrics = [line for line in logged() if "_aws" in line and "HintsRepeated" in line]
    assert [(it["Pool"], it["HintsRepeated"]) for it in metrics] == [
        ("default", [0.0]),
        ("other", [0.0]),
        ("default", [1.0]),
        ("other", [0.0]),
    ]
    (directive,) = metrics[0]["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("Workpool", [["Pool"]])
    assert json.dumps(metrics[0])


def test_a_whole_walk_tells_how_long_the_oldest_run_has_been_due(
    world, logged, monkeypatch
) -> None:
    """Behind any number that is scheduled for later, which hide it from the statistics."""
    monkeypatch.setattr(stats, "MAX_LOOKED_AT", 0)
    world.put(world.a_run(run_id="r1", kind="scheduled", due=NOW + 86_400_000))
    world.put(world.a_run(run_id="r2", due=NOW - 2 * MINUTE))
    world.put(world.a_run(run_id="r3", kind="running", claim="c", lease=NOW, due=NOW - 9 * MINUTE))
    world.put(world.a_run(run_id="r4", pool="other", open="other#1", due=NOW - MINUTE))
    context = context_with(240_000)

    def told() -> list[Any]:
        lines = [it for it in logged() if "_aws" in it]
        return [
            (it["Pool"], it[name]) for name in ("OldestDue", "Wedged") for it in lines if name in it
        ]

    assert stats.read_oldest_due_ms("default") == 0
    sweeper.handler({}, context)
    assert told() == [
        ("default", [120_000.0]),
        ("other", [60_000.0]),
        ("default", [0.0]),
        ("other", [0.0]),
    ]
    world.tick(14 * 60)
    sweeper.handler({}, context)
    assert told()[2:] == [("default", [1.0]), ("other", [0.0])]
    control.change("default", {"paused": True})
    sweeper.handler({}, context)
    assert told()[::2] == [("default", [0.0]), ("default", [0.0])]


def test_a_lost_worker_found_by_the_sweeper_ends_its_execution_and_gets_a_new_one(
    world, message
) -> None:
    """Interleaving 19: the message with the token is lost; the execution would wait two weeks."""
    from handlers import relay
    from workpool.verbs.attempt import attempt

    lost = world.put(
        world.a_run(kind="running", retries=1, due=NOW + 1000, claim="c", lease=NOW + 2000)
    )
    world.tick(20 * 60)
    swept()
    assert attempt(message(lost), remaining_ms=lambda: 70_000) is None
    after = world.run(lost.key)
    assert (after.kind, after.retries, after.execution) == ("scheduled", 2, None)
    relay.handler(world.change(lost, after), None)
    assert list(world.executions()) == [after.execution_name()]
    stopped = [given for name, given in world.calls if name == "stop_execution"]
    assert [it["executionArn"].rpartition(":")[2] for it in stopped] == [lost.execution_name()]
