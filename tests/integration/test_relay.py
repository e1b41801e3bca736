"""The relay and its retry queue: what goes out for a batch of the stream, and what AWS refuses."""

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from handlers import relay, relay_retry
from tests.support.invocations import answer_of, bodies_handed_back
from workpool.aws import clients
from workpool.core.run import Run

NOW = 1_790_000_000_000
LATER = NOW + 60_000
SHOWN_LATER = "2026-09-21T14:14:20Z"


def relayed(event: dict[str, Any]) -> None:
    assert relay.handler(event, None) is None


def started_input(run_id: str, group: str | None = None) -> dict[str, Any]:
    return {
        "v": 1,
        "run": f"default#{run_id}",
        "group": group or run_id,
        "retry": {"Cause": SHOWN_LATER},
    }


def test_a_new_run_becomes_a_message_of_its_due(world) -> None:
    relayed(world.change(None, world.a_run()))
    assert world.bodies("default-work") == [
        {"v": 1, "run": "default#r1", "due": "2026-09-21T14:13:20Z"}
    ]
    assert world.executions() == {}


def test_a_message_goes_to_its_own_pools_queue_in_the_group_of_its_fairness_key(world) -> None:
    mine = world.a_run(run_id="r1", fairness_key="tenant-7")
    other = world.a_run(run_id="r2", pool="other")
    relayed({"Records": [world.change(None, it)["Records"][0] for it in (mine, other)]})
    groups = {
        queue: [it["Attributes"].get("MessageGroupId") for it in world.messages(f"{queue}-work")]
        for queue in ("default", "other")
    }
    assert groups == {"default": ["tenant-7"], "other": [None]}


@pytest.mark.parametrize(("fairness_key", "group"), [(None, "r1"), ("tenant-7", "tenant-7")])
def test_a_run_of_later_becomes_an_execution_that_waits_for_its_due(
    world, fairness_key: str | None, group: str
) -> None:
    run = world.a_run(kind="scheduled", due=LATER, fairness_key=fairness_key)
    relayed(world.change(None, run))
    assert world.executions() == {f"r1-{NOW}-0": started_input("r1", group)}
    assert world.messages("default-work") == []


def test_a_failed_first_attempt_becomes_an_execution(world) -> None:
    running = world.a_run(kind="running", claim="c1", lease=LATER)
    relayed(
        world.change(running, replace(running, kind="scheduled", retries=1, due=LATER, lease=None))
    )
    assert world.executions() == {f"r1-{NOW}-1": started_input("r1")}


def test_a_retry_that_its_execution_waits_for_becomes_nothing(world) -> None:
    running = world.a_run(kind="running", claim="c1", lease=LATER)
    relayed(
        world.change(running, replace(running, kind="scheduled", execution="r1-1-1", due=LATER))
    )
    assert world.executions() == {}


def test_a_run_that_ended_becomes_one_event(world) -> None:
    running = world.a_run(kind="running", claim="c1", on_complete="jobs.done")
    ended = replace(running, kind="completed", result="failed", error="boom", return_value="1")
    relayed(world.change(running, ended, replace(ended, completion="done")))
    assert world.announced() == [
        {
            "v": 1,
            "run": "default#r1",
            "pool": "default",
            "runId": "r1",
            "action": "jobs.work",
            "kind": "completed",
            "result": "failed",
            "onComplete": "jobs.done",
        }
    ]


def test_an_event_of_a_run_without_a_completion_names_none(world) -> None:
    relayed(world.change(world.a_run(), world.a_run(kind="canceled", result="canceled")))
    assert [(it["kind"], it["result"], "onComplete" in it) for it in world.announced()] == [
        ("canceled", "canceled", False)
    ]


def test_a_run_canceled_while_it_waited_has_its_execution_stopped(world) -> None:
    waiting = world.a_run(kind="scheduled", due=LATER)
    relayed(world.change(None, waiting))
    relayed(world.change(waiting, replace(waiting, kind="canceled", result="canceled")))
    stepfunctions = world.client("stepfunctions")
    arn = f"arn:aws:states:us-east-1:123456789012:execution:Test-default-retrier:r1-{NOW}-0"
    assert stepfunctions.describe_execution(executionArn=arn)["status"] == "ABORTED"
    assert len(world.announced()) == 1


def test_an_execution_that_never_was_needs_no_stop(world, logged) -> None:
    waiting = world.a_run(kind="scheduled", due=LATER)
    relayed(world.change(waiting, replace(waiting, kind="canceled", result="canceled")))
    assert world.made("stop_execution") == 1
    assert world.messages("relay-retry") == []
    assert logged("relay-refused") == []


def test_a_stop_that_aws_refuses_is_only_a_saving_lost(world) -> None:
    waiting = world.a_run(kind="scheduled", due=LATER)
    world.refuse("stop_execution", "ThrottlingException")
    relayed(world.change(waiting, replace(waiting, kind="canceled", result="canceled")))
    assert world.messages("relay-retry") == []


def test_a_forgotten_run_becomes_nothing(world) -> None:
    ended = world.a_run(kind="completed", result="success", expires_at=1)
    relayed(world.change(ended, None))
    assert (world.messages("default-work"), world.executions(), world.announced()) == ([], {}, [])


@pytest.mark.parametrize("kind", ["enqueued", "scheduled"])
def test_an_expired_run_overwritten_by_a_new_one_is_a_creation(world, kind: str) -> None:
    old = world.a_run(kind="completed", result="success", expires_at=1)
    relayed(world.change(old, world.a_run(kind=kind, enqueued_at=LATER - 5, due=LATER)))
    assert len(world.messages("default-work")) == (kind == "enqueued")
    assert list(world.executions()) == ([f"r1-{LATER - 5}-0"] if kind == "scheduled" else [])


def test_starting_an_execution_twice_is_harmless(world) -> None:
    event = world.change(None, world.a_run(kind="scheduled", due=LATER))
    world.pass_by("start_execution")
    world.refuse("start_execution", "ExecutionAlreadyExists")
    relayed(event)
    relayed(event)
    assert world.made("start_execution") == 2
    assert world.messages("relay-retry") == []


def runs_of(world, kind: str, count: int) -> list[Run]:
    return [world.a_run(run_id=f"r{n}", kind=kind, due=LATER) for n in range(count)]


def creations(world, runs: list[Run]) -> dict[str, Any]:
    return {"Records": [world.change(None, run)["Records"][0] for run in runs]}


def test_messages_and_events_go_ten_to_a_request(world) -> None:
    relayed(creations(world, runs_of(world, "enqueued", 23)))
    assert world.made("send_message_batch") == 3
    sizes = [len(given["Entries"]) for name, given in world.calls if name == "send_message_batch"]
    assert sizes == [10, 10, 3]
    records = [
        world.change(run, replace(run, kind="canceled", result="canceled"))["Records"][0]
        for run in runs_of(world, "enqueued", 11)
    ]
    relayed({"Records": records})
    sizes = [len(given["Entries"]) for name, given in world.calls if name == "put_events"]
    assert sizes == [10, 1]


def retried(world) -> list[str]:
    return sorted(body["run"] for body in world.bodies("relay-retry"))


def test_an_execution_that_is_throttled_goes_to_the_retry_queue_and_the_rest_goes_on(
    world,
) -> None:
    late, soon = runs_of(world, "scheduled", 3), world.a_run(run_id="s1")
    world.refuse("start_execution", "ThrottlingException")
    relayed(creations(world, [*late, soon]))
    assert len(retried(world)) == 1
    assert len(world.executions()) == 2
    assert len(world.messages("default-work")) == 1


def test_messages_that_sqs_refuses_one_by_one_go_to_the_retry_queue(world) -> None:
    def second_failed(call: Any, parameters: dict[str, Any]) -> Any:
        failed = parameters["Entries"][1]
        sent = call(
            **parameters | {"Entries": [it for it in parameters["Entries"] if it != failed]}
        )
        reason = {"Id": failed["Id"], "Code": "InternalError", "SenderFault": False}
        return sent | {"Failed": [reason]}

    world.on("send_message_batch", second_failed)
    relayed(creations(world, runs_of(world, "enqueued", 3)))
    assert retried(world) == ["default#r1"]
    assert sorted(it["run"] for it in world.bodies("default-work")) == ["default#r0", "default#r2"]


def test_a_request_that_sqs_refuses_sends_its_ten_to_the_retry_queue(world) -> None:
    world.pass_by("send_message_batch")
    world.refuse("send_message_batch", "OverLimit")
    relayed(creations(world, runs_of(world, "enqueued", 12)))
    assert retried(world) == ["default#r10", "default#r11"]
    assert world.bodies("relay-retry")[0].keys() == {"v", "run"}


def test_an_event_that_the_bus_refuses_goes_to_the_retry_queue(world) -> None:
    old = runs_of(world, "running", 12)
    records = [
        world.change(run, replace(run, kind="completed", result="success"))["Records"][0]
        for run in old
    ]

    def first_failed(call: Any, parameters: dict[str, Any]) -> Any:
        good = [{"EventId": "1"} for _ in parameters["Entries"][1:]]
        return {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException"}, *good]}

    world.on("put_events", first_failed)
    world.refuse("put_events", "InternalException")
    relayed({"Records": records})
    assert retried(world) == ["default#r0", "default#r10", "default#r11"]


def test_a_queue_that_never_answers_is_asked_once_and_delays_no_event(world) -> None:
    """The clock moves on by the longest call, while the other calls begin."""

    def hangs(call: Any, parameters: dict[str, Any]) -> Any:
        time.sleep(0.5)
        world.tick(clients.LONGEST_CALL_SECONDS)
        raise ReadTimeoutError(endpoint_url="sqs")

    ended, waiting = world.a_run(run_id="e"), world.a_run(run_id="w", kind="scheduled", due=LATER)
    event = creations(world, runs_of(world, "enqueued", 25))
    for run in (ended, waiting):
        canceled = replace(run, kind="canceled", result="canceled")
        event["Records"] += world.change(run, canceled)["Records"]
    world.on("send_message_batch", hangs)
    relayed(event)
    assert sorted(it["runId"] for it in world.announced()) == ["e", "w"]
    sent = [given for name, given in world.calls if name == "send_message_batch"]
    assert [it["QueueUrl"].rpartition("-")[2] for it in sent] == ["work", *["retry"] * 3]
    assert sum(len(it["Entries"]) for it in sent[1:]) == 25
    assert world.made("stop_execution") == 0  # It only saves money, and the time is gone.


def test_one_pools_missing_queue_holds_up_no_other_pool(world) -> None:
    ghost = world.a_run(run_id="r1", pool="ghost")
    later = world.a_run(run_id="r2", pool="ghost", kind="scheduled", due=LATER)
    relayed(creations(world, [ghost, later, world.a_run(run_id="r3")]))
    assert retried(world) == ["ghost#r1", "ghost#r2"]
    assert [it["run"] for it in world.bodies("default-work")] == ["default#r3"]


def test_a_batch_of_which_nothing_could_be_sent_is_raised(world) -> None:
    world.refuse("send_message_batch", "OverLimit", times=2)
    with pytest.raises(RuntimeError, match="took only 0 of 1 keys"):
        relay.handler(world.change(None, world.a_run()), None)


def test_items_of_a_newer_version_are_set_aside_and_the_rest_goes_on(world) -> None:
    records = creations(world, [world.a_run(run_id="r1"), world.a_run(run_id="r2")])
    records["Records"][0]["dynamodb"]["NewImage"]["v"] = {"N": "2"}
    relayed(records)
    assert [it["run"] for it in world.bodies("parked")] == ["default#r1"]
    assert retried(world) == []
    assert [it["run"] for it in world.bodies("default-work")] == ["default#r2"]


def test_an_item_of_a_newer_version_that_overwrote_an_expired_one_waits_too(world) -> None:
    records = world.change(world.a_run(kind="completed"), world.a_run(enqueued_at=NOW + 1))
    records["Records"][0]["dynamodb"]["OldImage"]["v"] = {"N": "2"}
    relayed(records)
    assert retried(world) == ["default#r1"]


@pytest.mark.parametrize(
    "item",
    [
        {"run": {"S": "default#r1"}},
        {"run": {"S": "default#r1"}, "v": {"N": "1"}, "kind": {"S": "enqueued"}},
        {"run": {"S": "r1"}, "v": {"N": "1"}},
    ],
    ids=["no version", "no due", "no pool"],
)
def test_an_item_that_no_version_wrote_does_not_hold_up_its_batch(
    world, item: dict[str, Any]
) -> None:
    records = creations(world, [world.a_run(run_id="r1"), world.a_run(run_id="r2")])
    records["Records"][0]["dynamodb"]["NewImage"] = item
    relayed(records)
    assert [it["run"] for it in world.bodies("default-work")] == ["default#r2"]


def test_an_item_whose_due_is_no_number_does_not_hold_up_its_batch(world) -> None:
    records = creations(world, [world.a_run(run_id="r1"), world.a_run(run_id="r2")])
    records["Records"][0]["dynamodb"]["NewImage"]["due"] = {"S": "soon"}
    relayed(records)
    assert [it["run"] for it in world.bodies("default-work")] == ["default#r2"]


def test_the_relay_writes_one_line_about_its_batch(world, logged) -> None:
    late, ended = runs_of(world, "scheduled", 2), world.a_run(kind="completed", result="success")
    world.refuse("start_execution", "ThrottlingException")
    event = creations(world, [*late, world.a_run()])
    event["Records"] += world.change(world.a_run(kind="running"), ended)["Records"]
    relayed(event)
    lines = logged("relayed")
    assert [
        {name: lines[0][name] for name in ("delivered", "started", "stopped", "announced", "later")}
    ] == [{"delivered": 1, "started": 2, "stopped": 0, "announced": 1, "later": 1}]


# The relay's retry queue


def looked_at(world, *bodies: str) -> list[str]:
    """The bodies that went back."""
    event = world.deliver("relay-retry", *bodies)
    return bodies_handed_back(event, answer_of(relay_retry.handler, event, None))


def test_a_run_in_the_retry_queue_gets_its_hint(world) -> None:
    for run_id, state in {
        "r1": {"kind": "enqueued"},
        "r2": {"kind": "scheduled", "due": LATER},
        "r3": {"kind": "completed", "result": "success", "completion": "pending"},
        "r4": {"kind": "completed", "result": "success"},
        "r5": {"kind": "running", "lease": NOW + 1},
    }.items():
        world.put(world.a_run(run_id=run_id, **state))
    bodies = [json.dumps({"v": 1, "run": f"default#r{n}"}) for n in (1, 2, 3, 4, 5, 6)]
    assert looked_at(world, *bodies) == []
    assert [it["run"] for it in world.bodies("default-work")] == ["default#r1"]
    assert list(world.executions()) == [f"r2-{NOW}-0"]
    assert [it["run"] for it in world.announced()] == ["default#r3"]


def test_a_hint_that_is_refused_again_goes_back_alone(world) -> None:
    world.put(world.a_run(run_id="r1"))
    world.put(world.a_run(run_id="r2"))
    world.refuse("send_message_batch", "OverLimit")
    first, second = (json.dumps({"v": 1, "run": f"default#r{n}"}) for n in (1, 2))
    [back] = looked_at(world, first, second)
    [sent] = [it["run"] for it in world.bodies("default-work")]
    assert {json.loads(back)["run"], sent} == {"default#r1", "default#r2"}


def test_the_key_of_a_run_of_a_newer_version_is_parked(world) -> None:
    world.put_item(world.a_run().to_item() | {"v": {"N": "2"}})
    body = json.dumps({"v": 1, "run": "default#r1"})
    assert looked_at(world, body) == []
    assert [it["Body"] for it in world.messages("parked")] == [body]


@pytest.mark.parametrize(
    "body", ["hello", "[]", "7", "null", '"run"', "{}", '{"run": 7}', '{"run": "r1"}']
)
def test_what_names_no_run_is_parked(world, body: str) -> None:
    assert looked_at(world, body) == []
    assert [it["Body"] for it in world.messages("parked")] == [body]
