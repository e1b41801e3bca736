"""Faults 26 and 8: every shape that outlives a release, as version 1 wrote it, kept as a sample.

Messages wait up to 14 days, executions a year, items for as long as they are retained: whatever
code is deployed meanwhile has to read them. A sample is never changed; a new version adds its own.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handlers import relay
from tests.faults.cloud import Cloud
from tests.support.mappings import COMPLETIONS, PARKED, RETRY, WORK
from tests.support.services import Execution
from workpool.aws import bus, queues, retrier
from workpool.core.clock import from_timestamp
from workpool.core.message import Message, parse
from workpool.core.run import Item, Run, attribute
from workpool.errors import UnknownShape

SAMPLES = Path(__file__).parent / "samples"
ITEMS = sorted(path.stem for path in SAMPLES.glob("item-*.json"))
KEY = "default#0f3c5d7e9a1b4c6d8e0f1a2b3c4d5e6f"
NEWER = {"v": {"N": "2"}}


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_text())


def text(shape: Any) -> str:
    """JSON with nothing left to choice."""
    return json.dumps(shape, sort_keys=True, separators=(",", ":"))


def one(queue: Iterator[str] | list[str]) -> str:
    (body,) = queue
    return body


# 26: read


@pytest.mark.parametrize("name", ITEMS)
def test_fault_26_an_item_of_version_1_is_read_and_written_as_it_was(name: str) -> None:
    item = sample(name)
    run = Run.from_item(item)
    assert text(run.to_item()) == text(item)
    assert run.v == 1


def test_fault_26_the_items_show_every_state_and_every_field() -> None:
    items = [sample(name) for name in ITEMS]
    assert {it["kind"]["S"] for it in items} == {
        "enqueued",
        "scheduled",
        "running",
        "completed",
        "canceled",
    }
    assert {it["completion"]["S"] for it in items if "completion" in it} == {
        "pending",
        "parked",
        "done",
    }
    payloads = {"argsAt", "contextAt", "returnValueAt", "returnValueBytes"}
    fields = {attribute(name) for name in Run.__dataclass_fields__}
    named = fields - {"pool", "runId"} | {"run"} | payloads
    assert set().union(*items) == named


@pytest.mark.parametrize("name", ["relay-message", "retrier-message"])
def test_fault_26_a_message_of_version_1_is_read_and_written_as_it_was(name: str) -> None:
    shape = sample(name)
    message = parse(json.dumps(shape), pool="default")
    assert (message.run, message.token) == (shape["run"], shape.get("token"))
    assert text(json.loads(message.body())) == text(shape)


def test_fault_26_the_retrier_is_started_with_the_input_of_version_1(cloud: Cloud) -> None:
    retrier.start(Run.from_item(sample("item-scheduled-retry")))
    (execution,) = cloud.steps.executions.values()
    assert text(json.loads(execution.input)) == text(sample("retrier-input"))


def test_fault_26_the_retrier_sends_the_message_of_version_1_for_that_input(cloud: Cloud) -> None:
    expected = sample("retrier-message")
    data = sample("retrier-input")
    waiting = Execution(expected["execution"], json.dumps(data), data, "Backoff", 0)
    cloud.steps.attempt(waiting)
    sent = json.loads(one(cloud.bodies(WORK)))
    assert text(sent | {"token": expected["token"]}) == text(expected)


def test_fault_26_the_relay_writes_the_hints_of_version_1_for_its_record(cloud: Cloud) -> None:
    ended = Run.from_item(sample("item-completed-success"))
    assert text(bus.detail(ended)) == text(sample("ended-event"))
    queues.relay_later([KEY])
    assert text(json.loads(one(cloud.bodies(RETRY)))) == text(sample("relay-retry-message"))
    relay.handler({"Records": [sample("stream-record")]}, None)
    assert text(json.loads(one(cloud.bodies(COMPLETIONS)))) == text(sample("ended-event"))


# 26: what was in flight when the next version was deployed


@pytest.fixture
def named(cloud: Cloud, world: Any) -> Cloud:
    """The samples' action and handler are deployed."""
    for package, decorator, name in (
        ("actions", "action", "charge"),
        ("completions", "completion", "settled"),
    ):
        head = f"import workpool\n\n@workpool.{decorator}\n"
        world.code(package, "payments", f"{head}def {name}(*_): return None\n")
        world.code(package, "hello", f"{head}def greet(*_): return None\n")
    return cloud


OPEN = [
    ("item-enqueued-least", "relay-message", "success"),
    ("item-enqueued", "relay-message", "success"),
    ("item-scheduled-retry", "retrier-message", "success"),
    ("item-scheduled-retry", "retrier-input", "success"),
    ("item-scheduled-start", "", "success"),
    ("item-running", "retrier-message", "canceled"),
    ("item-completed-success", "ended-event", "success"),
    ("item-enqueued-large", "relay-message", "success"),
    ("item-completed-large", "ended-event", "success"),
]


def stored(cloud: Cloud, item: Item) -> Run:
    run = Run.from_item(item | {"v": {"N": "1"}})
    cloud.world.now_ms = max(run.due, run.finished_at or 0)
    cloud._seen[run.key] = item
    cloud._dynamodb.put_item(TableName="runs", Item=item)
    for name in run.objects:
        cloud.world.put_object(name, "{}")
    return run


@pytest.mark.parametrize(("item", "hint", "result"), OPEN)
def test_fault_26_a_run_in_flight_with_its_hint_goes_on_to_its_end(
    named: Cloud, item: str, hint: str, result: str
) -> None:
    run = stored(named, sample(item))
    if hint == "retrier-input":
        data = sample(hint)
        name = f"{run.run_id}-{run.enqueued_at}-9"
        named.steps.executions[name] = Execution(name, json.dumps(data), data, "Backoff", 0)
    elif hint == "ended-event":
        named.queues.put(COMPLETIONS, json.dumps(sample(hint)))
    elif hint:
        named.queues.put(WORK, json.dumps(sample(hint)))
    named.rest()
    if not hint:
        named.sweep_until_rest()
    after = named.run(run.key)
    assert (after.result, after.open) == (result, None)
    assert after.completion == ("done" if run.on_complete else None)
    named.at_rest()


def test_fault_26_what_a_later_release_adds_to_an_item_is_kept_by_this_one(named: Cloud) -> None:
    added = {"later": {"L": [{"M": {"at": {"N": "1"}}}]}, "trace": {"S": "Root=1"}}
    run = stored(named, sample("item-enqueued") | added)
    named.queues.put(WORK, json.dumps(sample("relay-message") | {"trace": "Root=1"}))
    named.rest()
    item = named.world.item(run.key)
    assert item["result"] == {"S": "success"}
    assert {name: item[name] for name in added} == added


# 8, 26: rolled back, with a newer version's in flight


@pytest.mark.parametrize("name", ["relay-message", "retrier-message"])
@pytest.mark.parametrize("change", [{"v": 2}, {"v": 2, "run": {"pool": "default"}}], ids=str)
def test_fault_08_a_newer_message_is_parked_and_its_run_goes_on_by_a_fresh_hint(
    named: Cloud, name: str, change: dict[str, Any]
) -> None:
    with pytest.raises(UnknownShape):
        parse(json.dumps(sample(name) | change), pool="default")
    item = sample("item-enqueued" if name == "relay-message" else "item-scheduled-retry")
    run = stored(named, item)
    body = json.dumps(sample(name) | change)
    named.queues.put(WORK, body)
    named.rest()
    assert named.bodies(PARKED) == [body]
    assert text(named.world.item(run.key)) == text(item)
    named.sweep_until_rest(hours=3)
    assert named.run(run.key).result == "success"


@pytest.mark.parametrize("name", ITEMS)
def test_fault_08_a_newer_item_is_left_as_it_is_and_its_hints_are_kept(
    named: Cloud, logged: Any, name: str
) -> None:
    """Its message, its event and its place in the stream are parked; nothing has failed. Then the
    newer code is deployed again, here: the item turns readable."""
    item = sample(name) | NEWER
    run = stored(named, item)
    message = Message(run=run.key, due=run.due).body()
    named.queues.put(WORK, message)
    named.queues.put(COMPLETIONS, json.dumps(sample("ended-event")))
    named.stream.append((None, item))
    named.pass_time(minutes=20)
    named.sweep()
    assert text(named.world.item(run.key)) == text(item)
    assert named.bodies(PARKED) == [message]
    parked = [json.loads(it) for it in named.bodies("Test-parked")]
    assert sorted(parked, key=len) == [sample("relay-retry-message"), sample("ended-event")]

    back = replace(run, hints=0, hinted_at=None)
    named._dynamodb.put_item(TableName="runs", Item=back.to_item())
    named._seen[run.key] = back.to_item()
    named.sweep_until_rest()
    after = named.run(run.key)
    assert after.ended
    assert after.result != "failed" or run.result == "failed"
    assert (after.open is None) == (after.completion != "parked")


@pytest.mark.parametrize(
    ("queue", "name"), [(COMPLETIONS, "ended-event"), (RETRY, "relay-retry-message")]
)
def test_fault_08_a_newer_event_or_relay_message_is_still_a_hint_or_is_kept(
    named: Cloud, queue: str, name: str
) -> None:
    """All that these say is which run to look at. One that still says it so is a hint; one that
    does not is parked."""
    stored(named, sample("item-completed-success"))
    other = {"v": 2, "which": [KEY]}
    named.queues.put(queue, json.dumps(sample(name) | {"v": 2}))
    named.queues.put(queue, json.dumps(other))
    named.rest()
    assert named.run(KEY).completion == "done"
    assert [json.loads(it) for it in named.bodies("Test-parked")] == [other]


def test_fault_26_a_due_on_the_wire_is_a_time_of_version_1() -> None:
    assert from_timestamp(sample("relay-message")["due"]) == 1_790_000_000_123
    assert from_timestamp(sample("retrier-input")["retry"]["Cause"]) == 1_790_000_060_000
