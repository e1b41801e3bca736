"""Operate a pool: pause, resume, scale, cancel all; what a deploy changes, a sweep repairs."""

from collections.abc import Callable
from typing import Any

import pytest

from handlers import sweeper
from workpool import errors
from workpool.aws import overrides, pools
from workpool.aws.open_runs import read_runs
from workpool.core.run import Payload, Run, open_partition
from workpool.verbs import cancel, control

NOW = 1_790_000_000_000


def made(world: Any) -> list[str]:
    """What was asked of Lambda, in order."""
    names = ("put_function_concurrency", "update_event_source_mapping")
    return [operation for operation, _ in world.calls if operation in names]


@pytest.fixture
def sweep(lambda_context) -> Callable[..., dict[str, int]]:
    return lambda **event: sweeper.handler(event, lambda_context(240_000))


# Change


@pytest.mark.promise(
    "HTTP API",
    "`GET /pools` lists each pool: its name, its limit, whether it is paused, and its dead letters",
)
def test_a_pool_is_shown_as_it_was_deployed(world) -> None:
    shown = {"maxParallelism": 10, "paused": False, "deadLetters": 0}
    assert control.list_pools() == {"pools": [{"name": it} | shown for it in ("default", "other")]}


@pytest.mark.promise(
    "Operate a pool",
    "A pause changes the reserved concurrency first and then the "
    "mapping: nothing new starts, nothing is killed",
)
def test_a_paused_pool_starts_nothing_reserved_concurrency_first(world) -> None:
    shown = control.change("default", {"paused": True})
    assert (shown["paused"], shown["maxParallelism"]) == (True, 10)
    assert made(world) == ["put_function_concurrency", "update_event_source_mapping"]
    assert world.lambdas.limits() == (0, "Disabled", 10)
    assert world.lambdas.limits("other") == (10, "Enabled", 10)


@pytest.mark.promise("Operate a pool", "A resumed pool is as it was before the pause")
def test_a_resumed_pool_is_as_it_was(world) -> None:
    control.change("default", {"paused": True})
    assert control.change("default", {"paused": False})["paused"] is False
    assert world.lambdas.limits() == (10, "Enabled", 10)


@pytest.mark.promise(
    "Operate a pool", "`scale` changes the reserved concurrency first and then the mapping"
)
def test_a_scaled_pool_is_bounded_twice_reserved_concurrency_first(world) -> None:
    assert control.change("default", {"maxParallelism": 20})["maxParallelism"] == 20
    assert made(world) == ["put_function_concurrency", "update_event_source_mapping"]
    assert world.lambdas.limits() == (20, "Enabled", 20)


@pytest.mark.promise(
    "Operate a pool",
    "With a `maxParallelism` of 1, the limit of the mapping is 2, the least that Lambda allows",
)
def test_a_pool_of_one_pulls_the_least_that_lambda_allows(world) -> None:
    control.change("default", {"maxParallelism": 1})
    assert world.lambdas.limits() == (1, "Enabled", 2)


def test_a_pool_that_is_scaled_while_it_is_paused_stays_paused(world) -> None:
    control.change("default", {"paused": True})
    control.change("default", {"maxParallelism": 20})
    assert world.lambdas.limits() == (0, "Disabled", 20)
    control.change("default", {"paused": False})
    assert world.lambdas.limits() == (20, "Enabled", 20)


def test_both_are_changed_in_one_request(world) -> None:
    shown = control.change("default", {"maxParallelism": 3, "paused": True})
    assert (shown["maxParallelism"], shown["paused"]) == (3, True)


@pytest.mark.promise(
    "Operate a pool", "With `reservedConcurrency: false`, only the mapping is changed"
)
def test_without_reserved_concurrency_the_mapping_alone_is_changed(world) -> None:
    world.redeploy(reservedConcurrency=False)
    del world.lambdas.reserved["Test-default-consumer"]
    control.change("default", {"maxParallelism": 20})
    assert world.lambdas.limits() == (None, "Enabled", 20)
    control.change("default", {"paused": True})
    assert world.lambdas.limits() == (None, "Disabled", 20)
    assert "put_function_concurrency" not in made(world)
    with pytest.raises(errors.InvalidRequest, match="maxParallelism 1 needs reserved concurrency"):
        control.change("default", {"maxParallelism": 1})


@pytest.mark.promise("HTTP API", "A change of a pool that is refused changes nothing")
@pytest.mark.promise("Options", "`maxParallelism` is an integer from 1 to 1000")
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "give maxParallelism, paused, or both"),
        (None, "give maxParallelism, paused, or both"),
        ([], "give maxParallelism, paused, or both"),
        ({"paused": True, "x": 1}, "give maxParallelism, paused, or both"),
        ({"maxParallelism": 0}, "maxParallelism must be an integer from 1 to 1000, got 0"),
        ({"maxParallelism": 1001}, "maxParallelism must be an integer from 1 to 1000, got 1001"),
        ({"maxParallelism": 1.5}, "maxParallelism must be an integer from 1 to 1000, got 1.5"),
        ({"maxParallelism": True}, "maxParallelism must be an integer from 1 to 1000, got true"),
        ({"maxParallelism": "9"}, 'maxParallelism must be an integer from 1 to 1000, got "9"'),
        ({"maxParallelism": None}, "maxParallelism must be an integer from 1 to 1000, got null"),
        ({"paused": 1}, "paused must be a boolean, got 1"),
        ({"paused": None}, "paused must be a boolean, got null"),
        ({"maxParallelism": 5, "paused": "no"}, 'paused must be a boolean, got "no"'),
    ],
)
def test_a_change_that_is_refused_changes_nothing(world, body: Any, message: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        control.change("default", body)
    assert str(caught.value) == message
    assert (made(world), overrides.read("default")) == ([], overrides.Overrides())


def test_a_pool_that_is_not_deployed_is_unknown(world) -> None:
    for change in (lambda: control.change("ghost", {}), lambda: cancel.cancel_all("ghost")):
        with pytest.raises(errors.UnknownPool):
            change()


@pytest.mark.promise(
    "HTTP API",
    "`GET /pools` lists each pool: its name, its limit, whether it is paused, and its dead letters",
)
def test_given_up_messages_are_counted(world) -> None:
    sqs = world.client("sqs")
    for queue in ("default-dead-letters", "default-parked", "default-parked", "other-parked"):
        url = f"https://sqs.us-east-1.amazonaws.com/123456789012/Test-{queue}"
        sqs.send_message(QueueUrl=url, MessageBody="{}")
    assert [it["deadLetters"] for it in control.list_pools()["pools"]] == [3, 1]


def test_a_row_remembers_a_bounded_number_of_writes(world) -> None:
    for _ in range(overrides.REMEMBERED + 3):
        overrides.update("default", paused=True)
    assert len(overrides.read("default").writes) == overrides.REMEMBERED


# What a deploy wins


@pytest.mark.promise(
    "HTTP API", "A limit that is changed at run time holds until its value in `cdk.json` changes"
)
def test_a_changed_value_of_cdk_json_wins_and_an_unchanged_one_leaves(
    world, cloudformation
) -> None:
    cloudformation.deploy({"default": 10})
    control.change("default", {"maxParallelism": 20})
    cloudformation.deploy({"default": 10})
    assert control.list_pools()["pools"][0]["maxParallelism"] == 20
    cloudformation.deploy({"default": 15})
    assert control.list_pools()["pools"][0]["maxParallelism"] == 15
    assert world.lambdas.limits() == (15, "Enabled", 15)


def test_a_limit_that_somebody_set_in_lambda_itself_is_repaired(world, sweep) -> None:
    control.change("default", {"paused": True})
    world.lambdas.deploy("Test-default-consumer", 15)
    sweep()
    assert world.lambdas.limits() == (0, "Disabled", 10)


# Repair


@pytest.mark.promise(
    "Operate a pool", "The sweeper completes a change of a pool that was interrupted"
)
def test_a_mapping_that_is_being_changed_is_set_by_the_sweeper_the_hard_bound_holds(
    world, sweep
) -> None:
    world.lambdas.slow = True
    control.change("default", {"maxParallelism": 20})
    control.change("default", {"maxParallelism": 30})
    assert world.lambdas.limits() == (30, "Enabling", 20)
    sweep()
    assert world.lambdas.limits() == (30, "Enabling", 20)
    world.lambdas.settle()
    sweep()
    world.lambdas.settle()
    assert world.lambdas.limits() == (30, "Enabled", 30)


@pytest.mark.promise(
    "Operate a pool", "The sweeper completes a change of a pool that was interrupted"
)
def test_a_pool_that_is_resumed_while_its_pause_is_applied_is_enabled_by_the_sweeper(
    world, sweep
) -> None:
    world.lambdas.slow = True
    control.change("default", {"paused": True})
    control.change("default", {"paused": False})
    world.lambdas.settle()
    assert world.lambdas.limits() == (10, "Disabled", 10)
    sweep()
    world.lambdas.settle()
    assert world.lambdas.limits() == (10, "Enabled", 10)


def test_a_repair_does_not_undo_a_change_that_is_made_meanwhile(world, sweep) -> None:
    overrides.update("default", max_parallelism=40)
    world.meanwhile(
        "put_function_concurrency", lambda: control.change("default", {"maxParallelism": 3})
    )
    sweep()
    assert world.lambdas.limits() == (3, "Enabled", 3)


def test_of_two_changes_at_once_the_one_that_the_pool_shows_is_in_force(world) -> None:
    world.meanwhile(
        "put_function_concurrency", lambda: control.change("default", {"maxParallelism": 3})
    )
    control.change("default", {"maxParallelism": 40})
    assert control.list_pools()["pools"][0]["maxParallelism"] == 3
    assert world.lambdas.limits() == (3, "Enabled", 3)


def test_any_other_refusal_is_told_and_the_sweeper_makes_it_so(world, sweep, logged) -> None:
    world.refuse("put_function_concurrency", "ServiceException")
    with pytest.raises(Exception, match="ServiceException"):
        control.change("default", {"paused": True})
    assert world.lambdas.limits() == (10, "Enabled", 10)
    sweep()
    assert world.lambdas.limits() == (0, "Disabled", 10)
    (line,) = logged("pool-repaired")
    assert (line["pool"], line["paused"]) == ("default", True)


def test_settings_that_hold_are_left_alone(world, sweep) -> None:
    control.change("default", {"maxParallelism": 20, "paused": True})
    world.calls.clear()
    sweep()
    assert made(world) == []


def test_a_limit_that_the_account_has_no_room_for_is_refused_and_not_kept(world) -> None:
    with pytest.raises(errors.InvalidRequest):
        control.change("default", {"maxParallelism": 1000})
    assert overrides.read("default").limit(pools.pool("default")) == 10


def test_a_pool_that_cannot_be_repaired_keeps_no_run_from_being_swept(world, sweep) -> None:
    world.put(world.a_run())
    overrides.update("default", paused=True)
    world.refuse("put_function_concurrency", "ServiceException")
    world.tick(15 * 60)
    assert sweep() == {"default": 1}


# Cancel all


def open_runs(world: Any, number: int, **state: Any) -> list[Run]:
    runs = []
    for at in range(number):
        run_id = f"r{at:04}"
        first = {
            "enqueued_at": NOW + at,
            "due": NOW + at,
            "open": open_partition("default", run_id),
        }
        runs.append(world.a_run(run_id=run_id, **(first | state)))
    world.put_many(runs)
    return runs


def kinds(runs: list[Run]) -> set[str]:
    keys = [run.key for run in runs]
    return {it.kind for at in range(0, len(keys), 100) for it in read_runs(keys[at : at + 100])}


@pytest.mark.promise(
    "HTTP API",
    "`POST /pools/{pool}/cancel` answers at once, and the walk through the runs starts at once",
)
@pytest.mark.promise(
    "HTTP API", "While a cancelAll is under way, `GET /pools` shows its `cancelingBefore`"
)
def test_cancel_all_answers_at_once_and_has_the_walk_begin_at_once(world) -> None:
    (run,) = open_runs(world, 1)
    assert cancel.cancel_all("default") == {"canceling": True}
    assert world.lambdas.invoked == [("Test-sweeper", {"cancel": "default"})]
    assert kinds([run]) == {"enqueued"}
    assert control.list_pools()["pools"][0]["cancelingBefore"] == NOW


@pytest.mark.promise(
    "HTTP API", "cancelAll works through all runs that were open before the call, even a thousand"
)
def test_cancel_all_works_through_a_thousand_runs(world, sweep, monkeypatch) -> None:
    """The walk alone: that each is canceled is seen with fewer below."""
    canceled: list[str] = []
    monkeypatch.setattr(cancel, "CANCEL_PAGE", 300)
    monkeypatch.setattr(cancel, "_cancel_run", lambda pool, run_id: canceled.append(run_id))
    runs = open_runs(world, 1000)
    world.tick(10)
    cancel.cancel_all("default")
    assert sweep(cancel="default") == {"default": 1000}
    assert sorted(canceled) == [run.run_id for run in runs]


def test_more_runs_of_one_millisecond_than_a_page_holds_are_all_canceled(
    world, sweep, pages_of_ten
) -> None:
    runs = [world.a_run(run_id=f"r{n}", open="default#3") for n in range(35)]
    world.put_many(runs)
    world.tick(1)
    cancel.cancel_all("default")
    assert sweep(cancel="default") == {"default": 35}
    assert kinds(runs) == {"canceled"}


def test_a_walk_soon_after_the_call_is_not_the_last(world, sweep) -> None:
    """A run that the index did not show yet, created just before the call."""
    open_runs(world, 2)
    world.tick(10)
    cancel.cancel_all("default")
    sweep(cancel="default")
    hidden = world.put(world.a_run(run_id="hidden"))
    world.tick(60)
    assert control.list_pools()["pools"][0]["cancelingBefore"] == NOW + 10_000
    sweep()
    assert kinds([hidden]) == {"canceled"}
    assert "cancelingBefore" not in control.list_pools()["pools"][0]


@pytest.fixture
def pages_of_ten(monkeypatch) -> None:
    monkeypatch.setattr(cancel, "CANCEL_PAGE", 10)


@pytest.mark.promise(
    "Cancel",
    "cancelAll cancels, page by page, what was open before the call, and leaves later runs alone",
)
def test_cancel_all_over_more_than_one_page_leaves_what_was_created_later(
    world, sweep, pages_of_ten
) -> None:
    runs = open_runs(world, 35)
    world.tick(0.035)
    cancel.cancel_all("default")
    later = world.put(world.a_run(run_id="later", enqueued_at=world.now_ms, due=world.now_ms))
    assert sweep(cancel="default") == {"default": 35}
    assert kinds(runs) == {"canceled"}
    assert kinds([later]) == {"enqueued"}


@pytest.mark.promise(
    "Cancel", "cancelAll asks running runs to cancel, and skips runs that have ended"
)
def test_cancel_all_asks_what_runs_and_passes_ended_ones_by(world, sweep, pages_of_ten) -> None:
    running = {"kind": "running", "claim": "c1", "lease": NOW + 60_000}
    runs = open_runs(world, 25, **running)
    settled = {"kind": "completed", "result": "success", "on_complete": "jobs.done"}
    ended = world.put(world.a_run(run_id="ended", **settled, completion="pending"))
    world.tick(1)
    cancel.cancel_all("default")
    sweep(cancel="default")
    asked = read_runs([run.key for run in runs])
    assert all(it.kind == "running" and it.cancel_requested for it in asked)
    assert world.run("default#ended") == ended


def test_cancel_all_reads_no_payloads(world, sweep) -> None:
    """An ended run stays in the index while its completion is pending. The sweeper has no right on
    the objects."""
    large = Payload(at="default/r1/c1-result", size=40_000)
    ended = {"kind": "completed", "result": "success", "return_value": large}
    world.put(world.a_run(run_id="r1", **ended, on_complete="jobs.done", completion="pending"))
    world.put(world.a_run(run_id="r2", args=Payload(at="default/r2/c1-args", size=3000)))
    world.tick(1)
    cancel.cancel_all("default")
    world.calls.clear()
    sweep(cancel="default")
    assert world.run("default#r2").kind == "canceled"
    assert not {"get_object", "generate_presigned_url"} & {name for name, _ in world.calls}


def test_cancel_all_leaves_other_pools_alone(world, sweep) -> None:
    world.put(world.a_run(pool="other", open="other#3"))
    world.tick(1)
    cancel.cancel_all("default")
    sweep()
    assert world.run("other#r1").kind == "enqueued"


@pytest.mark.promise("Cancel", "A cancelAll that is interrupted is finished by the next sweep")
def test_an_interrupted_walk_is_finished_by_the_next_sweep(
    world, lambda_context, sweep, pages_of_ten
) -> None:
    runs = open_runs(world, 35)
    world.tick(10)
    cancel.cancel_all("default")
    sweeper.handler({"cancel": "default"}, lambda_context(240_000, 240_000, 1000))
    assert kinds(runs) == {"canceled", "enqueued"}
    assert control.list_pools()["pools"][0]["cancelingBefore"] == NOW + 10_000
    world.tick(60)
    sweep()
    assert kinds(runs) == {"canceled"}
    assert "cancelingBefore" not in control.list_pools()["pools"][0]


@pytest.mark.promise("Cancel", "A cancelAll that is interrupted is finished by the next sweep")
def test_a_walk_that_died_is_finished_by_the_next_sweep(world, sweep, pages_of_ten) -> None:
    runs = open_runs(world, 12)
    world.tick(10)
    world.refuse("invoke", "ServiceException")
    with pytest.raises(Exception, match="ServiceException"):
        cancel.cancel_all("default")
    sweep()
    assert kinds(runs) == {"canceled"}


@pytest.mark.promise(
    "Cancel", "A cancelAll that is called again while one is under way is not forgotten"
)
def test_cancel_all_called_anew_meanwhile_is_not_forgotten(world, sweep) -> None:
    open_runs(world, 2)
    world.tick(10)
    cancel.cancel_all("default")
    world.tick(10)
    late = world.put(world.a_run(run_id="late", enqueued_at=world.now_ms - 1, due=world.now_ms))
    world.pass_by("update_item", times=3)  # two cancels, and the call below
    world.tick(60)
    world.meanwhile("query", lambda: cancel.cancel_all("default"))
    sweep(cancel="default")
    assert control.list_pools()["pools"][0]["cancelingBefore"] == world.now_ms
    sweep()
    assert kinds([late]) == {"canceled"}


@pytest.mark.promise(
    "Cancel", "A cancelAll that is repeated with its `before` cancels nothing that came later"
)
def test_a_repeated_cancel_all_leaves_what_was_submitted_after_the_first(world, sweep) -> None:
    runs = open_runs(world, 2)
    world.tick(10)
    before = world.now_ms
    cancel.cancel_all("default", before=before)
    world.tick(1)
    between = world.put(world.a_run(run_id="between", enqueued_at=world.now_ms, due=world.now_ms))
    world.tick(1)
    assert cancel.cancel_all("default", before=before) == {"canceling": True}
    assert control.list_pools()["pools"][0]["cancelingBefore"] == before
    sweep()
    assert kinds(runs) == {"canceled"}
    assert kinds([between]) == {"enqueued"}


@pytest.mark.promise("Cancel", "Of two calls of cancelAll the later time stands")
def test_an_earlier_cancel_all_does_not_replace_a_later_one(world) -> None:
    cancel.cancel_all("default", before=NOW - 1000)
    cancel.cancel_all("default", before=NOW - 5000)
    assert control.list_pools()["pools"][0]["cancelingBefore"] == NOW - 1000
    cancel.cancel_all("default", before=NOW - 500)
    assert control.list_pools()["pools"][0]["cancelingBefore"] == NOW - 500
    assert len(world.lambdas.invoked) == 3  # Each call starts a walk.


def test_a_cancel_all_whose_answer_from_dynamodb_was_lost_is_stored_once(world) -> None:
    world.meanwhile("update_item", lambda: cancel.cancel_all("default", before=NOW))
    assert cancel.cancel_all("default", before=NOW) == {"canceling": True}
    assert control.list_pools()["pools"][0]["cancelingBefore"] == NOW


@pytest.mark.promise(
    "Cancel", "A `before` later than now is taken as now, and refused beyond five minutes"
)
def test_a_callers_clock_may_be_five_minutes_fast(world) -> None:
    five_minutes = 300_000
    cancel.cancel_all("default", before=NOW + five_minutes)
    assert control.list_pools()["pools"][0]["cancelingBefore"] == NOW
    with pytest.raises(errors.InvalidRequest, match="before must be epoch milliseconds"):
        cancel.cancel_all("default", before=NOW + five_minutes + 1)


@pytest.mark.parametrize("before", [True, "1790000000000", -1, 1.5, [NOW], {}, NOW * 1000])
def test_a_malformed_before_is_refused_and_nothing_is_canceled(world, before: Any) -> None:
    with pytest.raises(errors.InvalidRequest, match="before must be epoch milliseconds"):
        cancel.cancel_all("default", before=before)
    assert "cancelingBefore" not in control.list_pools()["pools"][0]
    assert world.lambdas.invoked == []


def test_a_sweep_without_a_cancel_all_cancels_nothing(world, sweep) -> None:
    runs = open_runs(world, 3)
    sweep()
    assert sweep(cancel="default") == {"default": 0}
    assert kinds(runs) == {"enqueued"}


def test_an_unreadable_item_keeps_no_other_run_from_being_canceled(world, sweep) -> None:
    runs = open_runs(world, 3)
    world.put_item(world.a_run(run_id="newer").to_item() | {"v": {"N": "2"}})
    world.tick(10)
    cancel.cancel_all("default")
    sweep()
    assert kinds(runs) == {"canceled"}
