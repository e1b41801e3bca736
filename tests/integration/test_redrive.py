"""Redrive parked completions: their handlers are called again, as if for the first time."""

from collections.abc import Callable
from typing import Any

import pytest

from handlers import sweeper
from tests.support.runs import SETTLED
from workpool import errors
from workpool.aws import open_runs
from workpool.core.run import Run, open_partition
from workpool.verbs.complete import MAX_TRIES, complete
from workpool.verbs.redrive import redrive

NOW = 1_790_000_000_000
FINISHED = SETTLED | {"finished_at": NOW}


@pytest.fixture
def parked(world) -> Callable[..., Run]:
    """A run whose handler kept raising."""

    def of(run_id: str = "r1", **fields: Any) -> Run:
        first = {
            "completion": "parked",
            "completion_claim": "c1",
            "completion_tries": MAX_TRIES,
            "completion_error": "no luck",
            "open": open_partition("default", run_id, parked=True),
        }
        run: Run = world.put(world.a_run(run_id=run_id, **(FINISHED | first | fields)))
        return run

    return of


@pytest.mark.promise("HTTP API", "`POST /pools/{pool}/redrive` announces all parked runs again")
def test_all_parked_runs_are_redriven_and_announced_again(world, parked) -> None:
    ids = {parked(f"r{number}").run_id for number in range(12)}
    assert redrive("default") == 12
    assert {it["runId"] for it in world.announced()} == ids
    for run_id in ids:
        run = world.run(f"default#{run_id}")
        assert (run.completion, run.completion_tries, run.completion_error) == ("pending", 0, None)
        assert run.open == open_partition("default", run_id)
    assert redrive("default") == 0


@pytest.mark.promise("HTTP API", "A redrive that names runs redrives only those")
def test_those_that_are_named_are_redriven_alone(world, parked) -> None:
    for number in range(3):
        parked(f"r{number}")
    assert redrive("default", ["r0", "r2", "ghost", "a b"]) == 2
    assert world.run("default#r1").completion == "parked"


def test_one_that_is_named_twice_is_redriven_once(world, parked) -> None:
    parked()
    assert redrive("default", ["r1", "r1"]) == 1
    assert len(world.announced()) == 1


@pytest.mark.parametrize(
    "state",
    [
        {"kind": "enqueued"},
        FINISHED | {"completion": "pending"},
        FINISHED | {"completion": "done"},
        {"kind": "completed", "result": "failed"},
    ],
)
def test_what_is_not_parked_is_left_alone(world, state: dict[str, Any]) -> None:
    run = world.put(world.a_run(**state))
    assert redrive("default", ["r1"]) == redrive("default") == 0
    assert (world.run(run.key), world.announced()) == (run, [])


def test_two_redrives_at_once_call_the_handler_once(world, parked) -> None:
    calls = []
    world.handler(lambda *given: calls.append(given))
    run = parked()
    world.meanwhile("update_item", lambda: redrive("default"))
    redrive("default")
    for event in world.announced():
        assert complete(event["run"], remaining_ms=lambda: 60_000) is None
    assert (len(calls), world.run(run.key).completion) == (1, "done")


def test_a_redrive_whose_answer_was_lost_counts(world, parked) -> None:
    parked()
    world.lose_answer("update_item")
    assert redrive("default") == 1


@pytest.mark.promise("Results and completion", "A redriven handler has all its tries again")
def test_the_tries_begin_anew(world, parked) -> None:
    calls = []

    def done(ctx: Any, context: Any, result: Any) -> None:
        calls.append(result)
        if len(calls) < MAX_TRIES:
            raise ValueError("no luck")

    world.handler(done)
    run = parked()
    redrive("default")
    while (seconds := complete(run.key, remaining_ms=lambda: 60_000)) is not None:
        world.tick(seconds)
    assert calls == [{"type": "success", "returnValue": 1}] * MAX_TRIES
    assert world.run(run.key).completion == "done"


@pytest.mark.promise("Results and completion", "A redriven handler has all its tries again")
def test_a_handler_that_still_raises_is_parked_again_and_may_be_redriven_again(
    world, parked
) -> None:
    def done(*given: Any) -> None:
        raise ValueError("no luck")

    world.handler(done)
    run = parked()
    for _ in range(2):
        assert redrive("default") == 1
        while (seconds := complete(run.key, remaining_ms=lambda: 60_000)) is not None:
            world.tick(seconds)
        after = world.run(run.key)
        assert (after.completion, after.completion_tries) == ("parked", MAX_TRIES)
        assert after.result == "success"


def test_an_event_that_the_bus_refused_is_repeated_by_the_sweeper(
    world, parked, lambda_context
) -> None:
    parked()
    world.refuse("put_events", "InternalException")
    assert redrive("default") == 1
    world.calls.clear()
    world.tick(15 * 60)
    assert sweeper.handler({}, lambda_context(240_000)) == {"default": 1}
    assert [it["runId"] for it in world.announced()] == ["r1"]


def test_the_sweeper_repeats_no_event_of_a_redrive_of_just_now(
    world, parked, lambda_context
) -> None:
    parked()
    world.tick(24 * 3600)
    redrive("default")
    world.tick(1)
    assert sweeper.handler({}, lambda_context(240_000)) == {}


@pytest.mark.parametrize("given", [[], "r1", ["r1"] * 1001, {"r1": 1}])
def test_a_bad_list_of_ids_is_refused(world, given: Any) -> None:
    with pytest.raises(errors.InvalidRequest, match="runIds must be a list of 1 to 1000 ids"):
        redrive("default", given)


def test_a_redriven_run_is_an_open_one_again_and_no_parked_one(world, parked) -> None:
    parked()
    assert open_runs.list_open_keys("default", parked=True, limit=9) == [(NOW, "r1")]
    redrive("default")
    assert open_runs.list_open_keys("default", parked=True, limit=9) == []
    assert open_runs.list_open_keys("default", limit=9) == [(NOW, "r1")]
