"""Faults 18 to 20, 22 and 29 to 32: what callers do, and answers that are lost."""

import json
from base64 import b64encode
from dataclasses import fields
from typing import Any
from urllib.parse import quote

import pytest

from handlers import api
from handlers import submit as submit_handler
from tests.faults.cloud import Cloud
from tests.support.invocations import http_event
from tests.support.mappings import WORK
from workpool.aws.payloads import RESULT_BYTES
from workpool.core.message import Message
from workpool.core.request import MAX_ITEM_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES, MAX_RESULT_BYTES
from workpool.core.run import MAX_ERROR, Payload, Run
from workpool.errors import (
    IdempotencyConflict,
    PayloadTooLarge,
    UnknownAction,
    UnknownCompletion,
    UnknownPool,
)
from workpool.verbs.attempt import attempt
from workpool.verbs.cancel import cancel
from workpool.verbs.status import status
from workpool.verbs.submit import submit

REQUEST: dict[str, Any] = {"action": "jobs.work", "options": {"onComplete": "jobs.done"}}


def ask(key: str) -> dict[str, Any]:
    return cancel(*key.split("#"))


# 18


@pytest.mark.parametrize("cancel_first", [True, False], ids=["cancel first", "cancel second"])
@pytest.mark.parametrize(
    ("race", "failures", "results"),
    [
        ("claim", 0, ("canceled", "success")),
        ("claim", 9, ("canceled", "canceled")),
        ("success", 0, ("success", "success")),
        ("failure", 9, ("canceled", "failed")),
    ],
)
def test_fault_18_a_cancel_that_races_has_one_ended_state_and_one_completion_of_its_kind(
    cloud: Cloud, world: Any, race: str, failures: int, results: tuple[str, str], cancel_first: bool
) -> None:
    """The cancel stands between the other's read and write, or the other way about."""
    cloud.failures = failures
    key = cloud.submit(maxRetries=0)
    cloud.relay()
    message = Message(run=key, due=cloud.run(key).due)

    def other() -> None:
        attempt(message, remaining_ms=lambda: 70_000)

    if race == "claim":
        if cancel_first:
            world.meanwhile("update_item", lambda: ask(key))
            other()
        else:
            cloud.during = [lambda: None]
            world.meanwhile("update_item", other)
            ask(key)
            results = (results[0], "success" if failures == 0 else "failed")
    else:
        world.pass_by("update_item")
        if cancel_first:
            world.meanwhile("update_item", lambda: ask(key))
            other()
        else:
            other()
            ask(key)
    cloud.rest()
    assert status(*key.split("#"))["result"]["type"] == results[0 if cancel_first else 1]
    cloud.ended(key, results[0 if cancel_first else 1])
    assert len(cloud.results(key)) == 1
    cloud.at_rest()


@pytest.mark.parametrize("when", ["before", "after"])
def test_fault_18_a_cancel_around_the_hand_over_to_the_retrier(
    cloud: Cloud, world: Any, when: str
) -> None:
    """The failed first attempt is being rescheduled, or its execution already waits."""
    cloud.failures = 1
    key = cloud.submit()
    if when == "before":
        world.pass_by("update_item")
        world.meanwhile("update_item", lambda: ask(key))
    cloud.step()
    cloud.step()
    if when == "after":
        cloud.relay()
        assert len(cloud.steps.open()) == 1
        ask(key)
    cloud.rest()
    cloud.ended(key, "canceled", retries=0 if when == "before" else 1)
    assert cloud.calls(key) == [0]
    assert [it.state for it in cloud.steps.executions.values() if it.state != "ABORTED"] == []
    cloud.at_rest()


# 19


@pytest.mark.parametrize("result", ["success", "failed", "canceled"])
def test_fault_19_a_cancel_of_an_ended_run_answers_its_status_and_changes_nothing(
    cloud: Cloud, world: Any, result: str
) -> None:
    cloud.failures = 9 if result == "failed" else 0
    key = cloud.submit(maxRetries=0)
    if result == "canceled":
        ask(key)
    cloud.rest()
    before = world.items()
    for _ in range(2):
        assert ask(key) == status(*key.split("#"))
    cloud.rest()
    assert world.items() == before
    cloud.ended(key, result)
    cloud.at_rest()


@pytest.mark.parametrize(
    ("pool", "run_id"),
    [
        ("default", "nobody"),
        ("other", "of another pool"),
        ("default", "../x"),
        ("default", ""),
        ("default", "x" * 500),
        ("default", "a#b"),
    ],
)
def test_fault_19_a_cancel_of_an_unknown_or_foreign_id_answers_unknown(
    cloud: Cloud, world: Any, pool: str, run_id: str
) -> None:
    key = cloud.submit()
    if run_id == "of another pool":
        run_id = key.partition("#")[2]
    before = world.items()
    assert cancel(pool, run_id) == {"runId": run_id, "kind": "unknown"}
    assert world.items() == before


@pytest.mark.parametrize("pool", ["DEFAULT", "nowhere"])
def test_fault_19_a_cancel_in_an_unknown_pool_is_refused_and_changes_nothing(
    cloud: Cloud, world: Any, pool: str
) -> None:
    cloud.submit()
    before = world.items()
    with pytest.raises(UnknownPool):
        cancel(pool, "x")
    assert world.items() == before


# 20


def test_fault_20_a_submit_repeated_after_a_time_out_is_the_same_run(cloud: Cloud) -> None:
    """While it is enqueued, runs, and has ended."""
    keyed = REQUEST | {"options": REQUEST["options"] | {"idempotencyKey": "order-7"}}
    answers: list[Any] = []
    key = cloud.submit(idempotencyKey="order-7")
    answers.append(submit(keyed))
    cloud.during = [lambda: answers.append(submit(keyed))]
    cloud.rest()
    answers.append(submit(keyed))
    assert answers == [{"runId": key.partition("#")[2], "existing": True}] * 3
    cloud.rest()
    cloud.ended(key, "success")
    assert cloud.calls(key) == [0]
    cloud.at_rest()


@pytest.mark.parametrize(
    "other",
    [{"args": {"n": 1}}, {"action": "other.work"}, {"options": {"maxRetries": 3}}],
    ids=str,
)
def test_fault_20_the_same_key_with_another_request_is_a_conflict(
    cloud: Cloud, world: Any, other: dict[str, Any]
) -> None:
    world.code("actions", "other", "import workpool\n\n@workpool.action\ndef work(*_): ...\n")
    options = REQUEST["options"] | {"idempotencyKey": "order-7"}
    submit(REQUEST | {"options": options})
    before = world.items()
    request = REQUEST | other | {"options": options | other.get("options", {})}
    with pytest.raises(IdempotencyConflict, match="order-7"):
        submit(request)
    assert world.items() == before


# 22


@pytest.mark.parametrize("field", ["args", "context"])
def test_fault_22_what_is_too_large_is_refused_at_submit_with_size_and_limit(
    cloud: Cloud, world: Any, field: str
) -> None:
    value = {"x": "ü" * (MAX_PAYLOAD_BYTES // 2)}
    request = {"action": "jobs.work"}
    request |= {"args": value} if field == "args" else {"options": {"context": value}}
    with pytest.raises(PayloadTooLarge, match="1000000 bytes of JSON, got 1000008"):
        submit(request)
    assert (world.items(), world.objects()) == ([], {})


def test_fault_22_a_result_that_is_too_large_fails_the_run_at_once(
    cloud: Cloud, world: Any
) -> None:
    calls: list[int] = []
    world.action(lambda ctx, args: calls.append(ctx.retries) or "x" * MAX_RESULT_BYTES)
    key = cloud.submit()
    cloud.rest()
    error = cloud.ended(key, "failed").error
    assert error == "the return value must be at most 16000000 bytes of JSON, got 16000002"
    assert (calls, world.objects()) == ([0], {})
    cloud.at_rest()


LARGE = {"x": "x" * 3000}


def test_fault_22_a_refused_submit_that_wrote_objects_changes_nothing_that_others_read(
    cloud: Cloud, world: Any
) -> None:
    """Two submits of one key race: each wrote its arguments, one run is stored."""
    won: list[str] = []

    def race(**more: Any) -> dict[str, Any]:
        options = {"onComplete": "jobs.done", "idempotencyKey": "k1", "context": LARGE}
        return submit({"action": "jobs.work", "args": LARGE | more, "options": options})

    world.meanwhile("put_item", lambda: won.append(f"default#{race()['runId']}"))
    with pytest.raises(IdempotencyConflict):
        race(another=True)
    (key,) = won
    named = cloud.run(key).objects
    assert len(named) == 2 < len(world.objects())
    assert {world.objects()[name] for name in named} == {'{"x":"' + "x" * 3000 + '"}'}
    cloud.rest()
    cloud.ended(key, "success")
    cloud.at_rest()


def test_fault_22_a_lost_attempt_that_wrote_its_result_changes_nothing_that_others_read(
    cloud: Cloud, world: Any
) -> None:
    """It dies between the object and the item; the next one ends the run with its own."""
    world.action(lambda ctx, args: str(ctx.retries) * 5000)
    key = cloud.submit()
    cloud.relay()
    world.die_after("put_object")
    cloud.deliver(WORK)
    (orphan,) = world.objects()
    assert cloud.run(key).objects == []
    cloud.rest()
    run = cloud.ended(key, "success", retries=1)
    assert world.objects()[str(run.return_value.at)] == '"' + "1" * 5000 + '"'
    assert orphan in set(world.objects()) - set(run.objects)
    cloud.at_rest()


@pytest.mark.parametrize("code", ["AccessDenied", "SlowDown"])
def test_fault_22_while_s3_denies_or_is_slow_no_run_fails_and_all_drain(
    cloud: Cloud, world: Any, code: str
) -> None:
    key = cloud.submit(context=LARGE, maxRetries=0)
    other = f"default#{submit({'action': 'jobs.work', 'args': LARGE})['runId']}"
    cloud.away["get_object"] = code
    cloud.pass_time(minutes=60)
    assert (cloud.run(key).completion, cloud.handled) == ("pending", [])
    assert (cloud.run(other).kind, cloud.calls(other)) == ("enqueued", [])
    cloud.away.clear()
    cloud.rest()
    cloud.ended(key, "success")
    assert cloud.run(other).result == "success"
    cloud.at_rest()


def test_fault_22_a_missing_object_is_a_clear_failure_and_not_retried(
    cloud: Cloud, world: Any
) -> None:
    key = f"default#{submit({'action': 'jobs.work', 'args': LARGE})['runId']}"
    done = cloud.submit(context=LARGE)
    for name in world.objects():
        world.client("s3").delete_object(Bucket="payloads", Key=name)
    cloud.rest()
    assert (cloud.run(key).result, cloud.calls(key)) == ("failed", [])
    assert "the arguments are lost: the bucket" in str(cloud.run(key).error)
    run = cloud.run(done)
    assert (run.result, run.completion, cloud.handled) == ("success", "parked", [])
    assert "the handler's context or return value is lost: the bucket" in str(run.completion_error)


def test_fault_22_objects_go_when_the_run_is_forgotten_and_never_before(
    cloud: Cloud, world: Any
) -> None:
    world.action(lambda ctx, args: "x" * 5000)
    options = {"onComplete": "jobs.done", "context": LARGE}
    request = {"action": "jobs.work", "args": LARGE, "options": options}
    key = f"default#{submit(request)['runId']}"
    cloud.rest()
    run = cloud.ended(key, "success")
    assert len(run.objects) == 3 == len(world.objects())
    cloud.forget(key)
    cloud.rest()
    assert world.objects() == {}


def test_fault_22_the_largest_run_of_all_still_fits_into_its_item(world: Any) -> None:
    """Every field at its bound, in the longest characters: as a caller's transaction stores it."""
    widest = "\N{PILE OF POO}"
    payload = "x" * MAX_ITEM_PAYLOAD_BYTES
    name = "p" * 32 + "/" + "r" * 32 + "/" + "0" * 32 + "-"
    largest = world.a_run(
        pool="p" * 32,
        run_id="r" * 32,
        kind="completed",
        action="a" * 256,
        args=Payload(payload, at=name + "args"),
        retries=1000,
        initial_backoff_ms=25.123456789012345,
        base=2.7182818284590451,
        max_retries=1000,
        on_complete="c" * 256,
        context=Payload(payload, at=name + "context"),
        annotation=widest * 1000,
        fairness_key="f" * 128,
        trace="t" * 256,
        request="0" * 64,
        creation="0" * 32,
        open="p" * 32 + "#15",
        execution="e" * 80,
        claim="0" * 32,
        lease=1_790_000_000_000,
        started_at=1_790_000_000_000,
        attempts="\x01" * 7000,
        cancel_requested=True,
        result="success",
        return_value=Payload("x" * RESULT_BYTES, at=name + "result", size=16_000_000),
        large="yes",
        error=None,  # A run has either a value or an error.
        finished_at=1_790_000_000_000,
        completion="parked",
        completion_claim="0" * 32,
        completion_lease=1_790_000_000_000,
        completion_tries=8,
        completion_error=widest * MAX_ERROR,
        hints=99,
        hinted_at=1_790_000_000_000,
        expires_at=1_790_000_000,
    )
    item = largest.to_item()
    # Pool and run id are the key, and there is no error; four attributes more are of payloads.
    assert len(item) == len(fields(Run)) - 2 + 4
    size = sum(
        len(name) + len(str(next(iter(value.values()))).encode()) for name, value in item.items()
    )
    assert 270_000 < size < 400 * 1024


# 29

BAD: list[Any] = [
    None,
    [],
    "jobs.work",
    {},
    {"action": 7},
    {"action": "jobs.work", "args": []},
    {"action": "jobs.work", "args": {"x": float("nan")}},
    {"action": "jobs.work", "args": {"x": "\ud800"}},
    {"action": "jobs.work", "args": json.loads('{"x":' * 201 + "1" + "}" * 201)},
    {"action": "jobs.work", "options": {"context": json.loads("[" * 201 + "]" * 201)}},
    {"action": "jobs.work", "options": {"base": 10**400, "maxRetries": 10**400}},
    {"action": "jobs.work", "options": {"runAt": 1e308}},
    {"action": "jobs.work", "options": {"runAfterMs": float("inf")}},
    {"action": "jobs.work", "options": {"maxRetries": True}},
    {"action": "jobs.work", "options": {"context": float("-inf")}},
    {"action": "jobs.work", "options": {"idempotencyKey": "a b"}},
    {"action": "jobs.work", "options": {"fairnessKey": "ü"}},
    {"action": "jobs.work", "pool": "../other"},
    {"action": "../jobs.work"},
    {"action": "jobs/../../handlers.submit"},
    {"action": "os.system"},
    {"action": "jobs.work\n"},
    {"action": "jobs.__class__"},
    {"action": "jobs.work", "options": {"onComplete": "../completions.jobs.done"}},
]


def test_fault_29_bad_input_is_a_clear_4xx_over_each_door_and_stores_nothing(
    cloud: Cloud, world: Any, logged: Any
) -> None:
    for request in BAD:
        with pytest.raises(Exception, match=r"^(InvalidRequest|Unknown\w+): ") as refused:
            submit_handler.handler(request, None)
        assert 20 < len(str(refused.value)) < 400
        pool = request.get("pool", "default") if isinstance(request, dict) else "default"
        if isinstance(request, dict):
            request = {name: value for name, value in request.items() if name != "pool"}
        code, shape = posted(quote(pool, safe=""), json.dumps(request))
        assert code in (400, 404)
        if "/" not in pool:  # Then no route has this path.
            assert shape["error"]["code"] == str(refused.value).partition(":")[0]
    assert logged("request-failed") == []
    assert world.items() == []


DEEP = b'{"action": "jobs.work", "args": {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"


BODIES = [b"", b"{", b"\xff\xfe\x00", DEEP, b'{"action": NaN}', b"1" * 5000, b'"' + b"x" * 9]


def test_fault_29_a_body_that_is_no_json_is_a_400(cloud: Cloud, world: Any) -> None:
    for body in BODIES:
        code, shape = posted("default", b64encode(body).decode(), base64=True)
        assert (code, shape["error"]["code"]) == (400, "InvalidRequest")
    assert world.items() == []


def posted(pool: str, body: str, *, base64: bool = False) -> tuple[int, Any]:
    event = http_event("POST", f"/pools/{pool}/runs", body, is_base64=base64)
    answer = api.handler(event, None)
    return answer["statusCode"], json.loads(answer["body"])


# 30


UNGRANTED = ["more.helper", "more.imported", "more.alias", "lambda:any", "os.system", "more.work\n"]


def test_fault_30_no_action_outside_the_decorated_ones_can_be_run(cloud: Cloud, world: Any) -> None:
    """Neither over a door, nor by an item that a caller put into the table by itself."""
    world.code(
        "actions",
        "jobs",
        "import workpool\nfrom os import system as imported\n\n"
        "def helper(ctx, args): raise SystemExit('it ran')\n\n"
        "@workpool.action\ndef work(ctx, args): ...\n\nalias = helper\n",
    )
    for number, name in enumerate(UNGRANTED):
        with pytest.raises(UnknownAction):
            submit({"action": name})
        with pytest.raises(UnknownCompletion):
            submit({"action": "jobs.work", "options": {"onComplete": name}})
        run = cloud.put(run_id=f"r{number}", action=name, max_retries=0)
        cloud.queues.put(WORK, Message(run=run.key, due=run.due).body())
        cloud.rest()
        error = str(cloud.ended(run.key, "failed").error)
        assert error.startswith((f"no action {name!r}", "pool 'default' has no lambda action"))


# 31

LOST_ANSWERS = [
    # which operation, and how many calls of it pass before the one whose answer is lost
    *(("update_item", nth) for nth in range(8)),
    *((operation, 0) for operation in ("put_item", "transact_write_items")),
    *(("send_message_batch", nth) for nth in range(2)),
    *((operation, 0) for operation in ("start_execution", "send_task_failure")),
    *((operation, 0) for operation in ("send_task_success", "put_events")),
]


@pytest.mark.parametrize(("operation", "nth"), LOST_ANSWERS)
def test_fault_31_a_write_whose_answer_is_lost_and_that_is_repeated_counts_once(
    cloud: Cloud, world: Any, logged: Any, operation: str, nth: int
) -> None:
    """Nobody is called lost, no timer is missing, whichever of a run's calls it is."""
    cloud.failures = 2
    world.pass_by(operation, times=nth)
    world.lose_answer(operation)
    key = cloud.submit(idempotencyKey="k1")
    cloud.rest()
    cloud.ended(key, "success", retries=2)
    assert cloud.calls(key) == [0, 1, 2]
    assert cloud.results(key) == ["success"]
    assert [line["error"] for line in logged("job-retry")] == ["boom", "boom"]
    cloud.at_rest()


@pytest.mark.parametrize("kind", ["scheduled", "running"])
def test_fault_31_a_cancel_whose_answer_is_lost_counts_once(
    cloud: Cloud, world: Any, kind: str
) -> None:
    def asked() -> None:
        world.lose_answer("update_item")
        assert ask(key)["kind"] == ("running" if kind == "running" else "canceled")

    cloud.failures = 9
    cloud.during = [asked] if kind == "running" else []
    key = cloud.submit(**({} if kind == "running" else {"runAfterMs": 60_000}))
    cloud.relay()
    if kind == "scheduled":
        asked()
    cloud.rest()
    cloud.ended(key, "canceled")
    assert cloud.results(key) == ["canceled"]
    cloud.at_rest()


# 32


@pytest.mark.parametrize("deleted", [True, False], ids=["deleted by then", "not yet deleted"])
@pytest.mark.parametrize("options", [{}, {"runAfterMs": 30_000}], ids=str)
def test_fault_32_a_key_used_again_after_its_run_was_forgotten_is_a_new_run(
    cloud: Cloud, world: Any, options: dict[str, Any], deleted: bool
) -> None:
    """Its timers work, and messages of the forgotten one do nothing to it."""
    cloud.failures = 1
    key = cloud.submit(idempotencyKey="o1", **options)
    cloud.relay()
    old = Message(run=key, due=cloud.run(key).due)
    cloud.rest()
    first = cloud.ended(key, "success", retries=1)
    world.tick(25 * 3600)
    assert status(*key.split("#"))["kind"] == "unknown"
    if deleted:
        cloud._dynamodb.delete_item(TableName="runs", Key={"run": {"S": key}})
        cloud.stream.append((cloud._seen.pop(key), None))
    assert cloud.submit(idempotencyKey="o1", **options) == key
    cloud.queues.put(WORK, old.body())
    cloud.rest()
    second = cloud.run(key)
    assert (second.result, second.retries, second.completion) == ("success", 1, "done")
    assert second.enqueued_at > first.enqueued_at
    assert cloud.calls(key) == [0, 1, 0, 1]
    assert (cloud.results(key), cloud.effects(key)) == (["success"] * 2, 2)
    assert len(set(cloud.steps.executions)) == 2
    cloud.at_rest()
