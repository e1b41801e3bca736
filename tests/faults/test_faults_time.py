"""Faults 40 and 44: what comes before user code takes the time that user code was promised, and the
connection to a function breaks while it runs."""

from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError

from tests.faults.cloud import Cloud
from tests.support.environment import POOL
from tests.support.mappings import COMPLETIONS, SECONDS, WORK
from workpool.verbs.attempt import attempt
from workpool.verbs.submit import submit

LARGE = {"x": "x" * 3000}
OPTIONS = {"maxRetries": 0, "onComplete": "jobs.done", "context": LARGE}


def slowly(world: Any, seconds: float, *, times: int) -> None:
    def slow(call: Any, parameters: dict[str, Any]) -> Any:
        world.tick(seconds)
        return call(**parameters)

    world.on("get_object", *[slow] * times)


@pytest.mark.parametrize("seconds", [6, 66], ids=lambda it: f"{it} of 70 s")
def test_fault_40_arguments_that_are_read_slowly_cost_no_attempt(
    cloud: Cloud, world: Any, seconds: int
) -> None:
    key = f"default#{submit({'action': 'jobs.work', 'args': LARGE, 'options': OPTIONS})['runId']}"
    cloud.until(lambda: cloud.queues.visible(WORK))
    before = cloud.run(key)
    slowly(world, seconds, times=20)
    for _ in range(20):
        cloud.until(lambda: cloud.queues.visible(WORK))
        assert not cloud.deliver(WORK)
    assert (cloud.run(key), cloud.attempts) == (before, [])
    cloud.rest()
    assert cloud.ended(key, "success").retries == 0
    assert cloud.calls(key) == [0]
    cloud.at_rest()


@pytest.mark.parametrize("seconds", [11, 56], ids=lambda it: f"{it} of 60 s")
def test_fault_40_a_context_that_is_read_slowly_costs_no_try(
    cloud: Cloud, world: Any, seconds: int
) -> None:
    key = cloud.submit(context=LARGE)
    cloud.until(lambda: cloud.queues.visible(COMPLETIONS))
    slowly(world, seconds, times=20)
    for _ in range(20):
        cloud.until(lambda: cloud.queues.visible(COMPLETIONS))
        assert not cloud.deliver(COMPLETIONS)
    assert (cloud.run(key).completion_tries, cloud.handled) == (0, [])
    cloud.rest()
    assert cloud.ended(key, "success").completion_tries == 1
    assert cloud.results(key) == ["success"]
    cloud.at_rest()


def test_fault_40_an_action_that_begins_has_all_of_its_promised_time(
    cloud: Cloud, world: Any
) -> None:
    """However slowly its arguments came, also in the moment before they were too slow."""
    begun: list[int] = []
    world.action(lambda ctx, args: begun.append(ctx.remaining_ms()))
    for tenths in range(0, 700, 28):
        slowly(world, tenths / 10, times=1)
        submit({"action": "jobs.work", "args": LARGE})
        cloud.rest()
    assert begun == [POOL["actionTimeoutSeconds"] * 1000] * 25
    assert SECONDS["consumer"] == POOL["actionTimeoutSeconds"] + 10


@pytest.mark.parametrize("seconds", [0, 1, 29, 31, 55])
def test_fault_44_a_connection_that_breaks_leaves_its_slot_taken_until_the_function_ended(
    world: Any, message: Any, seconds: int
) -> None:
    """While `attempt` has not returned, the slot is taken: a slot is an invocation."""
    began = world.now_ms

    def breaks(call: Any, parameters: dict[str, Any]) -> Any:
        world.tick(seconds)
        raise ConnectionClosedError(endpoint_url="https://the.test")

    world.redeploy(lambdaActions=["charge"])
    world.lambdas.functions["charge"] = (30, lambda given: 1)
    run = world.put(world.a_run(action="lambda:charge"))
    world.on("invoke", breaks)
    assert attempt(message(run), remaining_ms=lambda: began + 70_000 - world.now_ms) is None
    assert world.now_ms == began + max(seconds, 30) * 1000
    assert (world.run(run.key).kind, world.run(run.key).retries) == ("scheduled", 1)
    assert world.made("invoke") == 1
