"""Faults 1 to 7, 11 and 23: workers that die, stand still, are doubled, throttled or cut off."""

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.faults.cloud import Cloud
from tests.support.mappings import LETTERS, WORK
from workpool.core.message import Message
from workpool.verbs.attempt import LOST, attempt

TEN_MINUTES = 10


def killed(world: Any) -> Callable[[], None]:
    """The process ends in the middle of the action: it does no more, nobody writes its outcome."""

    def here() -> None:
        world.die_before("update_item")
        raise SystemExit

    return here


def killed_after_it(world: Any) -> Callable[[], None]:
    """The process ends when the action has returned, before its outcome is written."""
    return lambda: world.die_before("update_item")


KILLS = pytest.mark.parametrize("failures", [0, 1], ids=["in the first attempt", "in a retry"])


def dies_in_its_last(cloud: Cloud, failures: int, kill: Callable[[], None]) -> str:
    cloud.failures = failures
    cloud.during = [*[lambda: None] * failures, kill]
    key = cloud.submit()
    cloud.rest()
    return key


@KILLS
def test_fault_01_a_consumer_killed_in_the_middle_of_an_action_is_a_failed_attempt(
    cloud: Cloud, world: Any, logged: Any, failures: int
) -> None:
    key = dies_in_its_last(cloud, failures, killed(world))
    cloud.ended(key, "success", retries=failures + 1)
    assert cloud.calls(key) == list(range(failures + 2))
    errors = [line["error"] for line in logged("job-retry")]
    assert errors == ["boom"] * failures + [LOST]
    assert LOST.startswith("worker lost")
    died, again = [at for _, _, at in cloud.attempts][-2:]
    assert 100_000 <= again - died <= 103_000  # Its message's return, then the backoff.
    cloud.at_rest()


def test_fault_01_a_worker_lost_in_the_last_attempt_fails_the_run(cloud: Cloud, world: Any) -> None:
    cloud.during = [killed(world)]
    key = cloud.submit(maxRetries=0)
    cloud.rest()
    assert cloud.ended(key, "failed").error == LOST
    assert cloud.calls(key) == [0]
    cloud.at_rest()


@KILLS
def test_fault_02_a_consumer_killed_before_it_writes_the_outcome_runs_the_action_again(
    cloud: Cloud, world: Any, failures: int
) -> None:
    key = dies_in_its_last(cloud, failures, killed_after_it(world))
    run = cloud.ended(key, "success", retries=failures + 1)
    assert run.return_value.text == '"done"'
    assert cloud.calls(key) == list(range(failures + 2))
    cloud.at_rest()


@pytest.mark.parametrize("failures", [0, 1, 2])
@pytest.mark.parametrize("attempt_", [0, 1])
def test_fault_03_killed_after_the_outcome_is_written_only_what_is_missing_is_repeated(
    cloud: Cloud, world: Any, failures: int, attempt_: int
) -> None:
    """`attempt_` is the one that dies: its write is done, and no answer, no acknowledgment."""
    cloud.failures = failures
    cloud.during = [*[lambda: None] * attempt_, lambda: world.die_after("update_item")]
    key = cloud.submit()
    cloud.rest()
    cloud.ended(key, "success", retries=failures)
    assert cloud.calls(key) == list(range(failures + 1))
    cloud.at_rest()


@pytest.mark.parametrize("operation", ["send_task_failure", "send_task_success"])
@pytest.mark.parametrize("died", ["before", "after"])
def test_fault_03_killed_around_the_answer_of_the_token_the_action_is_not_run_again(
    cloud: Cloud, world: Any, operation: str, died: str
) -> None:
    cloud.failures = 2
    getattr(world, f"die_{died}")(operation)
    key = cloud.submit()
    cloud.rest()
    cloud.ended(key, "success", retries=2)
    assert cloud.calls(key) == [0, 1, 2]
    cloud.at_rest()


def test_fault_04_an_action_that_outlives_its_deadline_is_ended_by_the_watchdog(
    cloud: Cloud, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, release = threading.Event(), threading.Event()
    monkeypatch.setattr("os._exit", lambda code: ended.set())
    world.redeploy(actionTimeoutSeconds=0.05)
    key = cloud.submit()
    run = cloud.run(key)
    cloud.during = [lambda: release.wait(10)]
    first = Message(run=key, due=run.due)
    consumer = threading.Thread(
        target=attempt, args=[first], kwargs={"remaining_ms": lambda: 5_050}, daemon=True
    )
    consumer.start()
    assert ended.wait(10)
    waiting = cloud.run(key)
    assert (waiting.kind, waiting.retries) == ("scheduled", 1)
    release.set()
    cloud.rest()  # The relay's message comes too: it is for an earlier due.
    cloud.ended(key, "success", retries=1)
    assert cloud.calls(key) == [0, 1]
    cloud.at_rest()


def test_fault_04_without_a_watchdog_the_deadline_makes_it_a_lost_worker(
    cloud: Cloud, world: Any
) -> None:
    def stands_still() -> None:
        world.tick(70)
        killed(world)()

    cloud.during = [stands_still]
    key = cloud.submit()
    cloud.rest()
    cloud.ended(key, "success", retries=1)
    cloud.at_rest()


@pytest.mark.parametrize("failures", [0, 1])
def test_fault_05_of_one_message_delivered_twice_at_once_one_claim_wins(
    cloud: Cloud, failures: int
) -> None:
    """The other copy goes back; it never runs, and it deletes nothing."""
    cloud.failures = failures
    taken: list[bool] = []

    def copy() -> None:
        (body,) = cloud.bodies(WORK)
        cloud.queues.put(WORK, body)
        taken.append(cloud.deliver(WORK))

    cloud.during = [*[lambda: None] * failures, copy]
    key = cloud.submit()
    cloud.rest()
    assert taken == [False]
    cloud.ended(key, "success", retries=failures)
    assert cloud.calls(key) == list(range(failures + 1))
    cloud.at_rest()


def test_fault_06_a_late_duplicate_is_dropped_and_counted_while_a_later_attempt_runs(
    cloud: Cloud, logged: Any
) -> None:
    cloud.failures = 1
    bodies: list[str] = []
    taken: list[bool] = []

    def late() -> None:
        cloud.queues.put(WORK, bodies[0])
        taken.append(cloud.deliver(WORK))

    cloud.during = [lambda: bodies.extend(cloud.bodies(WORK)), late]
    key = cloud.submit()
    cloud.rest()
    assert taken == [True]
    assert len(logged("message-stale")) == 1
    cloud.ended(key, "success", retries=1)
    assert cloud.calls(key) == [0, 1]
    cloud.at_rest()


def test_fault_07_while_the_consumer_is_throttled_only_receive_counts_grow(cloud: Cloud) -> None:
    keys = [cloud.submit() for _ in range(3)]
    before = [cloud.run(key) for key in keys]
    cloud.down.add("consumer")
    cloud.pass_time(minutes=TEN_MINUTES)
    assert [it.receives >= 6 for it in cloud.queues.on(WORK).values()] == [True] * 3
    assert [cloud.run(key) for key in keys] == before
    cloud.down.clear()
    cloud.rest()
    for key in keys:
        cloud.ended(key, "success")
        assert cloud.calls(key) == [0]
    cloud.at_rest()


@pytest.mark.parametrize("operations", [("get_item",), ("update_item",), ("get_item", "put_item")])
def test_fault_07_while_the_table_is_away_no_run_fails(
    cloud: Cloud, operations: tuple[str, ...]
) -> None:
    keys = [cloud.submit(maxRetries=0) for _ in range(3)]
    cloud.away = dict.fromkeys(operations, "InternalServerError")
    cloud.pass_time(minutes=TEN_MINUTES)
    assert {cloud.run(key).kind for key in keys} == {"enqueued"}
    assert [it.receives >= 6 for it in cloud.queues.on(WORK).values()] == [True] * 3
    cloud.away = {}
    cloud.rest()
    for key in keys:
        cloud.ended(key, "success")
        assert cloud.calls(key) == [0]
    cloud.at_rest()


def test_fault_07_a_throttled_consumer_for_a_day_brings_messages_to_the_dead_letters_and_back(
    cloud: Cloud,
) -> None:
    key = cloud.submit()
    cloud.relay()
    cloud.queues.visible(WORK)[0].receives = 999
    cloud.down.add("consumer")
    cloud.pass_time(minutes=TEN_MINUTES)
    assert cloud.run(key).kind == "enqueued"
    assert cloud.bodies(LETTERS) == []
    cloud.down.clear()
    cloud.rest()
    cloud.ended(key, "success")
    cloud.at_rest()


CODES = ["ThrottlingException", "InternalServerError", "AccessDeniedException"]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("operation", ["send_task_failure", "send_task_success"])
def test_fault_11_an_answer_that_is_not_taken_is_repeated_and_the_action_is_not(
    cloud: Cloud, world: Any, operation: str, code: str
) -> None:
    cloud.failures = 2
    world.refuse(operation, code, times=3)
    key = cloud.submit()
    cloud.rest()
    cloud.ended(key, "success", retries=2)
    assert cloud.calls(key) == [0, 1, 2]
    assert len([answer for answer in world.answers() if answer[1] == "completed"]) <= 4
    cloud.at_rest()


@pytest.mark.parametrize("code", ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"])
def test_fault_11_a_closed_token_is_nobodys_failure(cloud: Cloud, world: Any, code: str) -> None:
    """Somebody stopped the execution: the message is done with, and the sweeper finds the run."""
    cloud.failures = 2
    key = cloud.submit()
    world.refuse("send_task_failure", code)
    cloud.during = [lambda: None, lambda: cloud.steps.close(cloud.steps.open()[0], "ABORTED")]
    cloud.rest()
    assert (cloud.run(key).kind, cloud.calls(key)) == ("scheduled", [0, 1])
    assert cloud.bodies(WORK) == []
    cloud.sweep_until_rest()
    cloud.ended(key, "success", retries=2)
    assert cloud.calls(key) == [0, 1, 2]
    cloud.at_rest()


SKEWS = [
    {"consumer": 300},
    {"consumer": -300},
    {"submit": 300, "consumer": -300},
    {"submit": -300, "consumer": 300},
    {"completion": 300},
    {"completion": -300},
    {"relay": -300, "sweeper": 300},
    {"consumer": 300, "completion": -300, "sweeper": -300},
]


@pytest.mark.parametrize("skew", SKEWS, ids=str)
def test_fault_23_clocks_five_minutes_apart_lose_no_run_and_start_none_early(
    cloud: Cloud, world: Any, skew: dict[str, float]
) -> None:
    """That no attempt is earlier than the skew is checked at each claim (I5)."""
    cloud.skew_seconds = skew
    cloud.failures = 1
    begin = world.now_ms
    keys = [cloud.submit(), cloud.submit(runAfterMs=60_000)]
    cloud.rest()
    cloud.sweep_until_rest()
    for key in keys:
        cloud.ended(key, "success", retries=1)
        assert cloud.calls(key) == [0, 1]
        times = [at for run_id, _, at in cloud.attempts if key.endswith(run_id)]
        assert all(before <= after for before, after in pairwise(times))
    assert world.now_ms - begin <= 25 * 60_000
    cloud.at_rest()


@pytest.mark.parametrize("skew", [300, -300])
def test_fault_23_a_dead_worker_is_found_within_the_skew(
    cloud: Cloud, world: Any, skew: int
) -> None:
    """Its clock was wrong when it wrote its lease; another's judges it."""
    cloud.skew_seconds = {"consumer": skew}

    def dying() -> None:
        cloud.skew_seconds = {"consumer": -skew}
        killed(world)()

    cloud.during = [dying]
    begin = world.now_ms
    key = cloud.submit()
    cloud.rest()
    cloud.ended(key, "success", retries=1)
    assert world.now_ms - begin <= (130 + 2 * 300 + 10) * 1000
    cloud.at_rest()
