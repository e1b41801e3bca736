"""Submit: what is stored, what is refused, and what an idempotency key promises."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from handlers import submit as function
from workpool import errors
from workpool.verbs.submit import submit

NOW = 1_790_000_000_000


@pytest.fixture(autouse=True)
def deployed(world) -> None:
    world.deploy_jobs()


def keyed(key: str = "o1", **request: Any) -> dict[str, Any]:
    return {"action": "jobs.work", "options": {"idempotencyKey": key}} | request


def test_a_submitted_run_is_stored_and_waits(world) -> None:
    answer = submit({"action": "jobs.work", "args": {"n": 1}})
    assert list(answer) == ["runId"]
    run = world.run(f"default#{answer['runId']}")
    assert (run.kind, run.action, run.args.text) == ("enqueued", "jobs.work", '{"n":1}')
    assert (run.enqueued_at, run.due, run.retries) == (NOW, NOW, 0)


def test_a_run_of_later_is_stored_as_scheduled(world) -> None:
    options = {"runAfterMs": 1500, "onComplete": "jobs.done", "context": [1]}
    answer = submit({"pool": "other", "action": "jobs.work", "options": options})
    run = world.run(f"other#{answer['runId']}")
    assert (run.kind, run.due, run.on_complete, run.context.text) == (
        "scheduled",
        NOW + 2000,
        "jobs.done",
        "[1]",
    )


def test_a_run_without_retries_is_stored_so(world) -> None:
    answer = submit({"action": "jobs.work", "options": {"maxRetries": 0}})
    assert world.run(f"default#{answer['runId']}").max_retries == 0


def test_submitting_starts_nothing_itself(world) -> None:
    submit({"action": "jobs.work"})
    submit({"action": "jobs.work", "options": {"runAfterMs": 1000}})
    assert {name for name, _ in world.calls} == {"put_item"}


REFUSED = [
    ({"action": "jobs.work", "options": {"base": 0.9}}, "InvalidRequest", "options.base must be"),
    ({"action": "jobs.work", "pool": "ghost"}, "UnknownPool", "no pool 'ghost'; deployed are: def"),
    ({"action": "jobs.nothing"}, "UnknownAction", "no action 'jobs.nothing'"),
    ({"action": "../jobs.work"}, "UnknownAction", "no action"),
    (
        {"action": "jobs.work", "options": {"onComplete": "jobs.work"}},
        "UnknownCompletion",
        "no completion 'jobs.work'",
    ),
    (
        {"action": "jobs.work", "args": {"a": "x" * 1_000_000}},
        "PayloadTooLarge",
        "args must be at most 1000000 bytes of JSON, got 1000008",
    ),
    (None, "InvalidRequest", "the request must be a JSON object, got null"),
    ([], "InvalidRequest", "the request must be a JSON object, got []"),
]


@pytest.mark.parametrize(("body", "code", "message"), REFUSED)
def test_what_is_refused_stores_nothing(world, body: Any, code: str, message: str) -> None:
    with pytest.raises(errors.BY_CODE[code]) as refused:
        submit(body)
    assert str(refused.value).startswith(message)
    assert world.items() == []


@pytest.mark.promise(
    "The submit function",
    "The submit function refuses with a message that begins with the error code",
)
@pytest.mark.parametrize(("body", "code", "message"), REFUSED)
def test_the_function_refuses_with_code_and_message(
    world, body: Any, code: str, message: str
) -> None:
    with pytest.raises(errors.WorkpoolError) as refused:
        function.handler(body, None)
    assert type(refused.value).__name__ == code
    assert str(refused.value).startswith(f"{code}: {message}")
    assert world.items() == []


@pytest.mark.promise("The submit function", "The submit function answers a request with its run id")
def test_the_function_answers_the_run_id(world) -> None:
    answer = function.handler({"action": "jobs.work"}, None)
    assert answer == {"runId": world.items()[0]["run"]["S"].removeprefix("default#")}
    json.dumps(answer)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (
            "ProvisionedThroughputExceededException",
            "Throttled: AWS throttled the request (Provisioned",
        ),
        ("ThrottlingException", "Throttled: AWS throttled the request (ThrottlingException)"),
        ("RequestLimitExceeded", "Throttled: AWS throttled the request"),
        ("InternalServerError", "Internal: AWS refused the request (InternalServerError); you may"),
        ("AccessDeniedException", "Internal: AWS refused the request (AccessDeniedException)"),
    ],
)
def test_what_aws_refuses_is_told_without_details(world, code: str, error: str) -> None:
    world.refuse("put_item", code)
    with pytest.raises(errors.WorkpoolError) as refused:
        function.handler({"action": "jobs.work"}, None)
    assert str(refused.value).startswith(error)
    assert "refused by the test" not in str(refused.value)


def test_an_aws_that_cannot_be_reached_is_internal(world) -> None:
    def unreachable(call: Any, parameters: dict[str, Any]) -> None:
        raise EndpointConnectionError(endpoint_url="https://dynamodb")

    world.on("put_item", unreachable)
    with pytest.raises(errors.Internal, match="Internal: AWS did not answer"):
        function.handler({"action": "jobs.work"}, None)


def test_what_aws_refused_stands_in_the_log_with_its_details(world, logged) -> None:
    world.refuse("put_item", "AccessDeniedException")
    with pytest.raises(errors.Internal):
        function.handler({"action": "jobs.work"}, None)
    (line,) = logged("submit-failed")
    assert line["errorType"] == "ClientError (AccessDeniedException)"
    assert "refused by the test" not in json.dumps(line)


# Idempotency keys


@pytest.mark.promise(
    "The submit function",
    "The same idempotency key with the same request answers the same run, marked `existing`",
)
def test_the_same_request_with_the_same_key_is_the_same_run(world) -> None:
    first = submit(keyed(args={"n": 1}))
    world.tick(60)
    again = submit(keyed(args={"n": 1}))
    assert again == first | {"existing": True}
    assert "existing" not in first
    assert len(world.items()) == 1
    assert world.run(f"default#{first['runId']}").enqueued_at == NOW


@pytest.mark.parametrize(
    "state",
    [{"kind": "running", "claim": "c1"}, {"kind": "completed", "result": "failed", "error": "x"}],
)
def test_a_key_holds_in_every_state_of_its_run(world, state: dict[str, Any]) -> None:
    run_id = submit(keyed())["runId"]
    fields = {name: {"S": value} for name, value in state.items()} | {"lease": {"N": "1"}}
    world.put_item(world.item(f"default#{run_id}") | fields)
    before = world.items()
    assert submit(keyed()) == {"runId": run_id, "existing": True}
    assert world.items() == before


@pytest.mark.promise(
    "The submit function", "The same idempotency key with another request is a conflict"
)
def test_another_request_with_the_same_key_is_a_conflict(world) -> None:
    run_id = submit(keyed(args={"n": 1}))["runId"]
    before = world.items()
    with pytest.raises(errors.IdempotencyConflict) as refused:
        submit(keyed(args={"n": 2}))
    assert str(refused.value) == (
        f"options.idempotencyKey 'o1' was used with another request, for run {run_id}"
    )
    assert world.items() == before


def test_the_same_key_in_another_pool_is_another_run(world) -> None:
    first, other = submit(keyed()), submit(keyed(pool="other"))
    assert first["runId"] != other["runId"]
    assert "existing" not in other


@pytest.mark.parametrize("request_of", [{}, {"args": {"n": 2}}])
def test_a_key_may_be_used_again_once_its_run_is_forgotten(world, request_of) -> None:
    first = submit(keyed())
    key = f"default#{first['runId']}"
    world.put_item(world.item(key) | {"expiresAt": {"N": str(NOW // 1000 + 10)}})
    world.tick(9)
    assert submit(keyed())["existing"] is True
    world.tick(1)
    assert submit(keyed(**request_of)) == first
    assert world.run(key).enqueued_at == NOW + 10_000
    assert world.run(key).expires_at is None


def test_a_put_whose_answer_is_lost_is_no_existing_run(world) -> None:
    world.lose_answer("put_item")
    assert "existing" not in submit(keyed())
    world.lose_answer("put_item")
    assert list(submit({"action": "jobs.work"})) == ["runId"]
    assert len(world.items()) == 2


def test_of_twenty_at_once_exactly_one_creates_the_run(world) -> None:
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: submit(keyed()), range(20)))
    assert len({answer["runId"] for answer in answers}) == 1
    assert [answer.get("existing", False) for answer in answers].count(False) == 1
    assert len(world.items()) == 1


def test_a_module_that_raises_when_imported_does_not_fail_the_submit(world) -> None:
    world.code(
        "actions",
        "broken",
        "raise OSError('no key')\nfrom workpool import action\n@action\ndef work(c, a): pass\n",
    )
    assert "runId" in submit({"action": "broken.work"})
