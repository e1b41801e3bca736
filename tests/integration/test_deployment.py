"""The deployment function: it opens the pools at each deploy, and always answers CloudFormation."""

from typing import Any

import pytest

from workpool.aws import overrides
from workpool.verbs import control

CONSUMER = "Test-default-consumer"


def test_a_first_deploy_opens_what_the_template_creates_closed(world, cloudformation) -> None:
    world.lambdas.create_closed(CONSUMER)
    answer = cloudformation.deploy({"default": 10})
    assert answer == {
        "Status": "SUCCESS",
        "Reason": "done",
        "PhysicalResourceId": "settings",
        "StackId": "the stack",
        "RequestId": "the request",
        "LogicalResourceId": "the resource",
    }
    assert world.lambdas.limits() == (10, "Enabled", 10)


@pytest.mark.promise(
    "Operate a pool",
    "With a `maxParallelism` of 1, the limit of the mapping is 2, the least that Lambda allows",
)
def test_a_pool_of_one_is_opened_with_the_least_that_lambda_allows(world, cloudformation) -> None:
    world.lambdas.create_closed(CONSUMER)
    cloudformation.deploy({"default": 1})
    assert world.lambdas.limits() == (1, "Enabled", 2)


def test_without_reserved_concurrency_a_bound_of_earlier_is_removed(world, cloudformation) -> None:
    cloudformation.deploy({"default": 10})
    cloudformation.deploy({"default": 10}, reserved=False)
    assert world.lambdas.limits() == (None, "Enabled", 10)
    cloudformation.deploy({"default": 10})
    assert world.lambdas.limits() == (10, "Enabled", 10)


def test_limits_that_fit_into_the_account_only_together_are_set_in_the_order_that_works(
    world, cloudformation
) -> None:
    cloudformation.deploy({"default": 100, "other": 800})
    answer = cloudformation.deploy({"default": 800, "other": 100})
    assert answer["Status"] == "SUCCESS"
    assert world.lambdas.limits("default") == (800, "Enabled", 800)
    assert world.lambdas.limits("other") == (100, "Enabled", 100)


def test_a_limit_that_aws_refuses_fails_the_deploy_with_awss_reason(world, cloudformation) -> None:
    cloudformation.deploy({"default": 10, "other": 10})
    answer = cloudformation.deploy({"default": 10, "other": 950})
    assert answer["Status"] == "FAILED"
    assert "InvalidParameterValueException" in answer["Reason"]
    assert answer["PhysicalResourceId"] == "settings"
    assert world.lambdas.limits("other") == (10, "Enabled", 10)
    # Then CloudFormation rolls back.
    assert cloudformation.deploy({"default": 10, "other": 10})["Status"] == "SUCCESS"
    assert overrides.read("other").deployed_parallelism == 10


def test_a_mapping_that_aws_is_still_changing_is_waited_for(world, cloudformation) -> None:
    cloudformation.deploy({"default": 10})
    world.lambdas.slow = True
    control.change("default", {"paused": True})
    world.on("get_function_concurrency", *[_settling(world)] * 3)
    cloudformation.deploy({"default": 4})
    world.lambdas.settle()
    assert world.lambdas.limits() == (0, "Disabled", 4)


def _settling(world: Any) -> Any:
    def settled(call: Any, parameters: dict[str, Any]) -> Any:
        world.lambdas.settle()
        return call(**parameters)

    return settled


def test_a_mapping_that_takes_too_long_is_left_to_the_sweeper(
    world, cloudformation, logged
) -> None:
    world.lambdas.create_closed(CONSUMER)
    world.lambdas.mappings[f"uuid-of-{CONSUMER}"]["State"] = "Creating"
    answer = cloudformation.deploy({"default": 10}, milliseconds=(180_000, 41_000, 40_000))
    assert answer["Status"] == "SUCCESS"
    assert len(logged("deploy-unfinished")) == 1


def test_a_pool_that_only_the_event_knows_is_noted_and_left_alone(world, cloudformation) -> None:
    """A deploy is rolled back while this code already lacks the pool."""
    cloudformation.deploy({"default": 10, "removed": 7})
    assert overrides.read("removed").deployed_parallelism == 7


@pytest.mark.parametrize(
    "event",
    [
        {"ResourceProperties": {"Pools": "no JSON"}},
        {"ResourceProperties": {"Pools": '{"default": {}}'}},
        {"ResourceProperties": None},
        {},
    ],
)
def test_any_failure_is_answered(cloudformation, event: dict[str, Any]) -> None:
    answer = cloudformation.send("Update", event)
    assert answer["Status"] == "FAILED"
    assert answer["Reason"]


def test_a_long_reason_fits_into_an_answer(world, cloudformation) -> None:
    pools = {f"{'€' * 400}-{number}": 1 for number in range(9)}
    for name in pools:
        world.put(world.a_run(pool=name, open=f"{name}#3"))
    cloudformation.deploy(pools)
    assert cloudformation.destroy()["Status"] == "FAILED"  # It checks the answer's length.


def test_an_answer_that_does_not_arrive_is_repeated(world, cloudformation) -> None:
    cloudformation.unreachable = 2
    assert cloudformation.deploy({"default": 10})["Status"] == "SUCCESS"


def test_an_answer_that_never_arrives_fails_the_invocation_so_that_lambda_repeats_it(
    world, cloudformation
) -> None:
    cloudformation.unreachable = 3
    with pytest.raises(OSError):
        cloudformation.deploy({"default": 10})
    assert cloudformation.answers == []
