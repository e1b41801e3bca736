"""Faults 15 to 17, 33 and 37: completion handlers whose process dies, that raise, that are down,
whose mark AWS does not take."""

from itertools import pairwise
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from tests.faults.cloud import Cloud
from tests.support.failures import refusal
from tests.support.mappings import COMPLETION_LETTERS, COMPLETIONS
from workpool.verbs import complete
from workpool.verbs.status import status

DAY = 24 * 60


def test_fault_15_a_process_that_dies_before_the_handler_leaves_it_to_run_once(
    cloud: Cloud, world: Any
) -> None:
    key = cloud.submit()
    cloud.until(lambda: cloud.queues.visible(COMPLETIONS))
    world.die_after("update_item")  # The lease is written.
    assert not cloud.deliver(COMPLETIONS)
    assert cloud.results(key) == []
    cloud.rest()
    assert cloud.results(key) == ["success"]
    assert cloud.ended(key, "success").completion_tries == 2
    cloud.at_rest()


@pytest.mark.parametrize("died", ["before", "after"])
def test_fault_16_a_process_that_dies_around_the_mark_commits_the_handlers_writes_once(
    cloud: Cloud, world: Any, died: str
) -> None:
    """And a side effect elsewhere gets the same key each time: here, the call itself."""
    keys: list[str] = []
    key = cloud.submit()
    getattr(world, f"die_{died}")("transact_write_items")
    cloud.in_handler = [lambda: keys.append(cloud.handled[-1][0])] * 2
    cloud.rest()
    assert keys == [key.partition("#")[2]] * (2 if died == "before" else 1)
    cloud.ended(key, "success")
    cloud.at_rest()


def test_fault_16_a_handler_killed_in_the_middle_is_called_again(cloud: Cloud, world: Any) -> None:
    def killed() -> None:
        world.die_before("update_item")
        raise SystemExit

    key = cloud.submit()
    cloud.in_handler = [killed]
    cloud.rest()
    assert cloud.results(key) == ["success"] * 2
    cloud.ended(key, "success")
    cloud.at_rest()


def test_fault_16_a_handler_that_kills_every_process_is_parked_too(
    cloud: Cloud, world: Any
) -> None:
    def killed() -> None:
        world.die_before("update_item")
        raise SystemExit

    key = cloud.submit()
    cloud.in_handler = [killed] * 99
    cloud.rest()
    assert len(cloud.handled) == complete.MAX_TRIES
    run = cloud.run(key)
    assert (run.completion, run.completion_error) == ("parked", complete.PROCESS_DIED)
    assert cloud.effects(key) == 0
    cloud.at_rest()


@pytest.mark.parametrize("result", ["success", "failed"])
def test_fault_17_a_handler_that_always_raises_is_tried_with_growing_delays_and_parked(
    cloud: Cloud, world: Any, logged: Any, result: str
) -> None:
    """The run's own status is right all the while, and a parked run is not forgotten."""
    cloud.failures = 9 if result == "failed" else 0
    cloud.handler_raises = True
    times: list[int] = []
    shown: list[Any] = []

    def note() -> None:
        times.append(world.now_ms)
        shown.append(status(*key.split("#"))["result"]["type"])

    key = cloud.submit(maxRetries=0)
    cloud.in_handler = [note] * 99
    cloud.rest()
    delays = [after - before for before, after in pairwise(times)]
    assert delays == [1000, 2000, 4000, 8000, 16_000, 32_000, 64_000]
    assert shown == [result] * complete.MAX_TRIES
    assert [line["error"] for line in logged("completion-parked")] == ["bang"]
    shape = status(*key.split("#"))
    assert (shape["result"]["type"], shape["completion"]) == (result, "parked")
    run = cloud.run(key)
    assert (run.expires_at, bool(run.open), cloud.effects(key)) == (None, True, 0)
    world.tick(400 * 24 * 3600)
    assert cloud.sweep() == 0
    assert status(*key.split("#")) == shape
    cloud.at_rest()


def test_fault_17_a_handler_that_raises_for_a_while_is_done_once(cloud: Cloud) -> None:
    def raises() -> None:
        raise ValueError("not yet")

    key = cloud.submit()
    cloud.in_handler = [raises] * 5
    cloud.rest()
    assert cloud.results(key) == ["success"] * 6
    assert cloud.ended(key, "success").completion_error is None
    cloud.at_rest()


@pytest.mark.parametrize("days", [1, 3])
def test_fault_33_nothing_is_forgotten_before_its_completion_is_done(
    cloud: Cloud, world: Any, days: int
) -> None:
    """The pool keeps an ended run for a day, from then on."""
    cloud.down.add("completion")
    key = cloud.submit()
    cloud.pass_time(minutes=60)
    world.tick(days * DAY * 60)
    run = cloud.run(key)
    assert (run.result, run.completion, run.expires_at) == ("success", "pending", None)
    assert status(*key.split("#"))["completion"] == "pending"
    cloud.down.clear()
    cloud.rest()
    assert cloud.results(key) == ["success"]
    done = cloud.ended(key, "success")
    assert done.expires_at is not None
    assert done.expires_at * 1000 > world.now_ms + 23 * 3_600_000
    assert cloud.bodies(COMPLETION_LETTERS) == []
    cloud.at_rest()


def test_fault_33_also_when_the_event_is_older_than_any_queue_keeps_it(
    cloud: Cloud, world: Any
) -> None:
    cloud.down.add("completion")
    key = cloud.submit()
    cloud.pass_time(minutes=60)
    world.tick(15 * DAY * 60)
    assert len(cloud.queues.expire()) == 1
    cloud.down.clear()
    cloud.sweep_until_rest()
    assert cloud.results(key) == ["success"]
    cloud.ended(key, "success")
    cloud.at_rest()


REASONS = {
    "conflict": ("TransactionConflict", "None"),
    "in conflict with the mark": ("None", "TransactionConflict"),
    "throttled": ("ProvisionedThroughputExceeded", "ThrottlingError"),
}


@pytest.mark.parametrize(
    "trouble",
    [
        *REASONS,
        "TransactionInProgressException",
        "ThrottlingException",
        "RequestLimitExceeded",
        "AccessDeniedException",
        "InternalServerError",
        "no answer",
    ],
)
def test_fault_37_a_mark_that_is_refused_for_ten_minutes_spends_no_try_and_parks_nobody(
    cloud: Cloud, world: Any, logged: Any, trouble: str
) -> None:
    until = world.now_ms + 600_000

    def refused(call: Any, parameters: dict[str, Any]) -> Any:
        if world.now_ms >= until:
            return call(**parameters)
        if trouble == "no answer":
            world.tick(5)
            raise ReadTimeoutError(endpoint_url="https://the.test")
        reasons = [{"Code": code} for code in REASONS.get(trouble, ())]
        code = "TransactionCanceledException" if reasons else trouble
        raise refusal(code, "TransactWriteItems", CancellationReasons=reasons)

    world.on("transact_write_items", *[refused] * 5000)
    keys = [cloud.submit() for _ in range(5)]
    cloud.pass_time(minutes=10)
    assert {cloud.run(key).completion_tries for key in keys} <= {0, 1}
    assert logged("completion-unmarked")
    cloud.rest()
    assert world.now_ms < until + 120_000
    for key in keys:
        done = cloud.ended(key, "success")
        assert (done.completion_tries, done.completion_error) == (1, None)
    assert cloud.bodies(COMPLETION_LETTERS) == []
    assert logged("completion-parked") == []
    cloud.at_rest()


def test_fault_37_a_handler_that_kills_its_process_still_counts_while_marks_are_refused(
    cloud: Cloud, world: Any
) -> None:
    def killed() -> None:
        world.die_before("update_item")
        raise SystemExit

    key = cloud.submit()
    world.refuse("transact_write_items", "AccessDeniedException", times=99)
    cloud.in_handler = [lambda: None] * 3 + [killed] * 99
    cloud.rest()
    assert len(cloud.handled) == 3 + complete.MAX_TRIES
    assert (cloud.run(key).completion, cloud.effects(key)) == ("parked", 0)
    cloud.at_rest()
