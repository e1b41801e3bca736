"""Payloads that are too large for an item: where they lie, who reads them, when they go."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import workpool
from handlers import relay as relay_handler
from handlers import sweeper as sweeper_handler
from tests.support.http_server import QuietHandler, serve
from workpool import IdempotentWorkpool
from workpool.aws import payloads, store
from workpool.aws.clients import client
from workpool.core import clock
from workpool.core.message import Message
from workpool.core.retry import Finish
from workpool.core.run import Payload, Run
from workpool.verbs import orphans
from workpool.verbs.attempt import attempt
from workpool.verbs.cancel import cancel
from workpool.verbs.complete import MAX_TRIES, complete
from workpool.verbs.listing import list_runs
from workpool.verbs.status import status, status_many
from workpool.verbs.submit import submit

NOW = 1_790_000_000_000
DAY_MS = 24 * 3600 * 1000
S3 = {"put_object", "get_object", "delete_objects", "list_objects_v2", "generate_presigned_url"}
LARGE = {"a": "x" * 3000}
TEXT = json.dumps(LARGE, separators=(",", ":"))


def asked(**more: Any) -> dict[str, Any]:
    return {"action": "jobs.work", **more}


def submitted(world: Any, **more: Any) -> Run:
    key = f"default#{submit(asked(**more))['runId']}"
    run: Run = world.run(key)
    return run


def attempted(world: Any, run: Run) -> Run:
    assert attempt(Message(run=run.key, due=run.due), remaining_ms=lambda: 70_000) is None
    after: Run = world.run(run.key)
    return after


def completed(run: Run) -> float | None:
    return complete(run.key, remaining_ms=lambda: 60_000)


@pytest.fixture(autouse=True)
def deployed(world) -> None:
    world.action(lambda ctx, args: "done")
    world.handler(lambda ctx, context, result: None)


# Where they lie


@pytest.mark.promise(
    "Large payloads", "A healthy run with payloads of a kilobyte makes no request to S3"
)
def test_a_healthy_run_of_a_kilobyte_makes_no_request_to_s3(world) -> None:
    kilobyte = {"a": "x" * 1000}
    world.action(lambda ctx, args: args)
    run = submitted(world, args=kilobyte, options={"onComplete": "jobs.done", "context": kilobyte})
    ended = attempted(world, run)
    assert completed(ended) is None
    assert status("default", run.run_id, include=["args", "context"])["args"] == kilobyte
    assert status_many("default", [run.run_id])[0]["result"]["returnValue"] == kilobyte
    relay_handler.handler(world.change(None, run, ended, world.run(run.key), None), None)
    assert S3.isdisjoint(operation for operation, _ in world.calls)
    assert "s3" not in world.used


@pytest.mark.promise(
    "Large payloads", "Arguments and context above 2048 bytes are stored as objects"
)
@pytest.mark.parametrize(("length", "where"), [(2048, "item"), (2049, "object")])
@pytest.mark.parametrize("field", ["args", "context"])
def test_arguments_and_context_lie_in_the_item_up_to_2048_bytes(
    world, field: str, length: int, where: str
) -> None:
    value = {"a": "ü" + "x" * (length - 10)}
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert len(text.encode()) == length
    given = {"args": value} if field == "args" else {"options": {"context": value}}
    run = submitted(world, **given)
    payload = getattr(run, field)
    held, name = payload.text, payload.at
    if where == "item":
        assert (held, name, run.large, world.objects()) == (text, None, None, {})
    else:
        assert (held, run.large, world.objects()) == (None, "yes", {name: text})
        assert re.fullmatch(rf"default/{run.run_id}/[0-9a-f]{{32}}-{field}", name)


@pytest.mark.promise("Large payloads", "A return value above 4096 bytes is stored as an object")
@pytest.mark.parametrize(("length", "where"), [(4096, "item"), (4097, "object")])
def test_a_return_value_lies_in_the_item_up_to_4096_bytes(world, length: int, where: str) -> None:
    value = "ü" + "x" * (length - 4)
    world.action(lambda ctx, args: value)
    run = attempted(world, submitted(world))
    text = f'"{value}"'
    assert (run.result, len(text.encode())) == ("success", length)
    if where == "item":
        assert (run.return_value.text, run.return_value.at, run.large) == (text, None, None)
        assert world.objects() == {}
    else:
        name = f"default/{run.run_id}/{run.claim}-result"
        assert (run.return_value.text, run.return_value.at, run.large) == (None, name, "yes")
        assert (run.return_value.size, world.objects()) == (length, {name: text})


@pytest.mark.promise(
    "Large payloads", "The largest return value, 16,000,000 bytes, is stored as an object"
)
def test_the_largest_value_of_all_is_an_object(world) -> None:
    world.action(lambda ctx, args: "x" * 15_999_998)
    run = attempted(world, submitted(world))
    assert (run.result, run.return_value.size) == ("success", 16_000_000)
    (text,) = world.objects().values()
    assert len(text) == 16_000_000


@pytest.mark.promise(
    "Large payloads", "The action and the handler get the values that objects hold"
)
def test_action_and_handler_are_told_what_objects_hold(world) -> None:
    seen: list[Any] = []
    world.action(lambda ctx, args: seen.append(args) or {"r": args})
    world.handler(lambda ctx, context, result: seen.append((context, result)))
    options = {"onComplete": "jobs.done", "context": [LARGE, LARGE]}
    run = attempted(world, submitted(world, args=LARGE | {"b": "x" * 2000}, options=options))
    assert completed(run) is None
    value = {"r": LARGE | {"b": "x" * 2000}}
    assert seen == [
        LARGE | {"b": "x" * 2000},
        ([LARGE, LARGE], {"type": "success", "returnValue": value}),
    ]


@pytest.mark.promise("Large payloads", "The handler of a run without success gets no return value")
def test_a_run_without_success_has_no_return_value_for_its_handler(world) -> None:
    seen: list[Any] = []
    world.handler(lambda ctx, context, result: seen.append((context, result)))
    run = submitted(world, args=LARGE, options={"onComplete": "jobs.done", "context": LARGE})
    cancel("default", run.run_id)
    assert completed(run) is None
    assert seen == [(LARGE, {"type": "canceled"})]


@pytest.mark.promise(
    "Large payloads", "A status includes large arguments and contexts if the caller asks for them"
)
def test_what_is_large_is_included_where_it_is_asked_for(world) -> None:
    run = submitted(world, args=LARGE, options={"context": [LARGE]})
    shown = status("default", run.run_id, include=["args", "context", "attempts"])
    assert (shown["args"], shown["context"], shown["attempts"]) == (LARGE, [LARGE], [])
    world.refuse("get_object", "AccessDenied")
    with pytest.raises(workpool.Internal, match=rf"run {run.run_id}: default/.*-args: .*Denied"):
        status("default", run.run_id, include=["args"])


# Statuses


def ended(world: Any, run_id: str, text: str, **more: Any) -> Run:
    """A run that succeeded with a value that is an object."""
    name = world.put_object(f"default/{run_id}/c1-result", text)
    fields = {
        "run_id": run_id,
        "kind": "completed",
        "result": "success",
        "return_value": Payload(at=name, size=len(text.encode())),
        "large": "yes",
        "finished_at": NOW,
        "open": None,
    }
    run: Run = world.put(world.a_run(**(fields | more)))
    return run


@pytest.mark.promise(
    "Large payloads", "A return value above 32 KB is shown as a URL that is valid for 15 minutes"
)
@pytest.mark.parametrize("read", ["status", "status_many"])
def test_a_return_value_above_32_kb_is_shown_as_a_url_of_15_minutes(
    world, monkeypatch, read: str
) -> None:
    def shown(run_id: str) -> Any:
        if read == "status":
            return status("default", run_id)["result"]
        return status_many("default", [run_id])[0]["result"]

    monkeypatch.setattr(world, "client", client)  # As it is deployed, but for where it leads.
    ended(world, "r1", '"' + "x" * 32_766 + '"')
    ended(world, "r2", '"' + "x" * 32_767 + '"')
    assert shown("r1") == {"type": "success", "returnValue": "x" * 32_766}
    result = shown("r2")
    assert list(result) == ["type", "returnValueUrl"]
    split = urlsplit(result["returnValueUrl"])
    query = parse_qs(split.query)
    assert split.path.endswith("default/r2/c1-result")
    assert (query["X-Amz-Expires"], query["X-Amz-Algorithm"]) == (["900"], ["AWS4-HMAC-SHA256"])


@pytest.mark.promise(
    "Large payloads", "A status is answered even if its return value cannot be read"
)
@pytest.mark.parametrize("code", ["NoSuchKey", "AccessDenied", "SlowDown"])
def test_a_value_that_cannot_be_read_keeps_no_status_back(world, logged: Any, code: str) -> None:
    ended(world, "r1", TEXT)
    world.refuse("get_object", code)
    assert "returnValueUrl" in status("default", "r1")["result"]
    assert [it["runId"] for it in logged("return-value-unread")] == ["r1"]


@pytest.mark.promise("Large payloads", "Many statuses fit into one answer of a Lambda function")
def test_many_statuses_and_lists_stay_within_what_lambda_answers(world) -> None:
    """A hundred values of 32 KB that take twice as much in an answer."""
    text = json.dumps('"' * 16_383)
    parked = {"completion": "parked", "on_complete": "jobs.done"}
    ids = [f"r{number:03}" for number in range(100)]
    for number, run_id in enumerate(ids):
        partition = f"default#parked#{number % 16}"
        ended(world, run_id, text, open=partition, enqueued_at=NOW + number, **parked)
    listed = list_runs("default", kind="parked", limit=None, cursor=None)["runs"]
    for shapes in (status_many("default", ids), listed):
        assert [it["runId"] for it in shapes] == ids
        body = json.dumps({"statuses": shapes}, ensure_ascii=False)
        assert len(json.dumps({"body": body}, ensure_ascii=False).encode()) < 6 * 1024 * 1024
        values = ["returnValue" in it["result"] for it in shapes]
        assert 70 < sum(values) < 100
        assert values == sorted(values, reverse=True)


# The client


@pytest.fixture
def bucket(world, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serves the objects where their URLs lead; the paths that were asked for."""
    asked_for: list[str] = []

    class Bucket(QuietHandler):
        def do_GET(self) -> None:
            asked_for.append(self.path)
            held = world.objects().get(self.path.lstrip("/"))
            self.send_response(404 if held is None else 200)
            self.end_headers()
            self.wfile.write((held or "<Error/>").encode())

    monkeypatch.setattr(clock, "sleep", lambda seconds: None)
    with serve(Bucket) as url:
        monkeypatch.setattr(payloads, "url", lambda name: f"{url}/{name}")
        yield asked_for


@pytest.mark.promise("Large payloads", "The client follows the URL of a large return value")
def test_the_client_follows_the_url_of_a_large_value(world, bucket: list[str]) -> None:
    value = "ü" * 40_000
    ended(world, "r1", json.dumps(value, ensure_ascii=False))
    pool = IdempotentWorkpool("default")
    for shown in (pool.status("r1"), pool.status_batch(["r1"])[0], pool.cancel("r1")):
        assert shown.result == {"type": "success", "returnValue": value}
    assert bucket == ["/default/r1/c1-result"] * 3


@pytest.mark.promise("Large payloads", "The client does not follow the URL if the caller says so")
def test_the_client_leaves_a_large_value_where_it_is_when_asked_to(
    world, bucket: list[str]
) -> None:
    parked = {"completion": "parked", "on_complete": "jobs.done", "open": "default#parked#1"}
    ended(world, "r1", json.dumps("x" * 40_000), **parked)
    pool = IdempotentWorkpool("default")
    for shown in (*pool.status_batch(["r1"], fetch=False), *pool.runs("parked", fetch=False)):
        assert shown.result is not None
        assert list(shown.result) == ["type", "returnValueUrl"]
    assert bucket == []
    (shown,) = pool.runs("parked")
    assert shown.result == {"type": "success", "returnValue": "x" * 40_000}


@pytest.mark.promise(
    "Large payloads", "If the URL of a return value leads nowhere, the client raises `Internal`"
)
def test_a_url_that_leads_nowhere_is_an_error_of_the_pool(world, bucket: list[str]) -> None:
    run = ended(world, "r1", json.dumps("x" * 40_000))
    world.client("s3").delete_object(Bucket="payloads", Key=run.return_value.at)
    with pytest.raises(workpool.Internal, match="HTTP 404 for the return value at http://127"):
        IdempotentWorkpool("default").status("r1")
    assert len(bucket) == 4  # tried again, as every call


@pytest.mark.promise(
    "Large payloads",
    "`transact_item` keeps arguments and context in the item, up to 125,000 bytes each",
)
@pytest.mark.parametrize("field", ["args", "context"])
def test_a_transaction_holds_what_its_item_can_hold(world, field: str) -> None:
    pool = IdempotentWorkpool("default")

    def entry(length: int) -> tuple[str, Any]:
        value = {"a": "x" * (length - 8)}
        if field == "args":
            return pool.transact_item("jobs.work", value)
        return pool.transact_item("jobs.work", context=value)

    run_id, put = entry(125_000)
    world.client("dynamodb").transact_write_items(TransactItems=[put])
    assert world.run(f"default#{run_id}").large is None
    with pytest.raises(workpool.PayloadTooLarge, match="125000 bytes of JSON in a transaction"):
        entry(125_001)
    assert world.objects() == {}


@pytest.mark.promise("Large payloads", "An entry of a batch that is no request is refused alone")
def test_a_run_of_a_batch_that_is_no_request_is_refused_alone(world) -> None:
    bad: list[Any] = [{"action": "jobs.work", "options": None}, None, {"options": {}}, 7]
    good = {"action": "jobs.work"}
    found = IdempotentWorkpool("default").run_batch([good, *bad, good])
    assert [isinstance(it, workpool.InvalidRequest) for it in found] == [False, *[True] * 4, False]
    assert "options must be an object, got null" in str(found[1])
    assert len(world.items()) == 2


@pytest.mark.promise("Large payloads", "The client splits a batch so that Lambda accepts each part")
def test_a_batch_is_split_by_what_lambda_takes_of_it() -> None:
    """Quotes count twice, in the string in which a body is handed on; other letters once."""
    from workpool.client import _batches

    for text in ('"' * 499_000, "ü" * 499_000):
        bodies = [asked(args={"a": text})] * 20
        batches = list(_batches(bodies))
        assert sum(map(len, batches)) == 20
        for batch in batches:
            body = json.dumps({"runs": batch}, ensure_ascii=False, separators=(",", ":"))
            assert len(json.dumps(body, ensure_ascii=False).encode()) < 6_000_000
        assert len(batches) <= 10


# What loses a race changes nothing that others read


@pytest.mark.promise("Large payloads", "A submit with a known idempotency key writes no object")
def test_a_key_that_was_seen_writes_no_object_whatever_the_request(world) -> None:
    options = {"idempotencyKey": "k1"}
    run = submitted(world, args=LARGE, options=options)
    again = submit(asked(args=LARGE, options=options))
    assert again == {"runId": run.run_id, "existing": True}
    with pytest.raises(workpool.IdempotencyConflict):
        submit(asked(args=LARGE | {"b": 1}, options=options))
    assert world.made("put_object") == 1
    assert world.objects() == {run.args.at: TEXT}


@pytest.mark.promise(
    "Large payloads",
    "A submit or an attempt that loses a race after it wrote an "
    "object changes nothing that others read",
)
@pytest.mark.parametrize("same", [True, False], ids=["the same request", "another"])
def test_a_submit_that_loses_its_key_after_it_wrote_changes_nothing_that_others_read(
    world, same: bool
) -> None:
    options = {"idempotencyKey": "k1"}
    other = LARGE if same else LARGE | {"b": 1}
    won: list[Run] = []
    world.meanwhile("put_item", lambda: won.append(submitted(world, args=LARGE, options=options)))
    if same:
        assert submit(asked(args=other, options=options))["existing"] is True
    else:
        with pytest.raises(workpool.IdempotencyConflict):
            submit(asked(args=other, options=options))
    (run,) = won
    assert world.run(run.key) == run
    assert len(world.objects()) == 2  # One of them is nobody's.
    assert world.objects()[run.args.at] == TEXT
    assert collected(world, days=2) == 1
    assert world.objects() == {run.args.at: TEXT}


@pytest.mark.promise(
    "Large payloads",
    "A submit or an attempt that loses a race after it wrote an "
    "object changes nothing that others read",
)
def test_a_lost_attempt_that_wrote_its_object_changes_nothing_that_others_read(world) -> None:
    world.action(lambda ctx, args: f"{ctx.retries}" * 5000)
    run = submitted(world)

    def lost() -> None:
        """Its lease is over, and the next attempt succeeds."""
        world.tick(100)
        assert attempt(Message(run=run.key, due=run.due), remaining_ms=lambda: 0) is None
        world.tick(2)
        attempted(world, world.run(run.key))

    world.meanwhile("update_item", lambda: None)  # the claim
    world.meanwhile("put_object", lost)
    assert attempt(Message(run=run.key, due=run.due), remaining_ms=lambda: 70_000) is None
    after = world.run(run.key)
    assert (after.result, after.retries) == ("success", 1)
    assert status("default", run.run_id)["result"]["returnValue"] == "1" * 5000
    assert sorted(world.objects().values()) == ['"' + "0" * 5000 + '"', '"' + "1" * 5000 + '"']
    assert collected(world, days=2) == 1
    assert world.objects() == {after.return_value.at: '"' + "1" * 5000 + '"'}


@pytest.mark.promise("Large payloads", "A refused request writes no object")
def test_what_is_refused_writes_no_object(world) -> None:
    for more in (
        {"action": "jobs.nothing"},
        {"pool": "ghost"},
        {"options": {"onComplete": "a.b"}},
        {"options": {"context": "x" * 1_000_000}},
    ):
        with pytest.raises(workpool.WorkpoolError):
            submit(asked(args=LARGE) | more)
    assert (world.items(), world.objects(), world.made("put_object")) == ([], {}, 0)


# S3 denies, is slow, or has nothing


@pytest.mark.promise("Large payloads", "A submit whose object S3 refuses is not accepted")
@pytest.mark.parametrize(
    ("code", "error"), [("AccessDenied", workpool.Internal), ("SlowDown", workpool.Throttled)]
)
def test_a_submit_whose_object_is_refused_stores_no_run(
    world, code: str, error: type[Exception]
) -> None:
    world.refuse("put_object", code)
    with pytest.raises(error):
        submit(asked(args=LARGE))
    assert world.items() == []


def test_a_claim_and_a_lease_last_until_the_deadline_however_long_s3_took(world) -> None:
    """One that is over earlier would let a second worker in, beside the first."""
    deadline = NOW + 100_000
    leases: list[tuple[str, int | None]] = []
    run = submitted(world, args=LARGE, options={"onComplete": "jobs.done", "context": LARGE})
    world.action(lambda *_: leases.append(("action", world.run(run.key).lease)))
    world.handler(lambda *_: leases.append(("handler", world.run(run.key).completion_lease)))
    for call in (
        lambda: attempt(Message(run=run.key, due=run.due), remaining_ms=remaining),
        lambda: complete(run.key, remaining_ms=remaining),
    ):

        def remaining() -> int:
            return int(deadline - world.now_ms)

        world.meanwhile("get_object", lambda: world.tick(20))
        assert call() is None
    assert leases == [("action", deadline), ("handler", deadline)]


@pytest.mark.promise(
    "Large payloads",
    "If S3 denies a read or fails for a while, this costs no attempt and no try of the handler",
)
@pytest.mark.parametrize("code", ["AccessDenied", "SlowDown", "NoSuchBucket"])
def test_arguments_that_s3_does_not_give_now_cost_no_attempt(world, logged: Any, code: str) -> None:
    run = submitted(world, args=LARGE, options={"maxRetries": 0})
    world.refuse("get_object", code, times=3)
    for _ in range(3):
        message = Message(run=run.key, due=run.due)
        assert attempt(message, remaining_ms=lambda: 70_000) == 10
        assert world.run(run.key) == run
    assert len(logged("arguments-unread")) == 3
    assert attempted(world, run).result == "success"


@pytest.mark.promise(
    "Large payloads", "If the arguments of a run are missing in S3, the run fails at once"
)
def test_arguments_that_are_missing_fail_the_run_at_once(world) -> None:
    run = submitted(world, args=LARGE)
    world.client("s3").delete_object(Bucket="payloads", Key=run.args.at)
    after = attempted(world, run)
    assert (after.result, after.retries) == ("failed", 0)
    assert after.error == (
        f"the arguments are lost: the bucket of payloads no longer holds {run.args.at}"
    )


@pytest.mark.promise(
    "Large payloads", "A return value that S3 refuses is a failed attempt, which is retried"
)
def test_a_return_value_that_s3_does_not_take_is_a_failed_attempt_and_is_retried(world) -> None:
    world.action(lambda ctx, args: "x" * 5000)
    run = submitted(world)
    world.refuse("put_object", "AccessDenied")
    after = attempted(world, run)
    assert (after.kind, after.retries) == ("scheduled", 1)
    (last,) = json.loads(after.attempts or "[]")
    assert last["error"].startswith("the return value could not be stored: ")
    world.tick(2)
    assert attempted(world, after).result == "success"


@pytest.mark.promise(
    "Large payloads",
    "If S3 denies a read or fails for a while, this costs no attempt and no try of the handler",
)
@pytest.mark.parametrize("code", ["AccessDenied", "SlowDown"])
def test_a_context_that_s3_does_not_give_now_costs_no_try_of_the_handler(
    world, logged: Any, code: str
) -> None:
    run = submitted(world, options={"onComplete": "jobs.done", "context": LARGE})
    run = attempted(world, run)
    world.refuse("get_object", code, times=MAX_TRIES + 1)
    for _ in range(MAX_TRIES + 1):
        assert completed(run) == 10
    assert world.run(run.key) == run
    assert len(logged("completion-unread")) == MAX_TRIES + 1
    assert completed(run) is None
    assert world.run(run.key).completion == "done"


@pytest.mark.promise(
    "Large payloads",
    "If the context or return value is missing in S3, the completion is parked at once",
)
@pytest.mark.parametrize("field", ["context", "return_value"])
def test_a_completion_whose_payload_is_missing_is_parked_at_once(world, field: str) -> None:
    called: list[Any] = []
    world.handler(lambda *given: called.append(given))
    world.action(lambda ctx, args: "x" * 5000)
    run = submitted(world, options={"onComplete": "jobs.done", "context": LARGE})
    run = attempted(world, run)
    name = getattr(run, field).at
    world.client("s3").delete_object(Bucket="payloads", Key=name)
    assert completed(run) is None
    after = world.run(run.key)
    assert (after.completion, after.result, called) == ("parked", "success", [])
    assert after.completion_error == (
        "the handler's context or return value is lost: "
        f"the bucket of payloads no longer holds {name}"
    )


# When they go


def relayed(world: Any, *runs: Run | None) -> None:
    relay_handler.handler(world.change(*runs), None)


def of_objects(world: Any, run: Run, claim: str) -> Run:
    """The run with objects of its own for each payload."""
    at = {
        field: Payload(at=world.put_object(f"default/{run.run_id}/{claim}-{file}", TEXT))
        for field, file in (("args", "args"), ("context", "context"), ("return_value", "result"))
    }
    return replace(run, large="yes", **at)


@pytest.mark.promise(
    "Large payloads", "The objects of a run are deleted when the run is forgotten, and not before"
)
def test_objects_go_when_their_run_is_forgotten_and_not_before(world) -> None:
    run = of_objects(world, world.a_run(kind="running", claim="c1", lease=NOW), "c1")
    over = replace(run, kind="completed", result="success", open=None, lease=None)
    relayed(world, None, run, over, replace(over, expires_at=1))
    assert set(world.objects()) == set(run.objects)
    relayed(world, over, None)
    assert world.objects() == {}
    relayed(world, over, None)  # The same again, as a replay brings it.


@pytest.mark.promise(
    "Large payloads",
    "When a key is used again, the objects of the forgotten run are "
    "deleted and those of the new run stay",
)
def test_a_key_used_again_takes_the_objects_of_its_forgotten_run_and_no_others(world) -> None:
    old = of_objects(world, world.a_run(kind="completed", result="success", expires_at=1), "c1")
    new = of_objects(world, world.a_run(enqueued_at=NOW + 1, due=NOW + 1), "c2")
    relayed(world, old, new)
    assert set(world.objects()) == set(new.objects)


@pytest.mark.promise(
    "Large payloads",
    "When a key is used again, the objects of the forgotten run are "
    "deleted and those of the new run stay",
)
def test_a_run_that_is_submitted_again_reads_its_own_arguments_whenever_the_old_ones_go(
    world,
) -> None:
    """The same key and the same request: its objects have other names than the forgotten run's."""
    options = {"idempotencyKey": "k1"}
    old = submitted(world, args=LARGE, options=options)
    over = world.put(replace(old, kind="completed", result="success", expires_at=NOW // 1000 - 1))
    new: Run = submitted(world, args=LARGE, options=options)
    assert new.run_id == old.run_id
    relayed(world, over, None)  # A deletion that the stream tells of late.
    assert world.objects() == {new.args.at: TEXT}
    assert attempted(world, new).result == "success"


@pytest.mark.promise(
    "Large payloads", "A deletion that S3 refuses delays no hint; the objects are collected later"
)
def test_a_deletion_that_s3_refuses_holds_up_no_hint_and_is_left_to_the_orphans(
    world, logged: Any
) -> None:
    run = of_objects(world, world.a_run(kind="completed", result="success"), "c1")
    world.refuse("delete_objects", "AccessDenied")
    other = world.a_run(run_id="r2")
    event = world.change(run, None)
    event["Records"] += world.change(None, other)["Records"]
    relay_handler.handler(event, None)
    assert [it["run"] for it in world.bodies("default-work")] == [other.key]
    assert [it["count"] for it in logged("objects-not-deleted")] == [3]
    assert len(world.objects()) == 3
    assert collected(world, days=2) == 3
    assert world.objects() == {}


# Orphans


def collected(world: Any, *, days: float, **given: Any) -> int:
    """Collect, so many days after the objects were written (by moto's own clock)."""
    before = world.now_ms
    world.now_ms = round(time.time() * 1000 + days * DAY_MS)
    try:
        return orphans.collect(in_time=lambda: True, **given)
    finally:
        world.now_ms = before


@pytest.fixture
def three(world) -> dict[str, Run | None]:
    """Objects of a run that names one, of an unknown run, and of nobody."""
    named = world.put_object("default/r1/w1-args", TEXT)
    world.put_object("default/r1/w2-args", TEXT)
    world.put_object("default/r2/c1-result", TEXT)
    for name in ("readme.txt", "default/else", "default/r1/deeper/w1-args"):
        world.put_object(name, TEXT)
    return {named: world.put(world.a_run(args=Payload(at=named), large="yes"))}


@pytest.mark.promise(
    "Large payloads", "Objects that no run names are collected when they are a day old"
)
def test_orphans_are_collected_when_they_are_a_day_old(world, three: dict[str, Any]) -> None:
    before = set(world.objects())
    assert collected(world, days=0.9) == 0
    assert set(world.objects()) == before
    assert collected(world, days=2) == 2
    assert before - set(world.objects()) == {"default/r1/w2-args", "default/r2/c1-result"}


@pytest.mark.promise("Large payloads", "The search for objects that no run names begins once a day")
def test_a_walk_through_the_bucket_begins_once_a_day(world, three: dict[str, Any]) -> None:
    assert collected(world, days=2) == 2
    world.put_object("default/r3/c1-result", TEXT)
    assert collected(world, days=2.9) == 0
    assert world.made("list_objects_v2") == 1
    assert collected(world, days=3.1) == 1
    assert world.made("list_objects_v2") == 2


def test_a_walk_may_be_asked_for_with_an_age_of_its_own(world, three: dict[str, Any]) -> None:
    assert collected(world, days=0) == 0
    assert collected(world, days=0.1, older_than_seconds=3600) == 2


@pytest.mark.promise(
    "Large payloads",
    "The search for objects that no run names continues where the last one ran out of time",
)
def test_a_walk_goes_on_where_the_last_one_ran_out_of_time(world, monkeypatch) -> None:
    monkeypatch.setattr(payloads, "PAGE", 2)
    for number in range(5):
        world.put_object(f"default/r{number}/c1-result", TEXT)
    world.now_ms = round(time.time() * 1000) + 2 * DAY_MS
    found = [orphans.collect(in_time=lambda: False) for _ in range(4)]
    assert found == [2, 2, 1, 0]
    assert world.made("list_objects_v2") == 3


@pytest.mark.promise(
    "Large payloads",
    "The objects of an item stay if the item cannot be read, or is expired and not yet deleted",
)
def test_objects_of_an_item_that_cannot_be_read_stay(world, three: dict[str, Any]) -> None:
    item = world.item()
    world.put_item(item | {"v": {"N": "2"}})
    key = item["run"]["S"].replace("#", "/")
    before = {name for name in world.objects() if name.startswith(f"{key}/")}
    assert collected(world, days=2) == 1  # another run's
    assert before <= set(world.objects())
    world.put_item(item)
    assert collected(world, days=4) == 1


@pytest.mark.promise(
    "Large payloads",
    "The objects of an item stay if the item cannot be read, or is expired and not yet deleted",
)
def test_an_expired_item_that_still_stands_keeps_its_objects_for_the_relay(
    world, three: dict[str, Any]
) -> None:
    (run,) = three.values()
    world.put(replace(run, kind="canceled", result="canceled", expires_at=1))
    assert collected(world, days=2) == 2
    assert set(three) <= set(world.objects())


@pytest.mark.promise(
    "Large payloads",
    "The sweeper collects objects that no run names, and a failure there does not fail the sweep",
)
def test_the_sweeper_collects_and_a_failure_there_fails_no_sweep(
    world, lambda_context: Callable[..., Any], logged: Any, three: dict[str, Any]
) -> None:
    world.now_ms = round(time.time() * 1000) + 2 * DAY_MS
    world.refuse("list_objects_v2", "AccessDenied")
    sweeper_handler.handler({}, lambda_context(200_000))
    assert len(logged("orphans-failed")) == 1
    sweeper_handler.handler({"orphanSeconds": 60}, lambda_context(200_000))
    assert [it["count"] for it in logged("orphans-collected")] == [2]


def test_a_finish_whose_answer_is_lost_is_seen_as_its_own_by_the_object_it_names(world) -> None:
    run = world.put(world.a_run(kind="running", claim="c1", lease=NOW + 1000))
    finish = Finish(result="success", return_value=Payload(at="default/r1/c1-result", size=9))
    world.lose_answer("update_item")
    done = store.finish(run, finish, finished_at=NOW, expires_at=1)
    assert (done.return_value.at, done.large) == ("default/r1/c1-result", "yes")
    other = replace(finish, return_value=Payload(at="default/r1/c2-result", size=9))
    with pytest.raises(store.Refused):
        store.finish(run, other, finished_at=NOW, expires_at=1)
