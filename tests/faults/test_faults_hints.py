"""Faults 8 to 10, 12 to 14, 21, 24 and 28: hints lost, doubled, unreadable, refused."""

import json
from typing import Any

import pytest

from handlers import relay
from tests.faults.cloud import Cloud
from tests.support.mappings import COMPLETION_LETTERS, COMPLETIONS, LETTERS, PARKED, RETRY, WORK
from workpool.aws import open_runs
from workpool.core.message import Message
from workpool.verbs import sweep

THROTTLED = "ProvisionedThroughputExceededException"


def waits_in(cloud: Cloud, step: str, **options: Any) -> str:
    """A run brought to a step of its life where it waits for one hint, which is there."""
    if step == "its first message":
        key = cloud.submit(**options)
        cloud.relay()
    elif step == "the retrier's message":
        cloud.failures = 1
        key = cloud.submit(**options)
        cloud.until(cloud.steps.waiting)
    elif step == "a lost worker's message":

        def dying() -> None:
            cloud.world.die_before("update_item")

        cloud.during = [dying]
        key = cloud.submit(**options)
        cloud.relay()
        cloud.deliver(WORK)
    else:
        assert step == "its completion"
        key = cloud.submit(**options)
        cloud.until(lambda: cloud.queues.visible(COMPLETIONS))
    return key


STEPS = [
    "its first message",
    "the retrier's message",
    "a lost worker's message",
    "its completion",
]


# 8

POISONOUS = ["no JSON", "{", "[]", '{"v": 1}', '{"v": 2, "run": "default#r1"}', "\x00", "[" * 9999]


@pytest.mark.parametrize(
    "queue",
    [WORK, LETTERS],
)
def test_fault_08_a_poison_message_is_set_aside_at_once_with_its_reason(
    cloud: Cloud, world: Any, logged: Any, queue: str
) -> None:
    key = cloud.submit()
    for body in POISONOUS:
        cloud.queues.put(queue, body)
    cloud.rest(hours=0)
    assert cloud.bodies(PARKED) == POISONOUS
    assert len(logged("message-parked")) == len(POISONOUS)
    cloud.ended(key, "success")
    cloud.at_rest()


@pytest.mark.parametrize("token", [None, "T"])
@pytest.mark.parametrize("queue", [WORK, LETTERS])
def test_fault_08_a_message_of_an_unknown_run_is_dropped_and_its_token_answered(
    cloud: Cloud, world: Any, queue: str, token: str | None
) -> None:
    message = Message(
        run="default#nobody", due=world.now_ms, token=token, execution=token and "nobody-1-1"
    )
    cloud.queues.put(queue, message.body())
    cloud.step()
    assert world.answers() == ([("T", "unknown")] if token else [])
    assert world.items() == []
    cloud.at_rest()


@pytest.mark.parametrize("queue", [COMPLETIONS, RETRY, "Test-dead-letters-completions"])
def test_fault_08_a_poison_message_of_a_shared_queue_is_set_aside_at_once(
    cloud: Cloud, queue: str
) -> None:
    bodies = ["no JSON", '{"v": 1}', '{"v": 1, "run": 7}', '{"v": 2, "key": "default#r"}']
    for body in bodies:
        cloud.queues.put(queue, body)
    key = cloud.submit()
    cloud.rest(hours=0)
    cloud.ended(key, "success")
    assert (cloud.bodies(queue), cloud.bodies("Test-parked")) == ([], bodies)


# 9


def letter_of(cloud: Cloud, key: str) -> str:
    """The run's message, moved to the dead-letter queue as it is."""
    (sent,) = cloud.queues.on(WORK).values()
    del cloud.queues.on(WORK)[sent.number]
    cloud.queues.put(LETTERS, sent.body)
    return sent.body


@pytest.mark.parametrize("step", STEPS[:3])
@pytest.mark.parametrize("down_minutes", [0, 60])
def test_fault_09_a_dead_letter_of_an_open_run_becomes_a_hint_again(
    cloud: Cloud, step: str, down_minutes: int
) -> None:
    """Also when its handler is down for hours; and a live run's lease is waited for."""
    key = waits_in(cloud, step, maxRetries=1)
    letter_of(cloud, key)
    cloud.down.add("dead-letters")
    cloud.pass_time(minutes=down_minutes)
    assert not cloud.run(key).ended
    cloud.down.clear()
    cloud.rest()
    cloud.ended(key, "success", retries=0 if step == STEPS[0] else 1)
    cloud.at_rest()


def test_fault_09_a_dead_letter_of_a_live_run_waits_for_its_lease(cloud: Cloud, world: Any) -> None:
    seen: list[bool] = []

    def meanwhile() -> None:
        cloud.queues.put(LETTERS, cloud.bodies(WORK)[0])
        seen.append(cloud.deliver(LETTERS))

    cloud.during = [meanwhile]
    key = cloud.submit(maxRetries=0)
    cloud.rest()
    assert seen == [False]
    assert world.comes_back_in() == [60]
    cloud.ended(key, "success")
    assert cloud.calls(key) == [0]
    cloud.at_rest()


def test_fault_09_a_dead_letter_of_an_ended_run_or_of_an_earlier_attempt_is_dropped(
    cloud: Cloud, logged: Any
) -> None:
    cloud.failures = 1
    key = cloud.submit()
    cloud.relay()
    first = cloud.bodies(WORK)[0]
    cloud.during = [lambda: None, lambda: cloud.queues.put(LETTERS, first)]
    cloud.rest()
    before = cloud.run(key)
    cloud.queues.put(LETTERS, first)
    cloud.rest()
    assert [line["verdict"] for line in logged("dead-letter")] == ["ENDED", "ENDED"]
    assert cloud.run(key) == before
    cloud.ended(key, "success", retries=1)
    cloud.at_rest()


# 10, 12


@pytest.mark.parametrize("step", STEPS)
def test_fault_10_a_message_lost_from_the_queue_is_repeated_by_the_sweeper(
    cloud: Cloud, world: Any, step: str
) -> None:
    key = waits_in(cloud, step)
    assert cloud.lose_messages() == 1
    begin = world.now_ms
    cloud.sweep_until_rest()
    cloud.ended(key, "success", retries=0 if step in (STEPS[0], STEPS[3]) else 1)
    assert 15 * 60_000 <= world.now_ms - begin <= 25 * 60_000
    cloud.at_rest()


@pytest.mark.parametrize("result", ["success", "failed", "canceled"])
def test_fault_12_an_ended_event_that_is_lost_is_announced_again(
    cloud: Cloud, world: Any, result: str
) -> None:
    from workpool.verbs.cancel import cancel

    target, cloud.bus.send = cloud.bus.send, lambda detail: None
    cloud.failures = 9 if result == "failed" else 0
    key = cloud.submit(maxRetries=0)
    if result == "canceled":
        cancel(*key.split("#"))
    cloud.rest()
    assert (cloud.run(key).completion, cloud.results(key)) == ("pending", [])
    cloud.bus.send = target
    cloud.sweep_until_rest()
    cloud.ended(key, result)
    assert cloud.results(key) == [result]
    cloud.at_rest()


# 13


@pytest.mark.parametrize("times", [2, 3])
def test_fault_13_ended_events_that_come_again_have_one_effect(cloud: Cloud, times: int) -> None:
    """All at once, in the middle of the handler, and again days later."""
    taken: list[bool] = []

    def again() -> None:
        for _ in range(times - 1):
            cloud.queues.put(COMPLETIONS, detail)
            taken.append(cloud.deliver(COMPLETIONS))

    key = waits_in(cloud, "its completion")
    (detail,) = cloud.bodies(COMPLETIONS)
    cloud.in_handler = [again]
    cloud.rest()
    assert taken == [False] * (times - 1)
    cloud.queues.put(COMPLETIONS, detail)
    cloud.rest()
    assert cloud.results(key) == ["success"]
    cloud.ended(key, "success")
    cloud.at_rest()


def test_fault_13_an_event_that_comes_before_its_time_does_nothing(cloud: Cloud) -> None:
    """Out of order: it names the run, and the run says that it has not ended."""
    key = waits_in(cloud, "its first message")
    cloud.queues.put(COMPLETIONS, json.dumps({"v": 1, "run": key, "onComplete": "jobs.done"}))
    assert cloud.deliver(COMPLETIONS)
    assert cloud.results(key) == []
    cloud.rest()
    cloud.ended(key, "success")
    cloud.at_rest()


# 14


@pytest.mark.parametrize("failures", [0, 1])
def test_fault_14_a_batch_that_is_replayed_whole_loses_and_doubles_nothing(
    cloud: Cloud, failures: int
) -> None:
    cloud.failures = failures
    keys = [cloud.submit() for _ in range(3)]
    seen: list[Any] = []
    for _ in range(12):  # Each batch of the stream twice, then once more from the beginning.
        batch = list(cloud.stream)
        seen += batch
        cloud.stream[:0] = batch
        cloud.rest()
    cloud.stream += seen
    cloud.rest()
    for key in keys:
        cloud.ended(key, "success", retries=failures)
        assert cloud.calls(key) == list(range(failures + 1))
        assert cloud.results(key) == ["success"]
    cloud.at_rest()


POISON: list[dict[str, Any]] = [
    {"v": {"N": "2"}},
    {"v": {"S": "one"}},
    {"due": {"S": "tomorrow"}},
    {"due": {"N": "1e300"}},
    {"kind": {"N": "1"}},
    {"args": {"M": {}}},
    {"kind": {"S": "haunted"}},
    {"fairnessKey": {"L": []}},
]


def test_fault_14_one_poisonous_record_holds_up_no_other(cloud: Cloud, world: Any) -> None:
    keys = []
    for poison in POISON:
        keys.append(cloud.submit())
        cloud.stream.append((None, world.a_run(run_id="poison").to_item() | poison))
    cloud.relay()
    assert {json.loads(it)["run"] for it in cloud.bodies(WORK)} >= set(keys)
    cloud.rest()
    for key in keys:
        cloud.ended(key, "success")


def test_fault_14_a_record_that_cannot_be_read_is_set_aside(cloud: Cloud, world: Any) -> None:
    """It is not dropped: its run's key is told, and the sweeper looks when the code is back."""
    item = world.a_run(run_id="newer").to_item() | {"v": {"N": "2"}}
    world.put_item(item)
    cloud.relay()
    [parked] = cloud.bodies("Test-parked")
    assert json.loads(parked) == {"v": 1, "run": "default#newer"}
    world.put_item(world.a_run(run_id="newer").to_item())  # The code that reads it is back.
    cloud.sweep_until_rest()
    assert cloud.run("default#newer").result == "success"


@pytest.mark.parametrize("failures", [0, 1])
def test_fault_14_two_shards_read_out_of_step_lose_and_double_nothing(
    cloud: Cloud, failures: int
) -> None:
    """After a split an item's later changes may be relayed while its earlier ones come again."""
    cloud.failures = failures
    key = cloud.submit()
    earlier = list(cloud.stream)
    cloud.until(lambda: cloud.run(key).ended)
    later = list(cloud.stream)
    cloud.stream[:] = later + earlier + later
    cloud.rest()
    cloud.ended(key, "success", retries=failures)
    assert cloud.calls(key) == list(range(failures + 1))
    cloud.at_rest()


def test_fault_14_a_batch_of_which_nothing_could_be_sent_comes_again_whole(
    cloud: Cloud, world: Any
) -> None:
    keys = [cloud.submit(), cloud.submit(runAfterMs=60_000)]
    cloud.away = {"send_message_batch": "InternalError", "start_execution": "InternalError"}
    with pytest.raises(RuntimeError, match="retry queue"):
        cloud.relay()
    assert len(cloud.stream) == 2
    cloud.away = {}
    cloud.rest()
    for key in keys:
        cloud.ended(key, "success")
        assert cloud.calls(key) == [0]
    cloud.at_rest()


# 21


@pytest.mark.parametrize("code", ["ThrottlingException", "ExecutionLimitExceeded"])
@pytest.mark.parametrize("minutes", [1, 30])
def test_fault_21_while_no_execution_can_be_started_the_runs_stay_scheduled(
    cloud: Cloud, code: str, minutes: int
) -> None:
    """Those of later and those that failed; and all others go on."""
    cloud.away = {"start_execution": code}
    later = [cloud.submit(runAfterMs=300_000) for _ in range(3)]
    now = cloud.submit()
    cloud.pass_time(minutes=minutes)
    cloud.ended(now, "success")
    assert {cloud.run(key).kind for key in later} == {"completed" if minutes > 5 else "scheduled"}
    cloud.away = {}
    cloud.failures = 1
    failing = cloud.submit()
    cloud.rest()
    for key in later:  # Those that were due meanwhile ran at once and succeeded.
        run = cloud.run(key)
        cloud.ended(key, "success", retries=run.retries)
        assert cloud.calls(key) == list(range(run.retries + 1))
    cloud.ended(failing, "success", retries=1)
    cloud.at_rest()


def test_fault_21_one_retry_whose_start_is_refused_is_started_later(
    cloud: Cloud, world: Any
) -> None:
    cloud.failures = 2
    world.refuse("start_execution", "ThrottlingException", times=3)
    key = cloud.submit(initialBackoffMs=600_000)
    cloud.rest()
    cloud.ended(key, "success", retries=2)
    assert len(cloud.steps.executions) == 1
    cloud.at_rest()


# 24


def test_fault_24_a_conditional_failure_is_a_decision_and_is_not_retried(
    cloud: Cloud, world: Any
) -> None:
    """Of two claims at once the loser writes nothing more."""
    key = waits_in(cloud, "its first message")
    (body,) = cloud.bodies(WORK)

    def faster() -> None:
        cloud.queues.put(WORK, body)
        cloud.deliver(WORK, list(cloud.queues.on(WORK).values())[-1])

    world.meanwhile("update_item", faster)
    before = world.made("update_item")
    cloud.rest(hours=0)
    assert cloud.calls(key) == [0]
    assert world.made("update_item") - before == 4  # the loser's claim; claim, finish, lease
    cloud.rest()
    cloud.ended(key, "success")
    cloud.at_rest()


OPERATIONS = ["get_item", "put_item", "update_item", "transact_write_items", "scan"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_fault_24_a_throttled_table_is_asked_again(
    cloud: Cloud, world: Any, operation: str
) -> None:
    from workpool.errors import Throttled

    world.refuse(operation, THROTTLED, times=2)
    if operation == "put_item":
        for _ in range(2):  # The caller is told, and nothing was stored.
            with pytest.raises(Throttled):
                cloud.submit()
        assert world.items() == []
    key = cloud.submit()
    cloud.rest()
    if operation == "scan":
        for _ in range(2):
            with pytest.raises(Exception, match=THROTTLED):
                cloud.sweep()
        assert cloud.sweep() == 0
    cloud.ended(key, "success")
    assert cloud.calls(key) == [0]
    cloud.at_rest()


def test_fault_24_an_index_that_is_behind_misleads_no_sweeper(
    cloud: Cloud, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It still names runs that ended or are gone; each is read consistently before it is judged."""
    ended = cloud.submit()
    cloud.rest()
    monkeypatch.setattr(
        open_runs, "scan_open_keys", lambda cursor, limit: ([ended, "default#gone"], None)
    )
    world.tick(3600)
    before = world.items()
    assert cloud.sweep() == 0
    assert world.items() == before
    reads = [given for name, given in world.calls if name == "batch_get_item"]
    assert all(it["RequestItems"]["runs"]["ConsistentRead"] for it in reads)
    assert reads
    cloud.at_rest()


def test_fault_24_a_sweep_that_is_cut_short_goes_on_where_it_stopped(
    cloud: Cloud, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "PAGE", 2)
    keys = [cloud.submit() for _ in range(5)]
    cloud.stream.clear()
    world.tick(3600)
    world.pass_by("scan", times=2)
    world.refuse("scan", THROTTLED)
    with pytest.raises(Exception, match=THROTTLED):
        cloud.sweep()
    cloud.sweep_until_rest()
    for key in keys:
        cloud.ended(key, "success")
        assert cloud.calls(key) == [0]
    cloud.at_rest()


# 28


REVOKED = [
    ("consumer", ["get_item"]),
    ("consumer", ["update_item"]),
    ("consumer", ["send_task_failure", "send_task_success"]),
    ("relay", ["send_message_batch"]),
    ("relay", ["start_execution"]),
    ("relay", ["put_events"]),
    ("relay", ["send_message_batch", "start_execution", "put_events", "get_item"]),
    ("completion", ["transact_write_items"]),
    ("everything", ["get_item", "update_item", "put_events", "start_execution", "send_message"]),
]


@pytest.mark.parametrize(("whose", "operations"), REVOKED, ids=str)
def test_fault_28_a_permission_revoked_and_restored_leaves_a_backlog_that_drains(
    cloud: Cloud, whose: str, operations: list[str]
) -> None:
    """For as long as a message is kept before it is called dead, and not a run fails by it."""
    cloud.failures = 1
    keys = [cloud.submit(), cloud.submit(runAfterMs=30_000)]
    cloud.away = dict.fromkeys(operations, "AccessDeniedException")
    try:
        cloud.pass_time(minutes=1)
    except RuntimeError:  # The relay could send nothing at all: its batch comes again.
        cloud.world.tick(60)
    assert all(cloud.run(key).result != "failed" for key in keys)
    cloud.away = {}
    cloud.rest()
    cloud.sweep_until_rest()
    for key in keys:
        cloud.ended(key, "success", retries=1)
        assert cloud.calls(key) == [0, 1]
    assert cloud.bodies(COMPLETION_LETTERS) == []
    cloud.at_rest()


@pytest.mark.parametrize("retries", [2])
def test_fault_28_an_outcome_that_may_not_be_written_costs_an_attempt_and_no_run(
    cloud: Cloud, retries: int
) -> None:
    """The table goes away while an action runs, for longer than the function has time."""
    cloud.during = [lambda: cloud.away.update(update_item="AccessDeniedException")]
    key = cloud.submit(maxRetries=retries)
    cloud.pass_time(minutes=10)
    assert cloud.run(key).kind == "running"
    cloud.away = {}
    cloud.rest()
    cloud.ended(key, "success", retries=1)
    assert cloud.calls(key) == [0, 1]
    cloud.at_rest()


def test_fault_28_the_relay_works_through_the_stream_that_waited(cloud: Cloud, world: Any) -> None:
    """Its mapping is disabled, or it may not read: records wait for a day."""
    cloud.down.add("relay")
    keys = [cloud.submit() for _ in range(3)]
    cloud.pass_time(minutes=23 * 60)
    assert {cloud.run(key).kind for key in keys} == {"enqueued"}
    cloud.down.clear()
    cloud.rest()
    for key in keys:
        cloud.ended(key, "success")
    assert relay.handler({"Records": []}, None) is None
    cloud.at_rest()
