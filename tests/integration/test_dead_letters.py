"""A dead letter is never a verdict: the run is looked at, and what would act goes back to act."""

import json
from typing import Any

import pytest

from handlers import dead_letters
from tests.support.invocations import answer_of
from workpool.core.message import Message

NOW = 1_790_000_000_000
KEY = "default#r1"
DUE = NOW - 1000


def handled(world, queue: str, body: str) -> bool:
    """Whether the letter is done with."""
    event = world.deliver(queue, body)
    return answer_of(dead_letters.handler, event, None) == {"batchItemFailures": []}


@pytest.mark.parametrize("token", [None, "T"])
@pytest.mark.parametrize(
    ("state", "done", "answer", "again"),
    [
        (None, True, ("unknown",), False),
        ({"kind": "completed", "result": "failed"}, True, ("completed",), False),
        ({"kind": "scheduled", "due": NOW}, True, ("retry", "2026-09-21T14:13:20Z"), False),
        ({"kind": "running", "due": NOW, "lease": 0}, True, ("running",), False),
        ({"kind": "running", "lease": NOW + 1}, False, None, False),
        ({"kind": "running", "lease": NOW}, True, None, True),
        ({"kind": "enqueued"}, True, None, True),
        ({"kind": "scheduled"}, True, None, True),
    ],
)
def test_a_letter_of_a_work_queue_is_judged_as_the_consumer_would(
    world,
    token: str | None,
    state: dict[str, Any] | None,
    done: bool,
    answer: tuple[str, ...] | None,
    again: bool,
) -> None:
    before = None if state is None else world.put(world.a_run(**({"due": DUE} | state)))
    body = Message(run=KEY, due=DUE, token=token, execution=token and "r1-1-1").body()
    assert handled(world, "default-dead-letters", body) is done
    assert world.answers() == ([("T", *answer)] if token and answer else [])
    assert [it["Body"] for it in world.messages("default-work")] == ([body] if again else [])
    assert world.item() == (before and before.to_item())
    assert world.comes_back_in() == ([] if done else [60])


def test_a_letter_goes_back_to_its_queue_in_the_group_of_its_runs_fairness_key(world) -> None:
    run = world.put(world.a_run(due=DUE, fairness_key="tenant-7"))
    handled(world, "default-dead-letters", Message(run=run.key, due=DUE).body())
    attributes = world.messages("default-work")[0]["Attributes"]
    assert attributes["MessageGroupId"] == "tenant-7"


def test_a_letter_that_cannot_be_read_is_parked_with_its_reason(world) -> None:
    assert handled(world, "default-dead-letters", "hello")
    parked = world.messages("default-parked")
    assert [it["Body"] for it in parked] == ["hello"]
    reason = parked[0]["MessageAttributes"]["reason"]["StringValue"]
    assert reason.startswith("not a message of a work queue")


def test_a_letter_of_a_run_of_a_newer_version_is_parked(world) -> None:
    world.put_item(world.a_run(due=DUE).to_item() | {"v": {"N": "2"}})
    body = Message(run=KEY, due=DUE).body()
    assert handled(world, "default-dead-letters", body)
    assert [it["Body"] for it in world.messages("default-parked")] == [body]


def test_a_letter_whose_answer_is_not_taken_stays(world) -> None:
    world.refuse("send_task_success", "ThrottlingException")
    body = Message(run=KEY, due=DUE, token="T", execution="r1-1-1").body()
    assert not handled(world, "default-dead-letters", body)


DETAIL = {"v": 1, "run": KEY, "kind": "completed"}


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"v": 1, "run": KEY}),
        json.dumps(DETAIL),
        json.dumps({"source": "workpool", "detail-type": "Run Ended", "detail": DETAIL}),
    ],
    ids=["relay", "completion", "rule"],
)
def test_a_letter_of_any_other_hop_has_its_run_looked_at(world, body: str) -> None:
    world.put(world.a_run(kind="completed", result="success", completion="pending"))
    assert handled(world, "completions", body)
    assert [it["run"] for it in world.announced()] == [KEY]


@pytest.mark.parametrize("body", ["hello", "{}", '{"detail": {}}', '{"detail": 7}'])
def test_a_letter_that_names_no_run_is_parked(world, body: str) -> None:
    assert handled(world, "completions", body)
    assert [it["Body"] for it in world.messages("parked")] == [body]
