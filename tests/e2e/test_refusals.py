"""Bad requests on the deployed stack: the error of the contract, and nothing stored."""

import json

import pytest

pytestmark = pytest.mark.e2e

BAD = [
    ({"pool": "nowhere", "action": "probe.work"}, 404, "UnknownPool", "'nowhere'"),
    ({"action": "probe.nothing"}, 404, "UnknownAction", "'probe.nothing'"),
    ({"action": "probe.undecorated"}, 404, "UnknownAction", "'probe.undecorated'"),
    ({"action": "../probe.work"}, 404, "UnknownAction", "probe.work"),
    (
        {"action": "probe.work", "options": {"onComplete": "probe.work"}},
        404,
        "UnknownCompletion",
        "'probe.work'",
    ),
    ({}, 400, "InvalidRequest", "action is required"),
    ({"action": None}, 400, "InvalidRequest", "action must be a string, got null"),
    ({"action": "probe.work", "args": []}, 400, "InvalidRequest", "args must be an object, got []"),
    ({"action": "probe.work", "more": 1}, 400, "InvalidRequest", "more is not a field"),
    (
        {"action": "probe.work", "options": {"more": 1}},
        400,
        "InvalidRequest",
        "options.more is not a field",
    ),
    *(
        ({"action": "probe.work", "options": {name: value}}, 400, "InvalidRequest", message)
        for name, value, message in (
            ("initialBackoffMs", 10, "options.initialBackoffMs must be >= 25, got 10"),
            ("base", 0.9, "options.base must be >= 1, got 0.9"),
            ("maxRetries", 1001, "options.maxRetries must be <= 1000, got 1001"),
            ("maxRetries", 1.5, "options.maxRetries must be an integer, got 1.5"),
            ("maxRetries", True, "options.maxRetries must be a number, got true"),
            ("runAfterMs", -1, "options.runAfterMs must be >= 0, got -1"),
            ("runAt", 9e15, "options.runAt must be at most 364 days ahead"),
            ("annotation", "x" * 1001, "options.annotation must be at most 1000 characters"),
            ("idempotencyKey", "", "options.idempotencyKey must be 1 to 128"),
            ("fairnessKey", "a b", "options.fairnessKey must be 1 to 128"),
            ("onComplete", None, "options.onComplete must not be null"),
            ("context", None, "options.context must not be null"),
        )
    ),
]


@pytest.mark.fault(29)
@pytest.mark.parametrize(("request_", "status", "code", "message"), BAD)
def test_a_bad_request_is_refused_by_name_and_stores_nothing(
    stack, request_, status, code, message
):
    before = stack.count_runs()
    with pytest.raises(RuntimeError) as refused:
        stack.submit(request_)
    assert str(refused.value).startswith(f"{code}: ")
    assert message in str(refused.value)

    pool = request_.get("pool", "default")
    body = {name: value for name, value in request_.items() if name != "pool"}
    answered, shape = stack.http("POST", f"/pools/{pool}/runs", body)
    assert (answered, shape["error"]["code"]) == (status, code)
    assert message in shape["error"]["message"]
    assert stack.count_runs() == before


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b'{"action": NaN}', b"\xff\xfe", b"[" * 10_000]
)
def test_a_body_that_is_no_request_is_a_400(stack, body):
    code, shape = stack.http("POST", "/pools/default/runs", body)
    assert (code, shape["error"]["code"]) == (400, "InvalidRequest")


def run_of(args):
    return b'{"action": "probe.work", "args": ' + args + b"}"


@pytest.mark.promise("Options", "JSON that is nested deeper than 200 is refused")
@pytest.mark.promise("Options", "A body of more than 6 MB is refused with size and limit")
@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (run_of(b'{"a":' * 10_000 + b"1" + b"}" * 10_000), 400, "deep"),
        (run_of(b'{"a":' * 201 + b"1" + b"}" * 201), 400, "args must be nested at most 200 deep"),
        (run_of(b'{"a": NaN}'), 400, "NaN is not JSON"),
        (run_of(rb'{"a": "\ud800"}'), 400, "args must be JSON"),
        (run_of(b'{"a": "' + b"x" * 10_000_000 + b'"}'), 413, "the body must be at most 6000000"),
        (run_of(b'{"a": "' + b"x" * 5_000_000 + b'"}'), 413, "args must be at most 1000000 bytes"),
    ],
    ids=["depth 10000", "depth 201", "NaN", "a lone surrogate", "10 MB", "5 MB"],
)
def test_arguments_that_no_run_carries_are_refused_and_nothing_is_stored(
    stack, body, status, message
):
    before = stack.count_runs()
    code, shape = stack.http("POST", "/pools/default/runs", body)
    assert (code, message in shape["error"]["message"]) == (status, True), shape
    assert stack.count_runs() == before
    if message == "deep":
        return  # Lambda itself does not parse it, and hands it to no function.
    answer = stack.client("lambda").invoke(
        FunctionName=stack.outputs["SubmitFunctionName"], Payload=body
    )
    told = json.load(answer["Payload"])["errorMessage"]
    assert told.startswith(("InvalidRequest: args must ", "PayloadTooLarge: args must ")), told
    assert stack.count_runs() == before


@pytest.mark.fault(30)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/pools/default/runs"),
        ("GET", "/pools/default/runs/any"),
        ("POST", "/pools/default/runs/any/cancel"),
    ],
)
def test_an_unsigned_request_is_refused(stack, method, path):
    body = {"action": "probe.work"} if method == "POST" else None
    assert stack.unsigned(method, path, body)[0] == 403


def test_an_unknown_run_is_a_404(stack):
    assert stack.http("GET", "/pools/default/runs/nobody") == (
        404,
        {"runId": "nobody", "kind": "unknown"},
    )
    code, shape = stack.http("GET", "/pools/nowhere/runs/nobody")
    assert (code, shape["error"]["code"]) == (404, "UnknownPool")
