"""Two operators, or an operator and a deploy, change the settings of a pool at once."""

from collections.abc import Callable
from typing import Any

import pytest

from handlers import sweeper
from tests.support.failures import refusal
from workpool import errors
from workpool.aws import overrides
from workpool.verbs import cancel, control


def repeated_after(do: Callable[[], Any]) -> Any:
    """The write takes effect and its answer is lost; something happens; the SDK repeats it."""

    def fault(call: Any, parameters: dict[str, Any]) -> Any:
        call(**parameters)
        do()
        return call(**parameters)

    return fault


@pytest.mark.promise(
    "Operate a pool",
    "A change that AWS refuses takes back what it wrote itself, and nothing that others changed",
)
def test_fault_34_a_change_that_is_refused_does_not_undo_a_pause_made_meanwhile(world: Any) -> None:
    world.meanwhile("put_function_concurrency", lambda: control.change("default", {"paused": True}))
    with pytest.raises(errors.InvalidRequest):
        control.change("default", {"maxParallelism": 1000})
    row = overrides.read("default")
    assert (row.paused, row.max_parallelism) == (True, None)
    assert world.lambdas.limits() == (0, "Disabled", 10)


@pytest.mark.parametrize("later", [20, 30])
def test_fault_34_a_change_that_is_refused_does_not_undo_a_later_one_of_the_same_field(
    world: Any, later: int
) -> None:
    """Not even if the later one has the same value."""

    def refused(call: Any, parameters: dict[str, Any]) -> Any:
        control.change("default", {"maxParallelism": later})
        raise refusal("InvalidParameterValueException")

    world.on("put_function_concurrency", refused)
    with pytest.raises(errors.InvalidRequest):
        control.change("default", {"maxParallelism": 30})
    assert overrides.read("default").max_parallelism == later
    assert world.lambdas.limits() == (later, "Enabled", later)


def test_fault_34_of_two_changes_that_are_both_refused_none_is_restored(world: Any) -> None:
    """The first one is refused after the second one has read it."""

    def second() -> None:
        with pytest.raises(errors.InvalidRequest):
            control.change("default", {"maxParallelism": 1000})

    world.meanwhile("put_function_concurrency", second)
    with pytest.raises(errors.InvalidRequest):
        control.change("default", {"maxParallelism": 950})
    assert overrides.read("default").max_parallelism is None
    assert world.lambdas.limits() == (10, "Enabled", 10)


def test_fault_34_a_change_that_is_refused_restores_all_of_its_own_fields(world: Any) -> None:
    control.change("default", {"maxParallelism": 20})
    world.refuse("put_function_concurrency", "InvalidParameterValueException")
    with pytest.raises(errors.InvalidRequest):
        control.change("default", {"maxParallelism": 30, "paused": True})
    row = overrides.read("default")
    assert (row.paused, row.max_parallelism) == (False, 20)


@pytest.mark.promise(
    "Operate a pool", "Of two changes at once, whichever came last stands, also if the SDK repeats"
)
def test_fault_34_a_pause_that_the_sdk_repeats_does_not_undo_a_later_resume(world: Any) -> None:
    resume = repeated_after(lambda: control.change("default", {"paused": False}))
    world.on("update_item", resume)
    shown = control.change("default", {"paused": True})
    assert shown["paused"] is False
    assert world.lambdas.limits() == (10, "Enabled", 10)


def test_fault_34_a_pause_whose_answer_is_lost_is_in_force(world: Any) -> None:
    world.lose_answer("update_item")
    assert control.change("default", {"paused": True})["paused"] is True
    assert len(overrides.read("default").writes) == 1


@pytest.mark.parametrize("settled", [False, True])
def test_fault_34_a_pause_stands_though_another_field_was_changed_first(
    world: Any, settled: bool
) -> None:
    if settled:
        control.change("default", {"maxParallelism": 5})
    world.meanwhile("update_item", lambda: control.change("default", {"maxParallelism": 3}))
    shown = control.change("default", {"paused": True})
    assert (shown["paused"], shown["maxParallelism"]) == (True, 3)
    assert world.lambdas.limits() == (0, "Disabled", 3)


def test_fault_34_a_pause_stands_though_the_pool_was_resumed_just_before_it(world: Any) -> None:
    control.change("default", {"paused": True})
    world.meanwhile("update_item", lambda: control.change("default", {"paused": False}))
    assert control.change("default", {"paused": True})["paused"] is True


def test_fault_34_taking_back_is_repeated_without_harm(world: Any) -> None:
    world.pass_by("update_item")
    world.on(
        "update_item", repeated_after(lambda: control.change("default", {"maxParallelism": 7}))
    )
    with pytest.raises(errors.InvalidRequest):
        control.change("default", {"maxParallelism": 1000})
    assert overrides.read("default").max_parallelism == 7


def test_fault_34_an_earlier_cancel_all_that_is_written_late_takes_back_no_later_one(
    world: Any,
) -> None:
    def later() -> None:
        world.tick(5)
        cancel.cancel_all("default")
        world.tick(-5)

    world.meanwhile("update_item", later)
    cancel.cancel_all("default")
    assert overrides.read("default").cancel_before == world.now_ms + 5000


@pytest.fixture
def sweep(lambda_context: Any) -> Callable[[], Any]:
    return lambda: sweeper.handler({}, lambda_context(240_000))


def test_fault_35_a_changed_value_of_cdk_json_clears_what_was_changed_at_run_time(
    world: Any, cloudformation: Any
) -> None:
    cloudformation.deploy({"default": 10})
    control.change("default", {"maxParallelism": 500})
    cloudformation.deploy({"default": 10})
    assert world.lambdas.limits() == (500, "Enabled", 500)
    cloudformation.deploy({"default": 15})
    assert world.lambdas.limits() == (15, "Enabled", 15)
    cloudformation.deploy({"default": 10})
    assert world.lambdas.limits() == (10, "Enabled", 10)
    assert overrides.read("default").max_parallelism is None


@pytest.mark.promise("Operate a pool", "A pause outlives a deploy, without a gap")
def test_fault_36_a_pause_has_no_gap_in_a_deploy_that_changes_the_limit(
    world: Any, cloudformation: Any, sweep: Callable[[], Any]
) -> None:
    cloudformation.deploy({"default": 10})
    control.change("default", {"paused": True})
    world.calls.clear()
    cloudformation.deploy({"default": 15})
    sweep()
    assert {given["ReservedConcurrentExecutions"] for given in asked(world, PUT)} <= {0}
    assert {given["Enabled"] for given in asked(world, UPDATE)} == {False}
    control.change("default", {"paused": False})
    assert world.lambdas.limits() == (15, "Enabled", 15)


PUT = "put_function_concurrency"
UPDATE = "update_event_source_mapping"


def asked(world: Any, operation: str) -> list[dict[str, Any]]:
    return [
        given for called, given in world.calls if called == operation and "other" not in str(given)
    ]


@pytest.mark.promise("Operate a pool", "Code of an older deployment never sets an old limit again")
def test_fault_36_an_old_sweeper_leaves_the_new_limit(
    world: Any, cloudformation: Any, sweep: Callable[[], Any]
) -> None:
    cloudformation.deploy({"default": 10})
    cloudformation.deploy({"default": 4})
    world.calls.clear()
    sweep()  # Its own pools.json says 10.
    assert (asked(world, PUT), asked(world, UPDATE)) == ([], [])
    assert world.lambdas.limits() == (4, "Enabled", 4)


def test_fault_36_an_old_sweeper_does_not_reserve_what_a_deploy_gave_back(
    world: Any, cloudformation: Any, sweep: Callable[[], Any]
) -> None:
    cloudformation.deploy({"default": 10})
    cloudformation.deploy({"default": 10}, reserved=False)
    sweep()
    assert world.lambdas.limits() == (None, "Enabled", 10)
    control.change("default", {"maxParallelism": 12})
    assert world.lambdas.limits() == (None, "Enabled", 12)


def test_fault_36_a_new_sweeper_does_not_go_ahead_of_its_deploy(
    world: Any, cloudformation: Any, sweep: Callable[[], Any]
) -> None:
    """CloudFormation may still roll back."""
    cloudformation.deploy({"default": 10})
    world.redeploy(maxParallelism=15)
    sweep()
    assert world.lambdas.limits() == (10, "Enabled", 10)
    cloudformation.deploy({"default": 15})
    assert world.lambdas.limits() == (15, "Enabled", 15)


def test_fault_36_old_code_that_scales_after_a_deploy_sets_what_was_asked_for(
    world: Any, cloudformation: Any
) -> None:
    cloudformation.deploy({"default": 10})
    cloudformation.deploy({"default": 15})
    control.change("default", {"maxParallelism": 12})  # Its own pools.json says 10.
    assert world.lambdas.limits() == (12, "Enabled", 12)
    assert control.list_pools()["pools"][0]["maxParallelism"] == 12


def test_fault_36_a_resume_while_a_deploy_is_at_work_is_kept(
    world: Any, cloudformation: Any
) -> None:
    cloudformation.deploy({"default": 10})
    control.change("default", {"paused": True})
    world.meanwhile("update_item", lambda: control.change("default", {"paused": False}))
    cloudformation.deploy({"default": 15})
    assert world.lambdas.limits() == (15, "Enabled", 15)


def test_fault_36_the_bound_is_never_exceeded_while_a_paused_resized_pool_is_made_smaller(
    world: Any, cloudformation: Any, sweep: Callable[[], Any]
) -> None:
    cloudformation.deploy({"default": 10})
    control.change("default", {"maxParallelism": 20})
    world.calls.clear()
    world.meanwhile("put_function_concurrency", sweep)
    cloudformation.deploy({"default": 4})
    assert {given["ReservedConcurrentExecutions"] for given in asked(world, PUT)} == {4}
    assert world.lambdas.limits() == (4, "Enabled", 4)


@pytest.mark.parametrize(
    "state", [{}, {"open": "default#parked#3", "kind": "completed", "result": "success"}]
)
def test_fault_47_a_pool_with_open_runs_is_not_removed(
    world: Any, cloudformation: Any, state: dict[str, Any]
) -> None:
    cloudformation.deploy({"default": 10, "other": 10})
    run = world.a_run(**state)
    world.put(run)
    answer = cloudformation.deploy({"other": 10})
    assert answer["Status"] == "FAILED"
    assert answer["Reason"] == (
        "default cannot be removed: there are open runs. "
        "Before you remove a pool or the stack, call `workpool drain -p default`."
    )
    world.client("dynamodb").delete_item(TableName="runs", Key={"run": {"S": run.key}})
    assert cloudformation.deploy({"other": 10})["Status"] == "SUCCESS"


def test_fault_47_a_stack_with_open_runs_is_not_deleted(world: Any, cloudformation: Any) -> None:
    cloudformation.deploy({"default": 10, "other": 10})
    assert cloudformation.destroy()["Status"] == "SUCCESS"
    world.put(world.a_run(pool="other", open="other#3"))
    answer = cloudformation.destroy()
    assert (answer["Status"], answer["Reason"].split()[0]) == ("FAILED", "other")
