"""The HTTP API: its routes on events as API Gateway sends them, and every way to refuse."""

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest

from handlers import api
from tests.support.invocations import http_event
from workpool.core.run import Payload

NOW = 1_790_000_000_000
RUNNING = {"kind": "running", "claim": "c1", "lease": NOW + 1}


@pytest.fixture(autouse=True)
def deployed(world) -> None:
    world.deploy_jobs()


@pytest.fixture
def call(lambda_context):
    """The status and the JSON of an answer."""

    def of(*given: Any, **more: Any) -> tuple[int, Any]:
        answer = api.handler(http_event(*given, **more), lambda_context())
        headers = {name.lower(): value for name, value in (answer.get("headers") or {}).items()}
        several = answer.get("multiValueHeaders") or {}
        content_type = headers.get("content-type") or several["Content-Type"][0]
        assert content_type == "application/json"
        assert answer["isBase64Encoded"] is False
        return answer["statusCode"], json.loads(answer["body"])

    return of


@pytest.mark.promise(
    "HTTP API", "`POST /pools/{pool}/runs` accepts a run for the pool that the path names"
)
def test_a_posted_run_is_accepted(world, call) -> None:
    status, shape = call("POST", "/pools/default/runs", '{"action": "jobs.work", "args": {"n": 1}}')
    assert (status, list(shape)) == (202, ["runId"])
    assert world.run(f"default#{shape['runId']}").args.text == '{"n":1}'


@pytest.mark.promise(
    "HTTP API", "`POST /pools/{pool}/runs` accepts a run for the pool that the path names"
)
def test_the_path_names_the_pool(world, call) -> None:
    status, shape = call("POST", "/pools/other/runs", '{"action": "jobs.work"}')
    assert status == 202
    assert world.run(f"other#{shape['runId']}").pool == "other"


def test_a_key_that_was_seen_with_the_same_request_answers_its_run(call) -> None:
    body = '{"action": "jobs.work", "options": {"idempotencyKey": "o1"}}'
    first, again = (call("POST", "/pools/default/runs", body) for _ in range(2))
    assert again == (202, first[1] | {"existing": True})
    changed = body.replace("jobs.work", "jobs.work").replace('"o1"', '"o1", "base": 3')
    status, shape = call("POST", "/pools/default/runs", changed)
    assert (status, shape["error"]["code"]) == (409, "IdempotencyConflict")


def test_a_body_in_base64_is_read(world, call) -> None:
    body = base64.b64encode('{"action": "jobs.work", "args": {"a": "ü"}}'.encode()).decode()
    status, shape = call("POST", "/pools/default/runs", body, is_base64=True)
    assert status == 202
    assert world.run(f"default#{shape['runId']}").args.text == '{"a":"ü"}'


@pytest.mark.promise(
    "HTTP API", "A refused request is answered with the reason, and nothing is stored"
)
@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (None, 400, "the body must be JSON: "),
        ("", 400, "the body must be JSON: "),
        ("{", 400, "the body must be JSON: "),
        ('{"action": "jobs.work", "args": {"a": NaN}}', 400, "the body must be JSON: NaN is not"),
        ("[" * 20_000, 400, "the body must be JSON: nested too deeply"),
        ("[]", 400, "the request must be a JSON object"),
        ("null", 400, "the request must be a JSON object"),
        ("{}", 400, "action is required"),
        ('{"action": "jobs.work", "pool": "default"}', 400, "pool is not a field here: the path"),
        (
            '{"action": "jobs.work", "options": {"base": 0.9}}',
            400,
            "options.base must be >= 1, got",
        ),
        (
            '{"action": "jobs.work", "options": {"base": 1e999}}',
            400,
            "options.base must be a finit",
        ),
        ('{"action": "\\ud800"}', 400, "action must be Unicode text"),
        ('{"action": "jobs.work", "x": 1}', 400, "x is not a field"),
        ('{"action": "jobs.nothing"}', 404, "no action 'jobs.nothing'"),
        ('{"action": "jobs.work", "options": {"onComplete": "a.b"}}', 404, "no completion 'a.b'"),
        ('{"action": "jobs.work", "args": {"a": "' + "x" * 1_000_000 + '"}}', 413, "args must be"),
        ('{"action": "jobs.work", "args": "' + "x" * 10_000_000 + '"}', 413, "the body must be at"),
        ('{"action": "jobs.work", "args": ' + '{"a":' * 10_000 + "1" + "}" * 10_000 + "}", 400, ""),
    ],
)
def test_a_request_that_is_refused_says_why_and_stores_nothing(
    world, call, body: str | None, code: int, message: str
) -> None:
    status, shape = call("POST", "/pools/default/runs", body)
    assert (status, list(shape), list(shape["error"])) == (code, ["error"], ["code", "message"])
    assert shape["error"]["message"].startswith(message)
    assert world.items() == []


@pytest.mark.parametrize(
    "body", ["not base64!", "ü", base64.b64encode(b'{"action": "\xff"}').decode(), "gA=="]
)
def test_a_body_that_is_no_base64_or_no_utf_8_is_refused(world, call, body: str) -> None:
    status, shape = call("POST", "/pools/default/runs", body, is_base64=True)
    assert (status, shape["error"]["code"]) == (400, "InvalidRequest")
    assert shape["error"]["message"].startswith("the body must be ")
    assert world.items() == []


@pytest.mark.promise("HTTP API", "`GET /pools/{pool}/runs/{runId}` answers the status of a run")
@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ({}, "enqueued"),
        ({"kind": "scheduled", "due": NOW + 1000}, "scheduled"),
        (RUNNING, "running"),
        ({"kind": "completed", "result": "success", "return_value": Payload("1")}, "completed"),
        ({"kind": "canceled", "result": "canceled"}, "canceled"),
    ],
)
def test_a_status_is_read(world, call, state: dict[str, Any], kind: str) -> None:
    world.put(world.a_run(**state))
    status, shape = call("GET", "/pools/default/runs/r1")
    assert (status, shape["runId"], shape["pool"], shape["kind"]) == (200, "r1", "default", kind)


@pytest.mark.promise(
    "HTTP API", "`POST /pools/{pool}/runs/{runId}/cancel` answers the status after the cancel"
)
@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ({}, "canceled"),
        (RUNNING, "running"),
        ({"kind": "completed", "result": "failed"}, "completed"),
    ],
)
def test_a_cancel_answers_the_status_after_it(
    world, call, state: dict[str, Any], kind: str
) -> None:
    world.put(world.a_run(**state))
    status, shape = call("POST", "/pools/default/runs/r1/cancel")
    assert (status, shape["kind"]) == (200, kind)
    assert world.run("default#r1").kind == kind


@pytest.mark.promise(
    "HTTP API",
    "A malformed or foreign run id in a path is answered with 404 and the kind `unknown`",
)
@pytest.mark.parametrize("run_id", ["r2", "a b", "ü", "r1#", "r1%", "..", "x" * 500, "\ud7ff"])
@pytest.mark.parametrize(("method", "end"), [("GET", ""), ("POST", "/cancel")])
def test_a_malformed_or_foreign_id_is_unknown(
    world, call, run_id: str, method: str, end: str
) -> None:
    before = world.put(world.a_run())
    path = f"/pools/default/runs/{quote(run_id, safe='')}{end}"
    status, shape = call(method, path)
    assert status == 404
    # Some characters are in no route.
    assert shape == {"runId": run_id, "kind": "unknown"} or "no such path" in str(shape["error"])
    assert world.run("default#r1") == before


@pytest.mark.parametrize("pool", ["%2564efault", "%64efault"])
def test_a_path_is_decoded_once(world, call, pool: str) -> None:
    """A policy that denies one pool's path cannot be passed by encoding the path twice."""
    world.put(world.a_run())
    status, shape = call("GET", f"/pools/{pool}/runs/r1")
    twice = pool.startswith("%25")
    assert status == (404 if twice else 200)
    assert not twice or shape["error"]["code"] == "UnknownPool"


def test_a_percent_encoded_id_names_its_run(world, call) -> None:
    world.put(world.a_run(run_id="a-b_c"))
    assert call("GET", "/pools/default/runs/a%2Db%5Fc")[1]["kind"] == "enqueued"


@pytest.mark.promise("HTTP API", "A pool that is not deployed is refused as `UnknownPool`")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/pools/ghost/runs"),
        ("GET", "/pools/ghost/runs/r1"),
        ("POST", "/pools/ghost/runs/r1/cancel"),
        ("GET", "/pools/D%C3%A9fault/runs/r1"),
    ],
)
def test_a_pool_that_is_not_deployed_is_unknown(call, method: str, path: str) -> None:
    status, shape = call(method, path, '{"action": "jobs.work"}')
    assert (status, shape["error"]["code"]) == (404, "UnknownPool")
    assert shape["error"]["message"].endswith("deployed are: default, other")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("PUT", "/pools"),
        ("DELETE", "/pools/default/runs"),
        ("DELETE", "/pools/default/runs/r1"),
        ("GET", "/pools/default/runs/r1/cancel"),
        ("GET", "/pools/default/runs/a/b/c"),
    ],
)
def test_a_path_that_is_no_route_is_not_found(call, method: str, path: str) -> None:
    status, shape = call(method, path)
    assert (status, shape["error"]["code"]) == (404, "InvalidRequest")


@pytest.mark.promise(
    "HTTP API", "A refusal by AWS is answered as `Throttled` or `Internal`, without its details"
)
@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        ("ProvisionedThroughputExceededException", 429, "Throttled"),
        ("ThrottlingException", 429, "Throttled"),
        ("InternalServerError", 500, "Internal"),
        ("AccessDeniedException", 500, "Internal"),
    ],
)
def test_what_aws_refuses_is_told_without_details_and_logged_with_them(
    world, call, logged, refusal: str, status: int, code: str
) -> None:
    world.put(world.a_run())
    requests = {
        "put_item": ("POST", "/pools/default/runs", '{"action": "jobs.work"}'),
        "get_item": ("GET", "/pools/default/runs/r1"),
        "update_item": ("POST", "/pools/default/runs/r1/cancel"),
    }
    for operation, request in requests.items():
        world.refuse(operation, refusal)
        answered, shape = call(*request)
        assert (answered, shape["error"]["code"]) == (status, code)
        assert "refused by the test" not in shape["error"]["message"]
    failures = logged("request-failed")
    assert len(failures) == (3 if status == 500 else 0)
    assert all(line["errorType"] == f"ClientError ({refusal})" for line in failures)
    assert "refused by the test" not in json.dumps(failures)


def test_an_error_of_our_own_is_internal_without_details_and_logged_with_them(
    world, call, logged, monkeypatch
) -> None:
    def broken(*given: Any, **options: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(api, "status", broken)
    status, shape = call("GET", "/pools/default/runs/r1")
    assert (status, shape["error"]["code"]) == (500, "Internal")
    assert "secret" not in shape["error"]["message"]
    (line,) = logged("request-failed")
    assert line["errorType"] == "ZeroDivisionError"
    assert "in broken" in line["at"] or line["at"].endswith(" get_run")
    assert "secret" not in json.dumps(line)


def test_an_item_of_a_newer_version_is_internal_not_unknown(world, call) -> None:
    world.put_item(world.a_run().to_item() | {"v": {"N": "2"}})
    assert call("GET", "/pools/default/runs/r1")[0] == 500


def test_every_request_writes_one_line(call, logged) -> None:
    call("GET", "/pools/default/runs/r1", route="GET /pools/{pool}/runs/{runId}")
    lines = logged("request")
    assert [(it["route"], it["status"]) for it in lines] == [
        ("GET /pools/{pool}/runs/{runId}", 404)
    ]
