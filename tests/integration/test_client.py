"""The Python client: in process inside a function, over HTTP with signed requests outside."""

import json
import os
import pickle
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

import workpool
from tests.support.http_server import QuietHandler, serve
from workpool import IdempotentWorkpool, RunStatus, _connection, client, lookup
from workpool._http import Http
from workpool.verbs.attempt import attempt

NOW = 1_790_000_000_000


# Inside a function of the stack


@pytest.fixture
def inside(world) -> IdempotentWorkpool:
    world.deploy_jobs()
    return IdempotentWorkpool("default")


@pytest.mark.promise(
    "The Python client",
    "`run` submits in process inside a function, and by a signed request elsewhere",
)
@pytest.mark.promise("The Python client", "`cancel` cancels a run and returns its status")
def test_inside_a_function_a_run_is_submitted_read_and_canceled_in_process(world, inside) -> None:
    run_id = inside.run("jobs.work", {"n": 1}, annotation="o1", max_retries=0)
    assert inside.status(run_id) == RunStatus(
        run_id=run_id,
        kind="enqueued",
        pool="default",
        action="jobs.work",
        enqueued_at=NOW,
        annotation="o1",
    )
    canceled = inside.cancel(run_id)
    assert (canceled.kind, canceled.result, canceled.ended) == (
        "canceled",
        {"type": "canceled"},
        True,
    )
    assert inside.status("nobody") == RunStatus(run_id="nobody", kind="unknown")


@pytest.mark.promise("The Python client", "Inside a function, the client needs no configuration")
def test_an_action_may_submit_a_further_run(world, message) -> None:
    ids: list[str] = []

    def work(ctx: Any, args: Any) -> None:
        if ctx.annotation == "root":
            ids.append(IdempotentWorkpool("other").run("jobs.work", annotation="leaf"))

    world.action(work)
    run = world.put(world.a_run(annotation="root"))
    attempt(message(run), remaining_ms=lambda: 70_000)
    assert world.run(f"other#{ids[0]}").annotation == "leaf"


@pytest.mark.promise(
    "The Python client", "`run` accepts the decorated function in place of its name"
)
def test_functions_themselves_may_be_given_instead_of_names(world, inside) -> None:
    work, done = lookup.find("jobs.work", "action"), lookup.find("jobs.done", "completion")
    run_id = inside.run(work, on_complete=done)
    run = world.run(f"default#{run_id}")
    assert (run.action, run.on_complete) == ("jobs.work", "jobs.done")


def test_a_function_that_is_not_decorated_is_refused(inside) -> None:
    with pytest.raises(workpool.UnknownAction, match="not decorated with @action"):
        inside.run(len)


@pytest.mark.promise(
    "The Python client",
    "`run_after`, `run_at`, `run_once`, `run_once_after` and `run_once_at` "
    "set when a run starts and whether it is retried",
)
@pytest.mark.parametrize(
    ("submit", "kind", "due", "max_retries"),
    [
        (lambda pool: pool.run("jobs.work"), "enqueued", NOW, None),
        (lambda pool: pool.run("jobs.work", run_after_ms=1500), "scheduled", NOW + 2000, None),
        (lambda pool: pool.run_after(1500, "jobs.work"), "scheduled", NOW + 2000, None),
        (lambda pool: pool.run_at(NOW + 5000, "jobs.work"), "scheduled", NOW + 5000, None),
        (
            lambda pool: pool.run_at(datetime(2026, 9, 21, 14, 13, 25, tzinfo=UTC), "jobs.work"),
            "scheduled",
            NOW + 5000,
            None,
        ),
        (lambda pool: pool.run_at(0, "jobs.work"), "enqueued", NOW, None),
        (lambda pool: pool.run_once("jobs.work"), "enqueued", NOW, 0),
        (lambda pool: pool.run_once_after(1500, "jobs.work"), "scheduled", NOW + 2000, 0),
        (lambda pool: pool.run_once_at(NOW + 5000, "jobs.work"), "scheduled", NOW + 5000, 0),
    ],
)
def test_each_way_to_run_says_when_and_how_often(
    world, inside, submit: Callable[..., str], kind: str, due: int, max_retries: int | None
) -> None:
    run = world.run(f"default#{submit(inside)}")
    assert (run.kind, run.due, run.max_retries) == (kind, due, max_retries)


@pytest.mark.promise("The Python client", "`run` passes every option on")
def test_every_option_is_passed_on(world, inside) -> None:
    options: dict[str, Any] = {
        "initial_backoff_ms": 1000,
        "base": 2.71,
        "max_retries": 3,
        "on_complete": "jobs.done",
        "context": [1],
        "annotation": "o1",
        "idempotency_key": "k1",
        "fairness_key": "t1",
    }
    run_id = inside.run("jobs.work", {"n": 1}, **options)
    run = world.run(f"default#{run_id}")
    assert (run.initial_backoff_ms, run.base, run.max_retries) == (1000, 2.71, 3)
    assert (run.on_complete, run.context.text, run.annotation) == ("jobs.done", "[1]", "o1")
    assert run.fairness_key == "t1"
    assert inside.run("jobs.work", {"n": 1}, **options) == run_id


@pytest.mark.promise(
    "The Python client", "An empty idempotency key is refused, and only None is none"
)
@pytest.mark.parametrize("key", ["", 0, False])
def test_only_none_is_no_idempotency_key(world, inside, key: Any) -> None:
    with pytest.raises(workpool.InvalidRequest, match=r"options\.idempotencyKey must be"):
        inside.run("jobs.work", idempotency_key=key)
    with pytest.raises(workpool.InvalidRequest, match=r"options\.idempotencyKey must be"):
        inside.transact_item("jobs.work", idempotency_key=key)
    assert world.items() == []


@pytest.mark.parametrize(
    "at",
    [NOW / 1000 + 3600, 1, datetime.max, datetime.max.replace(tzinfo=UTC)],
    ids=["seconds", "one", "the last", "the last in UTC"],
)
def test_a_start_that_cannot_be_meant_is_refused(world, inside, at: Any) -> None:
    with pytest.raises(workpool.InvalidRequest, match=r"options\.runAt must be "):
        inside.run_at(at, "jobs.work")
    assert world.items() == []


@pytest.mark.parametrize(
    "at", [datetime(1972, 1, 1, tzinfo=UTC), datetime(1900, 1, 1, tzinfo=UTC)], ids=str
)
def test_a_datetime_long_past_means_now(world, inside, at: datetime) -> None:
    assert world.run(f"default#{inside.run_at(at, 'jobs.work')}").due == NOW


@pytest.mark.promise("The Python client", "A datetime without a time zone is local time")
def test_a_datetime_without_a_zone_is_local_time(world, inside, local_zone) -> None:
    run_id = inside.run_at(datetime(2026, 9, 21, 16, 13, 25), "jobs.work")
    assert world.run(f"default#{run_id}").due == NOW + 5000


@pytest.fixture
def local_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two hours ahead of UTC."""
    monkeypatch.setenv("TZ", "XXX-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.promise("The Python client", "Each error code is an exception of the client")
def test_errors_are_the_codes(inside) -> None:
    with pytest.raises(workpool.InvalidRequest, match=r"options\.base must be >= 1, got 0\.9"):
        inside.run("jobs.work", base=0.9)
    with pytest.raises(workpool.UnknownPool):
        IdempotentWorkpool("ghost").run("jobs.work")


# A run as an entry of the caller's own transaction


def commit(world, *entries: dict[str, Any]) -> None:
    world.client("dynamodb").transact_write_items(TransactItems=list(entries))


def an_order(condition: str) -> dict[str, Any]:
    item = {"run": {"S": "an order"}}
    return {"Put": {"TableName": "runs", "Item": item, "ConditionExpression": condition}}


@pytest.mark.promise(
    "The Python client",
    "The run of a `transact_item` starts if and only if the caller's transaction commits",
)
def test_a_run_starts_with_the_transaction_that_commits_it(world, inside) -> None:
    run_id, entry = inside.transact_item("jobs.work", {"n": 1}, on_complete="jobs.done")
    assert inside.status(run_id).kind == "unknown"
    commit(world, an_order("attribute_not_exists(settled)"), entry)
    assert inside.status(run_id).kind == "enqueued"
    run = world.run(f"default#{run_id}")
    assert (run.args.text, run.on_complete) == ('{"n":1}', "jobs.done")


@pytest.mark.promise(
    "The Python client",
    "The run of a `transact_item` starts if and only if the caller's transaction commits",
)
def test_a_run_does_not_start_with_a_transaction_that_fails(world, inside) -> None:
    run_id, entry = inside.transact_item("jobs.work")
    with pytest.raises(Exception, match="ConditionalCheckFailed"):
        commit(world, an_order("attribute_exists(settled)"), entry)
    assert inside.status(run_id).kind == "unknown"
    assert world.items() == []


def test_a_key_that_was_used_refuses_the_transaction(world, inside) -> None:
    first, entry = inside.transact_item("jobs.work", idempotency_key="o1")
    commit(world, entry)
    again, entry = inside.transact_item("jobs.work", idempotency_key="o1")
    assert first == again
    with pytest.raises(Exception, match="ConditionalCheckFailed"):
        commit(world, an_order("attribute_not_exists(settled)"), entry)
    assert world.item("an order") is None


def test_a_run_of_a_transaction_is_checked_before(inside) -> None:
    with pytest.raises(workpool.InvalidRequest, match=r"options\.nonsense is not a field"):
        inside.transact_item("jobs.work", nonsense=1)


# Outside: over HTTP


class Api:
    """A server that answers as it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.authorizations: list[str] = []
        self.answers: list[tuple[int, Any]] = []

    def answer(self, status: int, shape: Any) -> None:
        self.answers.append((status, shape))


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    here = Api()

    class Handler(QuietHandler):
        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            here.asked.append((self.command, self.path, json.loads(body) if body else None))
            here.authorizations.append(self.headers.get("Authorization", ""))
            status, shape = here.answers.pop(0)
            data = shape if isinstance(shape, bytes) else json.dumps(shape).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do

    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with serve(Handler) as url:
        monkeypatch.setenv("WORKPOOL_API_URL", f"{url}/")
        yield here


POOLS = {"pools": [{"name": "default"}, {"name": "other"}]}
STATUS = {"runId": "r1", "pool": "default", "action": "a.b", "kind": "enqueued", "enqueuedAt": NOW}


@pytest.mark.promise(
    "The Python client",
    "`run` submits in process inside a function, and by a signed request elsewhere",
)
def test_outside_a_run_is_submitted_by_a_signed_request(api: Api) -> None:
    api.answer(202, {"runId": "r1"})
    pool = IdempotentWorkpool("default")
    assert pool.run("a.b", {"n": "ü"}, max_retries=0, idempotency_key="k1") == "r1"
    options = {"maxRetries": 0, "idempotencyKey": "k1"}
    body = {"action": "a.b", "args": {"n": "ü"}, "options": options}
    assert api.asked == [("POST", "/pools/default/runs", body)]
    assert api.authorizations[0].startswith("AWS4-HMAC-SHA256 Credential=")
    assert "/us-east-1/execute-api/aws4_request" in api.authorizations[0]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKPOOL_RUNS_TABLE", "runs")


@pytest.mark.promise(
    "The Python client",
    "`transact_item` checks the pool's name: outside a function with one request, if it may",
)
def test_outside_a_mistyped_pool_gets_no_entry_for_a_transaction(api: Api, told) -> None:
    api.answer(200, POOLS)
    api.answer(200, POOLS)
    with pytest.raises(workpool.UnknownPool, match="no pool 'defualt'; deployed are: default, oth"):
        IdempotentWorkpool("defualt").transact_item("a.b")
    assert {it[:2] for it in api.asked} == {("GET", "/pools")}


@pytest.mark.promise(
    "The Python client",
    "`transact_item` checks the pool's name: outside a function with one request, if it may",
)
def test_outside_the_pools_are_asked_for_once_by_each_client(api: Api, told) -> None:
    api.answer(200, POOLS)
    pool = IdempotentWorkpool("default")
    for _ in range(3):
        pool.transact_item("a.b")
    assert len(api.asked) == 1


def test_outside_a_pool_that_was_deployed_since_is_found(api: Api, told) -> None:
    api.answer(200, POOLS)
    pool = IdempotentWorkpool("default")
    pool.transact_item("a.b")
    pool.pool = "new"
    api.answer(200, {"pools": [*POOLS["pools"], {"name": "new"}]})
    pool.transact_item("a.b")
    assert len(api.asked) == 2


@pytest.mark.promise(
    "The Python client",
    "`transact_item` checks the pool's name: outside a function with one request, if it may",
)
@pytest.mark.parametrize(
    ("status", "shape"),
    [
        (403, {"message": "Forbidden"}),
        (429, {"message": "Too Many Requests"}),
        (503, {"message": "Service Unavailable"}),
        (200, {}),
        (200, b"<html>"),
        (200, {"pools": None}),
    ],
)
def test_outside_a_caller_who_may_not_read_the_pools_still_gets_an_entry(
    api: Api, told, status: int, shape: Any
) -> None:
    """A role with the right to put items, and none to the API. It is refused once only."""
    for _ in range(8):
        api.answer(status, shape)
    pool = IdempotentWorkpool("ghost")
    _, entry = pool.transact_item("a.b")
    assert entry["Put"]["TableName"] == "runs"
    asked = len(api.asked)
    pool.transact_item("a.b")
    assert len(api.asked) == asked


def test_outside_a_caller_who_knows_the_table_alone_asks_nobody(
    api: Api, told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be in a network that has a way to DynamoDB, and none to SSM."""
    monkeypatch.delenv("WORKPOOL_API_URL")
    monkeypatch.setattr(Http, "_parameter", property(lambda self: pytest.fail("asked SSM")))
    IdempotentWorkpool("ghost").transact_item("a.b")
    assert api.asked == []


def test_outside_an_api_that_is_out_of_reach_keeps_nobody_from_a_transaction(
    told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKPOOL_API_URL", "http://127.0.0.1:9")
    IdempotentWorkpool("default").transact_item("a.b")


@pytest.mark.promise("The Python client", "`status` returns the status of a run")
def test_outside_a_status_is_read_and_a_run_canceled(api: Api) -> None:
    api.answer(200, STATUS)
    api.answer(200, STATUS | {"kind": "canceled", "result": {"type": "canceled"}, "finishedAt": 5})
    pool = IdempotentWorkpool("default")
    assert pool.status("r1").kind == "enqueued"
    assert pool.cancel("r1").result == {"type": "canceled"}
    assert [it[:2] for it in api.asked] == [
        ("GET", "/pools/default/runs/r1"),
        ("POST", "/pools/default/runs/r1/cancel"),
    ]


@pytest.mark.promise(
    "The Python client",
    "For an unknown run, `status` returns the kind `unknown` and raises no error",
)
def test_an_unknown_run_is_a_status_not_an_error(api: Api) -> None:
    api.answer(404, {"runId": "r1", "kind": "unknown"})
    assert IdempotentWorkpool().status("r1").kind == "unknown"
    assert api.asked[0][1] == "/pools/default/runs/r1"


def test_fields_of_a_newer_deployment_are_left_out(api: Api) -> None:
    api.answer(200, STATUS | {"attempts": []})
    assert IdempotentWorkpool().status("r1").run_id == "r1"


@pytest.mark.promise("The Python client", "Each error code is an exception of the client")
@pytest.mark.promise("The Python client", "The client does not repeat a request that was refused")
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "InvalidRequest"),
        (404, "UnknownPool"),
        (404, "UnknownAction"),
        (404, "UnknownCompletion"),
        (409, "IdempotencyConflict"),
        (413, "PayloadTooLarge"),
    ],
)
def test_a_refusal_is_an_error_of_its_code_and_is_not_tried_again(
    api: Api, status: int, code: str
) -> None:
    api.answer(status, {"error": {"code": code, "message": "because"}})
    with pytest.raises(getattr(workpool, code), match="because"):
        IdempotentWorkpool().run("a.b")
    assert len(api.asked) == 1


@pytest.mark.promise(
    "The Python client",
    "After a temporary error, the client tries again with the same idempotency key",
)
@pytest.mark.parametrize(
    ("status", "shape"),
    [
        (429, {"error": {"code": "Throttled", "message": "later"}}),
        (500, {"error": {"code": "Internal", "message": "oops"}}),
        (429, {"message": "Too Many Requests"}),
        (500, {"message": "Internal Server Error"}),
        (503, {"message": "Service Unavailable"}),
        (502, b"<html>bad gateway</html>"),
    ],
)
def test_what_may_pass_is_tried_again_with_the_same_idempotency_key(
    api: Api, status: int, shape: Any
) -> None:
    api.answer(status, shape)
    api.answer(status, shape)
    api.answer(202, {"runId": "r1"})
    assert IdempotentWorkpool().run("a.b") == "r1"
    keys = [body["options"]["idempotencyKey"] for _, _, body in api.asked]
    assert len(keys) == 3
    assert len(set(keys)) == 1


@pytest.mark.parametrize(("status", "error"), [(429, workpool.Throttled), (500, workpool.Internal)])
def test_what_does_not_pass_is_raised_after_four_tries(
    api: Api, status: int, error: type[Exception]
) -> None:
    for _ in range(4):
        api.answer(status, {"message": "no"})
    with pytest.raises(error):
        IdempotentWorkpool().status("r1")
    assert len(api.asked) == 4


@pytest.mark.promise(
    "The Python client", "The client sends an idempotency key of its own if the caller gives none"
)
def test_each_submit_without_a_key_sends_one_of_its_own(api: Api) -> None:
    pool = IdempotentWorkpool()
    for _ in range(2):
        api.answer(202, {"runId": "r1"})
        pool.run("a.b")
    keys = [body["options"]["idempotencyKey"] for _, _, body in api.asked]
    assert keys[0] != keys[1]


def test_a_refused_signature_is_no_internal_error(api: Api) -> None:
    api.answer(403, {"message": "Forbidden"})
    with pytest.raises(workpool.WorkpoolError, match="HTTP 403"):
        IdempotentWorkpool().status("r1")
    assert len(api.asked) == 1


def test_a_deployment_that_cannot_be_reached_is_internal_after_four_tries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    monkeypatch.setenv("WORKPOOL_API_URL", "http://127.0.0.1:1")
    with pytest.raises(workpool.Internal, match=r"http://127\.0\.0\.1:1 "):
        IdempotentWorkpool().status("r1")
    assert waits == [0.2, 0.4, 0.8]


@pytest.mark.promise(
    "The Python client", "`wait` returns when the run has ended, whatever its result"
)
def test_waiting_ends_when_the_run_ended_whatever_its_result(api: Api) -> None:
    failed = {"kind": "completed", "result": {"type": "failed", "error": "boom"}}
    for shape in (STATUS, STATUS | {"kind": "running"}, STATUS | failed):
        api.answer(200, shape)
    status = IdempotentWorkpool().wait("r1", timeout=60)
    assert (status.ended, status.result) == (True, {"type": "failed", "error": "boom"})
    assert len(api.asked) == 3


@pytest.mark.promise("The Python client", "`wait` raises TimeoutError when its time is up")
def test_waiting_too_long_is_a_timeout(api: Api) -> None:
    api.answer(200, STATUS)
    with pytest.raises(TimeoutError, match="run r1 is enqueued after 0 s"):
        IdempotentWorkpool().wait("r1", timeout=0)


@pytest.mark.promise("The Python client", "`wait` raises LookupError if the run is unknown")
def test_waiting_for_an_unknown_run_is_a_lookup_error(api: Api) -> None:
    api.answer(404, {"runId": "r1", "kind": "unknown"})
    with pytest.raises(LookupError, match="pool 'default' has no run 'r1'"):
        IdempotentWorkpool().wait("r1")


def test_polls_grow_apart_up_to_five_seconds(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    for _ in range(12):
        api.answer(200, STATUS)
    api.answer(200, STATUS | {"kind": "canceled"})
    IdempotentWorkpool().wait("r1")
    assert waits[:3] == pytest.approx([0.2, 0.3, 0.45])
    assert waits == sorted(waits)
    assert waits[-1] == 5


@pytest.mark.promise(
    "The Python client",
    "The client finds the deployment by the environment, or else by an SSM parameter",
)
def test_without_an_address_the_deployment_is_found_by_its_parameter(
    api: Api, aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = os.environ["WORKPOOL_API_URL"]
    monkeypatch.delenv("WORKPOOL_API_URL")
    value = json.dumps({"apiUrl": url, "runsTable": "Mine-runs"})
    for stack in ("Workpool", "Mine"):
        boto3.client("ssm").put_parameter(
            Name=f"/workpool/{stack}", Value=value, Type="String", Overwrite=True
        )
    api.answer(200, POOLS)
    api.answer(200, STATUS)
    monkeypatch.setenv("WORKPOOL_STACK", "Mine")
    pool = IdempotentWorkpool("default")
    _, entry = pool.transact_item("a.b")
    assert entry["Put"]["TableName"] == "Mine-runs"
    assert pool.status("r1").kind == "enqueued"
    assert IdempotentWorkpool("default", stack="Workpool")._stack == "Workpool"


@pytest.mark.promise(
    "The Python client",
    "With a profile, or for another stack, the client uses the "
    "SSM parameter and not the environment",
)
@pytest.mark.parametrize("given", [{"stack": "Mine"}, {"profile": "ops"}])
def test_the_environments_address_is_not_used_for_another_stack_or_with_a_profile(
    api: Api, aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: dict[str, str]
) -> None:
    """`.local/env` was sourced, and production is meant."""
    config = tmp_path / "config"
    config.write_text("[profile ops]\naws_access_key_id = ops\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    value = json.dumps({"apiUrl": os.environ["WORKPOOL_API_URL"], "runsTable": "Mine-runs"})
    region = "eu-west-1" if "profile" in given else None
    boto3.client("ssm", region_name=region).put_parameter(
        Name=f"/workpool/{given.get('stack', 'Workpool')}",
        Value=value,
        Type="String",
        Overwrite=True,
    )
    monkeypatch.setenv("WORKPOOL_API_URL", "http://127.0.0.1:1")
    api.answer(200, STATUS)
    pool = IdempotentWorkpool(
        "default", region="eu-west-1" if "profile" in given else None, **given
    )
    assert pool.status("r1").kind == "enqueued"
    assert ("Credential=ops/" in api.authorizations[0]) == ("profile" in given)
    assert ("/eu-west-1/" in api.authorizations[0]) == ("profile" in given)


BAD_IDS = ["..", ".", "", "a/b", "a b", "r1\n", "\ud800", "x" * 65, "%2e%2e"]


@pytest.mark.promise(
    "The Python client",
    "For an unknown run, `status` returns the kind `unknown` and raises no error",
)
@pytest.mark.parametrize("bad", BAD_IDS, ids=ascii)
def test_what_is_no_run_id_is_unknown_and_reaches_no_route(api: Api, bad: str) -> None:
    """`cancel("..")` would be cancelAll."""
    pool = IdempotentWorkpool()
    assert pool.status(bad) == pool.cancel(bad) == RunStatus(run_id=bad, kind="unknown")
    assert pool.status_batch([bad, bad]) == [RunStatus(run_id=bad, kind="unknown")] * 2
    assert pool.redrive([bad]) == 0
    with pytest.raises(LookupError):
        pool.wait(bad, timeout=5)
    assert api.asked == []
    api.answer(200, {"statuses": [STATUS]})
    assert [it.run_id for it in pool.status_batch([bad, "r1", bad])] == [bad, "r1", bad]
    assert api.asked == [("POST", "/pools/default/status", {"runIds": ["r1"]})]


@pytest.mark.parametrize("bad", BAD_IDS, ids=ascii)
def test_what_is_no_pool_name_is_unknown_and_reaches_no_route(api: Api, bad: str) -> None:
    pool = IdempotentWorkpool(bad)
    for ask in (pool.cancel_all, pool.stats, lambda: pool.run("a.b"), lambda: pool.status("r1")):
        with pytest.raises(workpool.UnknownPool):
            ask()
    assert api.asked == []


def test_a_lone_surrogate_in_a_query_is_sent_as_a_question_mark(api: Api) -> None:
    api.answer(400, {"error": {"code": "InvalidRequest", "message": "kind must be"}})
    with pytest.raises(workpool.InvalidRequest):
        list(IdempotentWorkpool().runs("\ud800"))
    assert api.asked[0][1] == "/pools/default/runs?kind=%3F"


@pytest.mark.promise(
    "The Python client",
    "`run_batch` returns an error in the place of each run that was not submitted, and the run ids "
    "of all others",
)
def test_a_run_that_is_no_json_is_an_error_in_its_place(api: Api) -> None:
    api.answer(202, {"results": [{"runId": "r1"}, {"runId": "r2"}]})
    good = {"action": "a.b"}
    bad: list[Any] = [
        {"action": "a.b", "args": {"at": datetime.now(UTC)}},
        {"action": "a.b", "args": {"x": "\ud800"}},
        {"action": len},
    ]
    answers = IdempotentWorkpool().run_batch([good, *bad, good])
    kinds = [it if isinstance(it, str) else it.code for it in answers]
    assert kinds == ["r1", "InvalidRequest", "InvalidRequest", "UnknownAction", "r2"]
    assert len(api.asked) == 1


@pytest.mark.promise(
    "The Python client",
    "`run_batch` returns an error in the place of each run that was not submitted, and the run ids "
    "of all others",
)
@pytest.mark.parametrize(
    ("status", "shape", "code", "tries"),
    [
        (429, {"message": "Too Many Requests"}, "Throttled", 4),
        (503, {"message": "no"}, "Internal", 4),
        (403, {"message": "expired"}, "WorkpoolError", 1),
        (200, b"<html>", "Internal", 4),
        (202, {"results": []}, "Internal", 1),
    ],
)
def test_a_later_part_of_a_batch_that_fails_costs_no_ids(
    api: Api, monkeypatch: pytest.MonkeyPatch, status: int, shape: Any, code: str, tries: int
) -> None:
    monkeypatch.setattr(client, "BATCH", 2)
    api.answer(202, {"results": [{"runId": "r1"}, {"runId": "r2"}]})
    for _ in range(tries):
        api.answer(status, shape)
    api.answer(202, {"results": [{"runId": "r5"}, {"error": {"code": "New", "message": "hm"}}]})
    answers = IdempotentWorkpool().run_batch([{"action": "a.b"}] * 6)
    kinds = [it if isinstance(it, str) else it.code for it in answers]
    assert kinds == ["r1", "r2", code, code, "r5", "WorkpoolError"]
    assert api.answers == []


def test_a_first_part_of_a_batch_that_meets_an_outage_costs_no_ids(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "BATCH", 1)
    for _ in range(4):
        api.answer(503, {"message": "no"})
    api.answer(202, {"results": [{"runId": "r2"}]})
    away, found = IdempotentWorkpool().run_batch([{"action": "a.b"}] * 2)
    assert isinstance(away, workpool.Internal) and found == "r2"


def test_nothing_is_sent_before_all_of_a_batch_was_read(api: Api) -> None:
    def requests() -> Iterator[Any]:
        yield from [{"action": "a.b"}] * 2000
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        IdempotentWorkpool().run_batch(requests())  # type: ignore[arg-type]
    assert api.asked == []


def test_a_part_that_is_too_large_after_all_is_halved(api: Api) -> None:
    api.answer(413, {"message": "Request Too Long"})
    api.answer(202, {"results": [{"runId": "r1"}]})
    api.answer(413, {"message": "Request Too Long"})
    answers = IdempotentWorkpool().run_batch([{"action": "a.b"}] * 2)
    assert answers[0] == "r1" and isinstance(answers[1], workpool.PayloadTooLarge)


@pytest.mark.promise("The Python client", "A client can be pickled after its use")
def test_a_used_client_can_be_pickled(api: Api) -> None:
    api.answer(200, STATUS)
    api.answer(200, STATUS)
    pool = IdempotentWorkpool(stack="Workpool", region="eu-west-1")
    pool.status("r1")
    again = pickle.loads(pickle.dumps(pool))
    assert again.status("r1").run_id == "r1"
    assert all("/eu-west-1/" in it for it in api.authorizations)


def test_an_empty_stack_variable_is_the_default(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKPOOL_STACK", "")
    api.answer(200, STATUS)
    assert IdempotentWorkpool(stack="Workpool").status("r1").run_id == "r1"
    assert IdempotentWorkpool()._verbs._stack == "Workpool"  # type: ignore[attr-defined]


# Proxies and certificates


@pytest.mark.promise("The Python client", "The client uses proxies as every AWS tool does")
def test_requests_go_through_the_proxy_unless_no_proxy_names_their_host(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the API itself plays the proxy: it is asked for the whole URL."""
    monkeypatch.setenv("HTTP_PROXY", os.environ["WORKPOOL_API_URL"])
    monkeypatch.setenv("NO_PROXY", "direct.example")
    monkeypatch.setenv("WORKPOOL_API_URL", "http://api.example")
    api.answer(200, STATUS)
    assert IdempotentWorkpool().status("r1").run_id == "r1"
    assert api.asked[0][1] == "http://api.example/pools/default/runs/r1"
    monkeypatch.setenv("NO_PROXY", "api.example")
    with pytest.raises(workpool.Internal, match=r"http://api\.example did not answer"):
        IdempotentWorkpool().status("r1")
    assert len(api.asked) == 1


@pytest.mark.promise("The Python client", "The client uses CA bundles as every AWS tool does")
@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_the_certificates_are_those_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    verified: list[Any] = []

    class Connections:
        def send(self, request: Any) -> Any:
            return SimpleNamespace(status_code=200, content=json.dumps(STATUS).encode())

    def connections(process: int, proxies: Any, verify: str | bool) -> Connections:
        verified.append(verify)
        return Connections()

    monkeypatch.setattr(_connection, "_connections", connections)
    monkeypatch.setenv("WORKPOOL_API_URL", "https://api.example")
    IdempotentWorkpool().status("r1")
    monkeypatch.setenv(variable, "/etc/ca.pem")
    IdempotentWorkpool().status("r1")
    assert verified == [True, "/etc/ca.pem"]
