import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workpool.core.request import (
    OPTIONS,
    Request,
    is_pool_name,
    is_run_id,
    is_too_deep,
    parse,
    parse_json,
)
from workpool.core.run import open_partition
from workpool.errors import InvalidRequest, PayloadTooLarge, WorkpoolError

NOW_MS = 1_790_000_000_123
DAY_MS = 24 * 3600 * 1000
MAX_AHEAD_MS = 364 * DAY_MS
MAX_BYTES = 1_000_000
LONE_SURROGATE = "\ud800"


def asked(**options: Any) -> Request:
    return parse({"action": "jobs.work", "options": options})


@pytest.mark.promise("Options", "Arguments default to `{}`")
def test_a_request_needs_nothing_but_an_action() -> None:
    request = parse({"action": "jobs.work"})
    run = request.to_run(now_ms=NOW_MS)
    assert (run.pool, run.action, run.args.text, run.kind) == (
        "default",
        "jobs.work",
        "{}",
        "enqueued",
    )
    assert (run.enqueued_at, run.due, run.retries) == (NOW_MS, NOW_MS, 0)
    assert (run.initial_backoff_ms, run.base, run.max_retries) == (None, None, None)
    assert (run.on_complete, run.context, run.annotation, run.fairness_key) == (None,) * 4
    assert (run.request, run.creation) == (None, None)
    assert run.open == open_partition("default", run.run_id)


@pytest.mark.promise("Options", "`onComplete`, `context` and every other option reach the run")
def test_every_option_reaches_the_run() -> None:
    run = parse(
        {
            "pool": "emails",
            "action": "mail.send",
            "args": {"to": "ü"},
            "options": {
                "initialBackoffMs": 1000.5,
                "base": 2.71,
                "maxRetries": 0,
                "onComplete": "mail.sent",
                "context": [None, {"a": 1}],
                "runAfterMs": 5000,
                "annotation": "order o1",
                "idempotencyKey": "o1",
                "fairnessKey": "tenant-7",
            },
        }
    ).to_run(now_ms=NOW_MS)
    assert (run.pool, run.action, run.args.text) == ("emails", "mail.send", '{"to":"ü"}')
    assert (run.initial_backoff_ms, run.base, run.max_retries) == (1000.5, 2.71, 0)
    assert (run.on_complete, run.context.text) == ("mail.sent", '[null,{"a":1}]')
    assert (run.annotation, run.fairness_key) == ("order o1", "tenant-7")
    assert (run.kind, run.enqueued_at, run.due) == ("scheduled", NOW_MS, 1_790_000_006_000)


@pytest.mark.promise("Options", "`initialBackoffMs` is a number of at least 25; the default is 250")
@pytest.mark.promise(
    "Options", "`base` is a number of at least 1, possibly a fraction; the default is 2"
)
@pytest.mark.promise("Options", "`maxRetries` is an integer from 0 to 1000; the default is 4")
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("initialBackoffMs", 25),
        ("initialBackoffMs", 1e300),
        ("base", 1),
        ("base", 1.0),
        ("base", 2.71),
        ("base", 10**300),
        ("maxRetries", 0),
        ("maxRetries", 1000),
        ("maxRetries", 4.0),
        ("runAfterMs", 0),
        ("runAfterMs", 0.5),
        ("runAfterMs", MAX_AHEAD_MS),
        ("runAt", 0),
        ("runAt", 10**11),
        ("runAt", NOW_MS + MAX_AHEAD_MS),
        ("annotation", "x" * 1000),
        ("annotation", ""),
        ("idempotencyKey", "k"),
        ("idempotencyKey", "!" * 128),
        ("idempotencyKey", "~"),
        ("fairnessKey", "tenant-7/eu#1"),
        ("onComplete", "x" * 256),
        ("context", False),
        ("context", "x" * (MAX_BYTES - 2)),
    ],
)
def test_an_option_at_its_bound_is_accepted_and_can_be_stored(option: str, value: Any) -> None:
    item = asked(**{option: value}).to_run(now_ms=NOW_MS).to_item()
    numbers = [float(stored["N"]) for stored in item.values() if "N" in stored]
    assert all(abs(number) < 1e20 for number in numbers)


@pytest.mark.promise("HTTP API", "An error message names the field, the value and the bound")
@pytest.mark.promise("Options", "`initialBackoffMs` is a number of at least 25; the default is 250")
@pytest.mark.promise(
    "Options", "`base` is a number of at least 1, possibly a fraction; the default is 2"
)
@pytest.mark.promise("Options", "`maxRetries` is an integer from 0 to 1000; the default is 4")
@pytest.mark.promise("Options", "`runAfterMs` and `runAt` must not be negative")
@pytest.mark.promise("Options", "`annotation` has up to 1000 characters")
@pytest.mark.promise(
    "Options", "`idempotencyKey` and `fairnessKey` have 1 to 128 characters that SQS accepts"
)
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("initialBackoffMs", 24.9, "options.initialBackoffMs must be >= 25, got 24.9"),
        ("initialBackoffMs", 10, "options.initialBackoffMs must be >= 25, got 10"),
        ("initialBackoffMs", "250", 'options.initialBackoffMs must be a number, got "250"'),
        ("initialBackoffMs", True, "options.initialBackoffMs must be a number, got true"),
        ("initialBackoffMs", None, "options.initialBackoffMs must not be null; leave it out"),
        ("initialBackoffMs", 10**400, "options.initialBackoffMs must be a finite number, got 1000"),
        ("base", 0.9, "options.base must be >= 1, got 0.9"),
        ("base", -(10**400), "options.base must be a finite number, got -1000"),
        pytest.param(
            "base", 10**5000, "options.base must be a finite number, got a int", id="5000 digits"
        ),
        ("base", float("nan"), "options.base must be a finite number, got NaN"),
        ("base", float("inf"), "options.base must be a finite number, got Infinity"),
        ("base", [2], "options.base must be a number, got [2]"),
        ("base", False, "options.base must be a number, got false"),
        ("maxRetries", -1, "options.maxRetries must be >= 0, got -1"),
        ("maxRetries", 1001, "options.maxRetries must be <= 1000, got 1001"),
        ("maxRetries", 1.5, "options.maxRetries must be an integer, got 1.5"),
        ("maxRetries", True, "options.maxRetries must be a number, got true"),
        ("maxRetries", 1e300, "options.maxRetries must be <= 1000, got 1e+300"),
        ("maxRetries", None, "options.maxRetries must not be null"),
        ("runAfterMs", -1, "options.runAfterMs must be >= 0, got -1"),
        ("runAfterMs", MAX_AHEAD_MS + 1, "options.runAfterMs must be <= 31449600000, got 314496"),
        ("runAfterMs", "5s", 'options.runAfterMs must be a number, got "5s"'),
        ("runAfterMs", None, "options.runAfterMs must not be null"),
        ("runAt", -1, "options.runAt must be >= 0, got -1"),
        ("runAt", 1_790_000_000, "options.runAt must be in epoch milliseconds, got 1790000000, wh"),
        ("runAt", 10**11 - 1, "options.runAt must be in epoch milliseconds, got 99999999999, whi"),
        ("idempotencyKey", 0, "options.idempotencyKey must be a string, got 0"),
        ("runAt", "2027-01-01", 'options.runAt must be a number, got "2027-01-01"'),
        ("runAt", None, "options.runAt must not be null"),
        ("annotation", "x" * 1001, "options.annotation must be at most 1000 characters, got 1001"),
        ("annotation", 7, "options.annotation must be a string, got 7"),
        ("annotation", True, "options.annotation must be a string, got true"),
        ("annotation", None, "options.annotation must not be null"),
        ("annotation", LONE_SURROGATE, "options.annotation must be Unicode text"),
        ("idempotencyKey", "", "options.idempotencyKey must be 1 to 128 ASCII letters, digits or"),
        ("idempotencyKey", "k" * 129, "options.idempotencyKey must be 1 to 128 ASCII"),
        ("idempotencyKey", "k" * 257, "options.idempotencyKey must be at most 256 characters"),
        ("idempotencyKey", 7, "options.idempotencyKey must be a string, got 7"),
        ("idempotencyKey", None, "options.idempotencyKey must not be null"),
        ("idempotencyKey", "o1\n", 'got "o1\\n"'),
        ("idempotencyKey", LONE_SURROGATE, "options.idempotencyKey must be Unicode text"),
        (
            "fairnessKey",
            "tenant 7",
            "options.fairnessKey must be 1 to 128 ASCII letters, digits or",
        ),
        ("fairnessKey", "ü", "options.fairnessKey must be 1 to 128 ASCII"),
        ("fairnessKey", "\x7f", "options.fairnessKey must be 1 to 128 ASCII"),
        ("fairnessKey", {}, "options.fairnessKey must be a string, got {}"),
        ("fairnessKey", None, "options.fairnessKey must not be null"),
        ("onComplete", 7, "options.onComplete must be a string, got 7"),
        ("onComplete", "x" * 257, "options.onComplete must be at most 256 characters, got 257"),
        ("onComplete", None, "options.onComplete must not be null"),
        ("context", None, "options.context must not be null"),
        ("context", float("nan"), "options.context must be JSON"),
        ("context", LONE_SURROGATE, "options.context must be JSON"),
        ("retries", 3, "options.retries is not a field; known are annotation, base, context"),
    ],
)
def test_an_option_beyond_its_bound_is_refused_with_field_bound_and_value(
    option: str, value: Any, message: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        asked(**{option: value})
    assert message in str(refused.value)
    str(refused.value).encode()


@pytest.mark.promise("Options", "A run takes `runAfterMs` or `runAt`, not both")
@pytest.mark.promise("Options", "Unknown fields and null options are refused")
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (None, "the request must be a JSON object, got null"),
        ([], "the request must be a JSON object, got []"),
        ("run", 'the request must be a JSON object, got "run"'),
        ({}, "action is required"),
        ({"action": None}, "action must be a string, got null"),
        ({"action": 7}, "action must be a string, got 7"),
        ({"action": "x" * 257}, "action must be at most 256 characters, got 257"),
        ({"action": LONE_SURROGATE}, "action must be Unicode text"),
        ({"action": "a.b", "pool": 7}, "pool must be a string, got 7"),
        ({"action": "a.b", "pool": None}, "pool must be a string, got null"),
        ({"action": "a.b", "args": []}, "args must be an object, got []"),
        ({"action": "a.b", "args": None}, "args must be an object, got null"),
        ({"action": "a.b", "args": {"x": float("inf")}}, "args must be JSON"),
        ({"action": "a.b", "args": {LONE_SURROGATE: 1}}, "args must be JSON"),
        ({"action": "a.b", "options": []}, "options must be an object, got []"),
        ({"action": "a.b", "options": None}, "options must be an object, got null"),
        ({"action": "a.b", "arg": {}}, "arg is not a field; known are action, args, options, pool"),
        ({"action": "a.b", LONE_SURROGATE: 1}, "? is not a field; known are"),
        ({"action": "a.b", "x" * 99: 1}, "x" * 57 + "... is not a field"),
        (
            {"action": "a.b", "options": {"runAt": 1, "runAfterMs": 1}},
            "give options.runAfterMs or options.runAt, not both",
        ),
    ],
)
def test_a_malformed_request_is_refused_with_its_first_mistake(body: Any, message: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(body)
    assert message in str(refused.value)
    str(refused.value).encode()


@pytest.mark.promise(
    "Options", "Arguments or a context of more than 1,000,000 bytes are refused with size and limit"
)
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"args": {"a": "x" * (MAX_BYTES - 7)}}, "args must be at most 1000000 bytes of JSON, got"),
        ({"args": {"a": "ü" * (MAX_BYTES // 2)}}, "args must be at most 1000000 bytes of JSON"),
        (
            {"options": {"context": "x" * (MAX_BYTES - 1)}},
            "options.context must be at most 1000000 bytes of JSON, got 1000001",
        ),
    ],
)
def test_a_payload_that_no_run_can_carry_is_too_large(body: Any, message: str) -> None:
    with pytest.raises(PayloadTooLarge) as refused:
        parse({"action": "jobs.work"} | body)
    assert message in str(refused.value)


@pytest.mark.promise(
    "Options", "Arguments or a context of more than 1,000,000 bytes are refused with size and limit"
)
def test_the_largest_arguments_are_accepted() -> None:
    args = {"a": "x" * (MAX_BYTES - 8)}
    assert len(parse({"action": "jobs.work", "args": args}).args) == MAX_BYTES


@pytest.mark.promise("Retries", "A start delay has no jitter")
def test_a_start_time_is_rounded_up_to_a_whole_second_and_has_no_jitter() -> None:
    for options in ({"runAfterMs": 5000}, {"runAt": NOW_MS + 5000}):
        run = asked(**options).to_run(now_ms=NOW_MS)
        assert (run.kind, run.due) == ("scheduled", 1_790_000_006_000)


@pytest.mark.promise("Options", "A start time in the past means now")
@pytest.mark.parametrize(
    "options", [{"runAt": 0}, {"runAt": NOW_MS - 1}, {"runAt": NOW_MS}, {"runAfterMs": 0}]
)
def test_a_past_start_time_is_now(options: dict[str, int]) -> None:
    run = asked(**options).to_run(now_ms=NOW_MS)
    assert (run.kind, run.due) == ("enqueued", NOW_MS)


@pytest.mark.promise("Options", "A start time more than 364 days ahead is refused")
@pytest.mark.parametrize(
    ("at", "shown"),
    [
        (NOW_MS + MAX_AHEAD_MS + 1, str(NOW_MS + MAX_AHEAD_MS + 1)),
        (1e300, "1e+300"),
        (10**300, "1000000000"),
    ],
)
def test_a_start_more_than_364_days_ahead_is_refused(at: float, shown: str) -> None:
    message = "options.runAt must be at most 364 days ahead, got " + shown.replace("+", r"\+")
    with pytest.raises(InvalidRequest, match=message):
        asked(runAt=at).to_run(now_ms=NOW_MS)


def test_without_a_key_every_run_has_an_id_of_its_own() -> None:
    request = parse({"action": "jobs.work"})
    ids = {request.to_run(now_ms=NOW_MS).run_id for _ in range(100)}
    assert len(ids) == 100
    assert all(is_run_id(it) for it in ids)


def test_an_idempotency_key_makes_the_run_id_a_hash_of_pool_and_key() -> None:
    def run_id(pool: str, key: str) -> str:
        body = {"pool": pool, "action": "jobs.work", "options": {"idempotencyKey": key}}
        return parse(body).to_run(now_ms=NOW_MS).run_id

    assert run_id("default", "o1") == run_id("default", "o1")
    assert len({run_id("default", "o1"), run_id("default", "o2"), run_id("other", "o1")}) == 3
    assert is_run_id(run_id("default", "o1"))


def test_each_keyed_request_marks_its_own_creation() -> None:
    request = asked(idempotencyKey="o1")
    first, second = request.to_run(now_ms=NOW_MS), request.to_run(now_ms=NOW_MS)
    assert first.request == second.request
    assert first.creation != second.creation


def test_the_same_request_has_the_same_digest_whatever_the_order_of_its_fields() -> None:
    text = '{"action": "a.b", "args": {"x": 1, "y": [2]}, "options": {"base": 2, "maxRetries": 1}}'
    turned = (
        '{"options": {"maxRetries": 1, "base": 2}, "args": {"y": [2], "x": 1}, "action": "a.b"}'
    )
    assert parse(json.loads(text)).digest == parse(json.loads(turned)).digest


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ({1: "a"}, '{"1": "a"}'),
        ({1: "a", 2: "b", 10: "c"}, '{"1": "a", "2": "b", "10": "c"}'),
        ({1: 2, "b": None}, '{"1": 2, "b": null}'),
        ({"a": (1, 2)}, '{"a": [1, 2]}'),
        ({"a": 1.0, "b": 1e2, "c": 0.5}, '{"c": 0.5, "b": 100, "a": 1}'),
    ],
)
def test_the_digest_is_of_the_json_whichever_way_it_came(
    inside: dict[Any, Any], outside: str
) -> None:
    def digest(value: Any) -> str:
        return parse({"action": "a.b", "args": value, "options": {"context": value}}).digest

    assert digest(inside) == digest(json.loads(outside))


@pytest.mark.parametrize(
    "change",
    [
        {"action": "a.c"},
        {"pool": "other"},
        {"args": {"x": 2}},
        {"options": {"base": 3}},
        {"options": {}},
        {"options": {"base": 2, "annotation": "n"}},
    ],
)
def test_another_request_has_another_digest(change: dict[str, Any]) -> None:
    body = {"action": "a.b", "args": {"x": 1}, "options": {"base": 2}}
    assert parse(body | change).digest != parse(body).digest


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "NaN",
        '{"a": Infinity}',
        '{"a": -Infinity}',
        "1" + "0" * 5000,
        b"\xff\xfe\xff",
        b'{"a": "\xc3"}',
        "[" * 10_000,
        '{"a":' * 10_000,
        "[" * 10_000 + "]" * 10_000,
    ],
)
def test_a_body_that_is_no_json_is_refused(body: str | bytes) -> None:
    with pytest.raises(InvalidRequest, match="the body must be JSON: "):
        parse_json(body)


def test_a_body_of_json_is_read_from_text_and_bytes() -> None:
    assert parse_json('{"a": "ü"}') == parse_json('{"a": "ü"}'.encode()) == {"a": "ü"}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([400, 5000]).map(lambda zeros: 10**zeros)
    | st.floats()
    | st.text(st.characters(), max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(), max_size=9), inner, max_size=3)
    ),
    max_leaves=9,
)
OPTION_NAMES = st.sampled_from(sorted(OPTIONS))


@given(
    JSON
    | st.fixed_dictionaries(
        {"action": JSON | st.just("a.b")},
        optional={
            "pool": JSON,
            "args": JSON | st.dictionaries(st.text(max_size=3), JSON, max_size=2),
            "options": JSON | st.dictionaries(OPTION_NAMES, JSON, max_size=3),
        },
    )
)
def test_any_json_is_stored_or_refused_with_an_error_for_the_caller(body: Any) -> None:
    try:
        run = parse(body).to_run(now_ms=NOW_MS)
    except WorkpoolError as refused:
        assert refused.status in (400, 413)
        str(refused).encode()
    else:
        json.dumps(run.to_item(), ensure_ascii=False).encode()


def nested(depth: int, *, kind: type = list) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"x": value} if kind is dict else [value]
    return value


@pytest.mark.promise("Options", "JSON that is nested deeper than 200 is refused")
@pytest.mark.parametrize("field", ["args", "context"])
def test_json_is_stored_to_a_depth_of_200_and_refused_beyond(field: str) -> None:
    """Also near the interpreter's own limit, where one step may pass and the next may not."""
    limit = sys.getrecursionlimit()
    for depth in [1, 200, 201, *range(limit - 150, limit + 50), 10_000]:
        options = {"context": nested(depth)} if field == "context" else {}
        args = nested(depth, kind=dict) if field == "args" else {}
        body = {"action": "a.b", "args": args, "options": options}
        if depth <= 200:
            parse(body)
            continue
        with pytest.raises(InvalidRequest, match=f"{field} must be nested at most 200 deep"):
            parse(body)


@pytest.mark.promise("Options", "JSON that is nested deeper than 200 is refused")
def test_what_is_wide_is_not_deep() -> None:
    assert not is_too_deep([[1, {"a": []}, ()] for _ in range(1000)])
    assert not is_too_deep("[" * 1000)
    assert is_too_deep([1, *[2] * 10, {"a": nested(199, kind=dict)}])


@pytest.mark.promise("Options", "A body of more than 6 MB is refused with size and limit")
def test_a_body_that_lambda_would_not_take_is_refused_with_size_and_limit() -> None:
    for body in (b"[" + b" " * 6_000_000, '"' + "ü" * 3_000_000):
        with pytest.raises(PayloadTooLarge, match="at most 6000000 bytes, got 6000001"):
            parse_json(body)
    assert parse_json('"' + "x" * 5_999_998 + '"') == "x" * 5_999_998


@pytest.mark.promise(
    "Large payloads",
    "`transact_item` keeps arguments and context in the item, up to 125,000 bytes each",
)
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"args": {"a": "ü" * 62_496 + "xxx"}}, "args"),
        ({"options": {"context": "ü" * 62_499 + "xxx"}}, "options.context"),
    ],
)
def test_what_stays_in_a_callers_transaction_has_a_bound_of_its_own(body: Any, field: str) -> None:
    message = f"{field} must be at most 125000 bytes of JSON in a transaction, .* got 125003; `run`"
    with pytest.raises(PayloadTooLarge, match=message):
        parse({"action": "jobs.work"} | body).check_fits_item()
    largest = {"args": {"a": "x" * 124_992}, "options": {"context": "x" * 124_998}}
    parse({"action": "jobs.work"} | largest).check_fits_item()


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("default", True),
        ("a", True),
        ("a-1", True),
        ("x" * 32, True),
        ("", False),
        ("x" * 33, False),
        ("Default", False),
        ("1a", False),
        ("-a", False),
        ("a_b", False),
        ("a#b", False),
        ("default\n", False),
    ],
)
def test_a_pools_name_is_lower_case_and_short(name: str, valid: bool) -> None:
    assert is_pool_name(name) is valid


@pytest.mark.parametrize(
    ("run_id", "valid"),
    [
        ("0123456789abcdef", True),
        ("A-b_9", True),
        ("x" * 59, True),
        ("", False),
        ("x" * 60, False),
        ("a#b", False),
        ("a/b", False),
        ("a b", False),
        ("ü", False),
        ("a\n", False),
    ],
)
def test_a_run_id_is_short_and_has_no_separator(run_id: str, valid: bool) -> None:
    assert is_run_id(run_id) is valid
