"""Fault 46: items and messages that somebody else wrote, each field wrong in each way.

Whoever may use `transact_item` may write any item of the table. Each such item is set aside, with
its reason and once, and reads, stops, deletes and starts nothing of another run.
"""

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest

from handlers import consumer, relay, stats, sweeper
from tests.support.environment import POOL, STACK, START_MS
from tests.support.invocations import context_with, queue_event
from workpool.aws import open_runs, overrides, pools
from workpool.core.message import Message, parse
from workpool.core.run import Item, Payload, Run, attribute, open_partition
from workpool.errors import Internal, UnknownShape
from workpool.verbs import cancel, complete, listing, orphans, redrive, status, submit
from workpool.verbs import stats as statistics

TEXT, NUMBER, FLAG = {"S": "x"}, {"N": "1"}, {"BOOL": True}
OTHER_TYPES: list[Item] = [{"NULL": True}, {"M": {}}, {"L": []}, {"SS": ["x"]}, {"B": b"x"}]

FULL = Run(
    pool="default",
    run_id="bad",
    kind="completed",
    action="jobs.work",
    args=Payload(at="default/bad/w-args"),
    enqueued_at=START_MS,
    due=START_MS,
    retries=1,
    initial_backoff_ms=250.5,
    base=2,
    max_retries=3,
    on_complete="jobs.done",
    context=Payload(at="default/bad/w-context", size=9),
    annotation="a",
    fairness_key="k",
    trace="Root=1",
    request="d",
    creation="c",
    open=open_partition("default", "bad"),
    large="yes",
    execution="bad-1-0",
    claim="c1",
    lease=START_MS,
    cancel_requested=True,
    result="success",
    return_value=Payload(at="default/bad/c1-result", size=9),
    error="e",
    finished_at=START_MS,
    completion="pending",
    completion_claim="h",
    completion_lease=START_MS,
    completion_tries=1,
    completion_error="e",
    started_at=START_MS,
    attempts='[{"retries":0,"startedAt":1,"ms":1,"ended":"failed","error":"e"}]',
    hints=1,
    hinted_at=START_MS,
    expires_at=START_MS // 1000 + 86_400,
).to_item()

NUMBERS = {name for name, value in FULL.items() if "N" in value}
FRACTIONS = {"initialBackoffMs", "base"}
FLAGS = {"cancelRequested"}
STRINGS = set(FULL) - NUMBERS - FLAGS - {"run"}
LONGEST = {"S": "x" * 400_001}


def wrong_values(name: str) -> Iterator[Item]:
    """Values of every other type, and beyond every bound."""
    yield from OTHER_TYPES
    if name in NUMBERS:
        beyond = ["1E+125", "-1E+125", "1E+30", *(["-1"] if name != "completionTries" else [])]
        yield from (TEXT, FLAG, *({"N": text} for text in beyond))
        if name not in FRACTIONS:
            yield {"N": "1.5"}
    elif name in FLAGS:
        yield from (TEXT, NUMBER)
    else:
        yield from (NUMBER, FLAG, LONGEST)


WRONG = [
    *((name, value) for name in sorted(FULL) if name != "run" for value in wrong_values(name)),
    *(("kind", {"S": word}) for word in ("", "ended", "Running", "\x1b[2J")),
    ("result", {"S": "maybe"}),
    ("completion", {"S": "soon"}),
    ("large", {"S": "no"}),
    ("initialBackoffMs", {"N": "0"}),
    ("base", {"N": "0.5"}),
    ("retries", {"N": "1001"}),
    ("argsAt", {"S": "other/r1/w-args"}),
    ("argsAt", {"S": "default/good/w-args"}),
    ("argsAt", {"S": "default/bad/../good/w-args"}),
    ("contextAt", {"S": "default/bad/"}),
    ("returnValueAt", {"S": "default/bad"}),
    ("execution", {"S": "good-1790000000000-0"}),
    ("execution", {"S": "bad-good-1790000000000-0"}),
    ("execution", {"S": "bad-1"}),
    ("open", {"S": "other#3"}),
    ("open", {"S": "default#16"}),
    ("open", {"S": "default"}),
    ("fairnessKey", {"S": "two words"}),
    ("attempts", {"S": "{}"}),
    ("attempts", {"S": "[1]"}),
    ("attempts", {"S": '[{"retries":0,"startedAt":1,"ms":"x","ended":"failed"}]'}),
    ("attempts", {"S": "not JSON"}),
    ("attempts", {"S": "[" * 9000}),
]
TOGETHER: dict[str, Item] = {
    "no args": {"argsAt": {}},
    "args twice": {"args": {"S": "{}"}},
    "running without a claim": {"kind": {"S": "running"}, "completion": {}, "claim": {}},
    "running without a lease": {"kind": {"S": "running"}, "completion": {}, "lease": {}},
    "completion before the end": {"kind": {"S": "enqueued"}},
    "completion without a handler": {"onComplete": {}},
    "parked by nobody": {"completion": {"S": "parked"}, "completionClaim": {}},
    "no kind": {"kind": {}},
    "no due": {"due": {}},
    "no enqueuedAt": {"enqueuedAt": {}},
}


def changed(changes: Item) -> Item:
    return {name: value for name, value in (FULL | changes).items() if value != {}}


def test_fault_46_the_item_of_these_tests_is_readable_and_has_every_attribute() -> None:
    assert Run.from_item(FULL).to_item() == FULL
    payloads = {"argsAt", "contextAt", "returnValueAt", "contextBytes", "returnValueBytes"}
    without = {"pool", "runId", "args", "context", "returnValue"}
    assert set(FULL) == {attribute(it.name) for it in fields(Run)} - without | payloads | {"run"}


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda it: str(it)[:40])
def test_fault_46_a_field_of_a_wrong_type_or_out_of_bounds_makes_the_item_unreadable(
    name: str, value: Item
) -> None:
    with pytest.raises(UnknownShape) as unreadable:
        Run.from_item(FULL | {name: value})
    assert "xxx" not in str(unreadable.value), "reasons are logged: they hold no value"


@pytest.mark.parametrize("changes", TOGETHER.values(), ids=list(TOGETHER))
def test_fault_46_fields_that_do_not_fit_together_make_the_item_unreadable(changes: Item) -> None:
    with pytest.raises(UnknownShape):
        Run.from_item(changed(changes))


@pytest.mark.parametrize("key", ["", "bad", "#bad", "Default#bad", "default#a#b", "default#a/b"])
def test_fault_46_a_key_of_another_form_makes_the_item_unreadable(key: str) -> None:
    with pytest.raises(UnknownShape):
        Run.from_item(FULL | {"run": {"S": key}})


# What such an item does beside a good one

HARMS: dict[str, Item] = {
    "finishedAt as text": {"finishedAt": {"S": "soon"}},
    "finishedAt beyond numbers": {"finishedAt": {"N": "1E+125"}},
    "lease as text": {"lease": {"S": "soon"}},
    "hintedAt as text": {"hintedAt": {"S": "soon"}},
    "running without a claim": {"kind": {"S": "running"}, "completion": {}, "claim": {}},
    "attempts that are none": {"attempts": {"S": "{}"}},
    "another run's object": {"argsAt": {"S": "default/good/w-args"}},
    "a newer version": {"v": {"N": "2"}},
}


@pytest.fixture(params=list(HARMS))
def bad(request: pytest.FixtureRequest, world: Any) -> Item:
    """An item that cannot be read, open and older than the good one."""
    item = changed(HARMS[request.param] | {"expiresAt": {}})
    world.put_item(item)
    return item


@pytest.fixture
def good(world: Any) -> Run:
    run: Run = world.put(world.a_run(run_id="good", open=open_partition("default", "good")))
    return run


def record(world: Any, old: Item | None, new: Item | None) -> dict[str, Any]:
    event: dict[str, Any] = world.change(None, world.a_run(run_id="bad"))
    images = event["Records"][0]["dynamodb"]
    images.pop("NewImage", None)
    images |= {
        name: image for name, image in (("OldImage", old), ("NewImage", new)) if image is not None
    }
    return event


def set_aside(world: Any) -> list[str]:
    return [shape["run"] for shape in world.bodies("parked")]


def test_fault_46_the_relay_sets_it_aside_once_and_relays_the_others(
    world: Any, bad: Item, good: Run, logged: Any
) -> None:
    before = Run(**{**_scheduled(), "run_id": "bad"}).to_item()
    event = record(world, None, before)
    event["Records"] += record(world, before, bad)["Records"]
    event["Records"] += world.change(None, good)["Records"]
    for _ in range(3):  # replayed
        relay.handler(event, None)
    assert set_aside(world) == ["default#bad"]
    assert "default#good" in [it["run"] for it in world.bodies("default-work")]
    assert {line["key"] for line in logged("item-unreadable")} == {"default#bad"}
    assert world.item("default#bad") == bad


def _scheduled() -> dict[str, Any]:
    return {
        "pool": "default",
        "run_id": "r1",
        "kind": "scheduled",
        "action": "jobs.work",
        "args": Payload("{}"),
        "enqueued_at": START_MS,
        "due": START_MS + 1000,
    }


def test_fault_46_the_sweeper_sets_it_aside_once_and_sweeps_the_others(
    world: Any, bad: Item, good: Run
) -> None:
    for _ in range(3):
        world.tick(1000)
        sweeper.handler({}, context_with(600_000))
    assert set_aside(world) == ["default#bad"]
    assert "default#good" in [it["run"] for it in world.bodies("default-work")]
    assert world.item("default#bad") == bad
    world.tick(14 * 24 * 3600)
    sweeper.handler({}, context_with(600_000))
    assert set_aside(world) == ["default#bad"] * 2, "told again when the queue has forgotten it"


def test_fault_46_cancel_all_passes_it_by_and_cancels_the_others(
    world: Any, bad: Item, good: Run
) -> None:
    world.tick(1)
    overrides.update("default", cancel_before=world.now_ms)
    world.tick(61)
    assert cancel.carry_out_cancel_all(pools.pool("default"), in_time=lambda: True) is not None
    assert world.run("default#good").kind == "canceled"
    assert world.item("default#bad") == bad
    assert overrides.read("default").cancel_before is None, "no walk can ever cancel it"


def test_fault_46_statistics_lists_and_many_statuses_are_those_of_the_others(
    world: Any, bad: Item, good: Run
) -> None:
    stats.handler(None, None)
    assert statistics.stats("default")["oldestPending"] == 0
    listed = listing.list_runs("default", kind=None, limit=None, cursor=None)
    assert [shape["runId"] for shape in listed["runs"]] == ["good"]
    one, other = status.status_many("default", ["bad", "good"])
    assert (one["kind"], one["error"]["code"]) == ("unknown", "Internal")
    assert "cannot be read" in one["error"]["message"]
    assert other["kind"] == "enqueued"
    with pytest.raises(Internal, match="cannot be read"):
        status.status("default", "bad")
    assert redrive.redrive("default", ["bad", "good"]) == 0


def test_fault_46_its_objects_and_those_of_others_stay(world: Any, bad: Item) -> None:
    name = world.put_object("default/good/w-args", "{}")
    own = world.put_object("default/bad/w-args", "{}")
    world.put(world.a_run(run_id="good", args=Payload(at=name), large="yes"))
    relay.handler(record(world, bad, None), None)
    world.tick(3 * 24 * 3600)
    orphans.collect(in_time=lambda: True, older_than_seconds=0)
    assert {name, own} <= set(world.objects())


def test_fault_46_a_repaired_item_goes_on(world: Any, bad: Item) -> None:
    now = world.put(world.a_run(run_id="bad"))
    relay.handler(record(world, bad, now.to_item()), None)
    assert [it["run"] for it in world.bodies("relay-retry")] == ["default#bad"]


def test_fault_46_what_cannot_be_set_aside_now_is_looked_at_later(world: Any, bad: Item) -> None:
    world.refuse("send_message", "AccessDenied")
    relay.handler(record(world, None, bad), None)
    assert [it["run"] for it in world.bodies("relay-retry")] == ["default#bad"]


def test_fault_46_an_unexpected_error_of_one_item_is_its_own_trouble(
    world: Any, good: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put(world.a_run(run_id="odd", open=open_partition("default", "odd")))
    read = Run.from_item

    def from_item(item: Item) -> Run:
        if item["run"]["S"] == "default#odd":
            raise ZeroDivisionError("secret")
        return read(item)

    monkeypatch.setattr(Run, "from_item", from_item)
    event = world.change(None, world.a_run(run_id="odd"))
    event["Records"] += world.change(None, good)["Records"]
    relay.handler(event, None)
    sweeper.handler({}, context_with(600_000))
    assert set_aside(world) == ["default#odd"]
    assert "default#good" in [it["run"] for it in world.bodies("default-work")]
    assert "secret" not in json.dumps(world.messages("parked"))


def test_fault_46_an_unexpected_error_of_one_cancel_leaves_cancel_all_to_be_repeated(
    world: Any, good: Run
) -> None:
    world.put(world.a_run(run_id="a", open=open_partition("default", "a")))
    world.tick(1)
    overrides.update("default", cancel_before=world.now_ms)
    world.tick(61)
    world.refuse("update_item", "AccessDeniedException")
    cancel.carry_out_cancel_all(pools.pool("default"), in_time=lambda: True)
    assert overrides.read("default").cancel_before is not None
    cancel.carry_out_cancel_all(pools.pool("default"), in_time=lambda: True)
    assert {world.run(f"default#{it}").kind for it in ("a", "good")} == {"canceled"}
    assert overrides.read("default").cancel_before is None


def test_fault_46_the_statistics_of_one_pool_do_not_hide_those_of_others(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[str] = []

    def publish(pool: str) -> None:
        if pool == "default":
            raise ValueError
        published.append(pool)

    monkeypatch.setattr(stats, "publish", publish)
    with pytest.raises(RuntimeError, match="default"):
        stats.handler(None, None)
    assert published == ["other"]


# Another pool's


def test_fault_46_items_in_another_pools_partition_are_not_in_its_lists(
    world: Any, good: Run
) -> None:
    for number in range(120):
        forged = changed(
            {
                "run": {"S": f"other#f{number}"},
                "open": {"S": good.open},
                "enqueuedAt": {"N": str(number)},
            }
        )
        world.put_item(forged)
    world.put_item(changed({"run": {"S": "default#a/b"}, "enqueuedAt": {"N": "1"}}))
    world.put_item(changed({"run": {"S": "default#half"}, "enqueuedAt": {"N": "1.5"}}))
    assert open_runs.list_open_keys("default", limit=5) == [(good.enqueued_at, "good")]
    assert statistics.read_oldest_pending_ms("default", world.now_ms) == 0


@pytest.mark.parametrize("execution", [None, "r1-1790000000000-1"])
def test_fault_46_a_message_on_another_pools_queue_runs_nothing(
    world: Any, execution: str | None
) -> None:
    calls: list[str] = []
    world.action(lambda ctx, args: calls.append(ctx.run_id))
    run = world.put(world.a_run(pool="other"))
    token = execution and "T"
    body = Message(run=run.key, due=run.due, token=token, execution=execution).body()
    event = queue_event(f"{STACK}-default-work", [("m1", "receipt", body)])
    assert consumer.handler(event, context_with(70_000)) == {"batchItemFailures": []}
    assert calls == []
    assert world.run(run.key) == run
    assert [it["run"] for it in world.bodies("default-parked")] == [run.key]
    with pytest.raises(UnknownShape, match="pool 'other'"):
        parse(body, pool="default")


def test_fault_46_a_message_with_another_runs_execution_is_set_aside() -> None:
    body = Message(run="default#r1", due=1, token="T", execution="r2-1-0").body()
    with pytest.raises(UnknownShape, match="execution"):
        parse(body, pool="default")


# Values that are not JSON


@pytest.mark.parametrize("text", ["{", "", "NaN", "[1e999]", "[" * 100_000])
def test_fault_46_a_value_that_is_not_json_is_the_trouble_of_its_run_alone(
    world: Any, good: Run, text: str
) -> None:
    calls: list[Any] = []
    world.action(lambda ctx, args: calls.append(args))
    ended = world.a_run(run_id="ended", kind="completed", result="success", finished_at=START_MS)
    world.put(replace(ended, return_value=Payload(text)))
    one, other = status.status_many("default", ["ended", "good"])
    assert one["error"]["code"] == "Internal"
    assert other["kind"] == "enqueued"
    run = world.put(world.a_run(args=Payload(text)))
    event = queue_event(
        f"{STACK}-default-work",
        [("m1", "receipt", Message(run=run.key, due=run.due).body())],
    )
    consumer.handler(event, context_with(70_000))
    after = world.run(run.key)
    assert (after.result, calls) == ("failed", [])
    assert "is not JSON" in after.error


def test_fault_46_a_context_that_is_not_json_parks_its_completion(world: Any) -> None:
    world.put(
        world.a_run(
            kind="completed",
            result="success",
            finished_at=START_MS,
            completion="pending",
            context=Payload("{"),
        )
    )
    assert complete.complete("default#r1", remaining_ms=lambda: 60_000) is None
    assert world.run("default#r1").completion == "parked"


def test_fault_46_what_the_library_itself_writes_is_always_readable(world: Any) -> None:
    """The longest of everything that a request may hold."""
    widest = "\U0001f600"
    world.action(lambda ctx, args: None)
    answer = submit.submit(
        {
            "action": "jobs.work",
            "args": {"x": "y" * 1500},
            "options": {
                "initialBackoffMs": 1e300,
                "base": 1e300,
                "maxRetries": 1000,
                "annotation": widest * 1000,
                "fairnessKey": "~" * 128,
                "idempotencyKey": "!" * 128,
                "context": [widest],
            },
        }
    )
    assert world.run(f"default#{answer['runId']}").annotation == widest * 1000
    assert POOL["maxRetries"] <= 1000
