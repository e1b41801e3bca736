"""Actions that are Lambda functions: invoked once per attempt, judged by their answer."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ReadTimeoutError,
)

from tests.support.failures import refusal
from workpool import errors
from workpool.core.run import Run
from workpool.verbs.attempt import attempt
from workpool.verbs.submit import submit

NOW = 1_790_000_000_000


class NonRetryableError(Exception):
    """As a function of its own names it."""


class MyNonRetryableError(Exception):
    """And a subclass of that."""


@pytest.fixture(autouse=True)
def listed(world) -> None:
    """The pool may invoke one function."""
    world.redeploy(lambdaActions=["charge", "my-function"])


@pytest.fixture
def attempted(world, message, no_jitter) -> Callable[..., Run]:
    """One attempt of a run whose action is the function `charge`, which does this."""

    def of(do: Callable[[Any], Any], *, timeout: int = 30, **fields: Any) -> Run:
        world.lambdas.functions["charge"] = (timeout, do)
        run = world.put(world.a_run(action="lambda:charge", **fields))
        deadline_ms = world.now_ms + 70_000
        assert attempt(message(run), remaining_ms=lambda: deadline_ms - world.now_ms) is None
        return world.run(run.key)

    return of


def raising(error: Exception) -> Callable[[Any], Any]:
    def do(given: Any) -> Any:
        raise error

    return do


@pytest.mark.promise(
    "Actions that are Lambda functions",
    "A `lambda:` action gets runId, pool, retries, idempotencyKey and args",
)
@pytest.mark.promise(
    "Actions that are Lambda functions", "A `lambda:` action is invoked once per attempt"
)
def test_a_function_is_told_the_run_and_its_return_value_is_the_runs(world, attempted) -> None:
    run = attempted(lambda given: {"got": given["args"]}, args='{"n":1}', retries=2)
    assert world.lambdas.invoked == [
        (
            "charge",
            {
                "runId": "r1",
                "pool": "default",
                "retries": 2,
                "idempotencyKey": "r1",
                "args": {"n": 1},
            },
        )
    ]
    assert (run.result, json.loads(run.return_value.text or "")) == ("success", {"got": {"n": 1}})


@pytest.mark.promise(
    "Actions that are Lambda functions",
    "An error of a `lambda:` function is a failed attempt, which is retried",
)
def test_a_functions_error_is_a_failed_attempt_and_is_retried(world, attempted) -> None:
    run = attempted(raising(ValueError("no luck")))
    assert (run.kind, run.retries, run.due) == ("scheduled", 1, NOW + 1000)
    assert json.loads(run.attempts or "")[0]["error"] == "no luck"
    assert world.made("invoke") == 1


def test_without_retries_left_a_functions_error_ends_the_run(attempted) -> None:
    run = attempted(raising(ValueError("no luck")), max_retries=0)
    assert (run.result, run.error) == ("failed", "no luck")


@pytest.mark.promise(
    "Actions that are Lambda functions",
    "A NonRetryableError, known by its type or its message, ends the run",
)
@pytest.mark.parametrize(
    "error",
    [
        NonRetryableError("a bad card"),
        MyNonRetryableError("a bad card"),
        ValueError("NonRetryableError: a bad card"),
    ],
)
def test_a_final_error_is_known_by_its_type_or_by_its_message(attempted, error) -> None:
    run = attempted(raising(error))
    assert (run.kind, run.result, run.error) == ("completed", "failed", str(error))


@pytest.mark.promise(
    "Actions that are Lambda functions",
    "An error whose message only mentions NonRetryableError is retried",
)
def test_an_error_that_only_mentions_it_is_retried(attempted) -> None:
    assert attempted(raising(ValueError("no NonRetryableError: here"))).kind == "scheduled"


@pytest.mark.promise(
    "Actions that are Lambda functions",
    "The timeout of a `lambda:` function must be below the `actionTimeoutSeconds` of the pool",
)
@pytest.mark.parametrize("timeout", [60, 61, 900])
def test_a_function_that_could_outlive_the_attempt_is_refused_at_once(
    world, attempted, timeout: int
) -> None:
    run = attempted(lambda given: 1, timeout=timeout)
    assert (run.kind, run.result) == ("completed", "failed")
    assert run.error == (
        f"charge may run for {timeout} s, which must be below the pool's "
        "actionTimeoutSeconds (60) and the time that is left of it"
    )
    assert world.lambdas.invoked == []


def test_a_function_that_ends_before_the_attempt_does_is_invoked(attempted) -> None:
    assert attempted(lambda given: 1, timeout=59).result == "success"


def test_a_functions_timeout_that_was_raised_meanwhile_is_seen(world, attempted) -> None:
    assert attempted(lambda given: 1, timeout=30).result == "success"
    world.tick(60)
    run = attempted(lambda given: 1, timeout=60, run_id="r2", enqueued_at=NOW + 60_000)
    assert run.result == "failed"


def test_a_slow_start_of_the_consumer_costs_the_run_nothing(world, message) -> None:
    world.lambdas.functions["charge"] = (59, lambda given: 1)
    run = world.put(world.a_run(action="lambda:charge"))
    assert attempt(message(run), remaining_ms=lambda: 63_000) == 1
    assert world.run(run.key) == run


@pytest.mark.promise(
    "Actions that are Lambda functions", "A `lambda:` action is invoked once per attempt"
)
@pytest.mark.parametrize("code", ["TooManyRequestsException", "AccessDeniedException"])
def test_what_lambda_refuses_is_a_failed_attempt_not_repeated_within_it(
    world, attempted, code: str
) -> None:
    world.refuse("invoke", code)
    run = attempted(lambda given: 1)
    assert run.kind == "scheduled"
    assert code in json.loads(run.attempts or "")[0]["error"]
    assert world.made("invoke") == 1


def test_a_function_that_does_not_answer_in_time_is_a_failed_attempt(world, attempted) -> None:
    def late(call: Any, given: Any) -> Any:
        raise ReadTimeoutError(endpoint_url="https://lambda")

    world.on("invoke", late)
    assert attempted(lambda given: 1).kind == "scheduled"


@pytest.mark.promise(
    "Actions that are Lambda functions",
    "If the connection to a `lambda:` function breaks, its slot is taken until it must have ended",
)
@pytest.mark.parametrize(
    "error",
    [
        ConnectionClosedError(endpoint_url="https://lambda"),
        ReadTimeoutError(endpoint_url="https://lambda"),
        HTTPClientError(error="reset"),
        refusal("ServiceException", ResponseMetadata={"HTTPStatusCode": 500}),
    ],
    ids=lambda it: type(it).__name__,
)
def test_a_slot_is_taken_until_a_function_that_was_lost_must_have_ended(
    world, attempted, error: Exception
) -> None:
    breaks_after(world, 7, error)
    run = attempted(lambda given: 1, timeout=30)
    assert (run.kind, run.retries) == ("scheduled", 1)
    assert world.now_ms == NOW + 30_000
    assert world.made("invoke") == 1


@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url="https://lambda"),
        ConnectTimeoutError(endpoint_url="https://lambda"),
        NoCredentialsError(),
        refusal("TooManyRequestsException", ResponseMetadata={"HTTPStatusCode": 429}),
    ],
    ids=lambda it: type(it).__name__,
)
def test_a_function_that_was_never_invoked_takes_no_slot(
    world, attempted, error: Exception
) -> None:
    breaks_after(world, 7, error)
    assert attempted(lambda given: 1, timeout=30).kind == "scheduled"
    assert world.now_ms == NOW + 7_000


def test_a_function_that_ended_before_its_connection_broke_is_not_waited_for(
    world, attempted
) -> None:
    breaks_after(world, 31, ReadTimeoutError(endpoint_url="https://lambda"))
    assert attempted(lambda given: 1, timeout=30).kind == "scheduled"
    assert world.now_ms == NOW + 31_000


def breaks_after(world: Any, seconds: float, error: Exception) -> None:
    def breaks(call: Any, given: Any) -> Any:
        world.tick(seconds)
        raise error

    world.on("invoke", breaks)


def test_the_time_that_reading_the_functions_timeout_takes_is_not_the_attempts(
    world, message
) -> None:
    """AWS took 20 s to say what the function's timeout is: the message comes back."""
    world.lambdas.functions["charge"] = (59, lambda given: 1)
    run = world.put(world.a_run(action="lambda:charge", max_retries=0))
    world.meanwhile("get_function_configuration", lambda: world.tick(20))
    deadline_ms = NOW + 70_000
    assert attempt(message(run), remaining_ms=lambda: deadline_ms - world.now_ms) == 1
    assert world.run(run.key) == run
    deadline_ms = world.now_ms + 70_000
    assert attempt(message(run), remaining_ms=lambda: deadline_ms - world.now_ms) is None
    assert world.run(run.key).result == "success"


def test_a_functions_timeout_that_cannot_be_read_now_costs_no_attempt(world, message) -> None:
    world.lambdas.functions["charge"] = (30, lambda given: 1)
    run = world.put(world.a_run(action="lambda:charge", max_retries=0))
    world.refuse("get_function_configuration", "TooManyRequestsException")
    with pytest.raises(ClientError):
        attempt(message(run), remaining_ms=lambda: 70_000)
    assert world.run(run.key) == run


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "AccessDeniedException"])
def test_a_function_that_is_not_there_is_a_failed_attempt(world, attempted, code: str) -> None:
    world.refuse("get_function_configuration", code, times=2)
    run = attempted(lambda given: 1)
    assert run.kind == "scheduled"
    assert code in json.loads(run.attempts or "")[0]["error"]


@pytest.mark.promise(
    "Large payloads", "The return value of a `lambda:` action may be as large as Lambda allows"
)
def test_a_result_may_be_as_large_as_lambda_answers(world, attempted) -> None:
    run = attempted(lambda given: "x" * 6_000_000)
    assert (run.kind, run.result, run.return_value.size) == ("completed", "success", 6_000_002)
    assert world.objects() == {run.return_value.at: '"' + "x" * 6_000_000 + '"'}


@pytest.mark.promise(
    "Results and completion",
    "A return value that is no JSON, too large or nested too deeply fails the run at once",
)
def test_a_result_that_is_too_deep_fails_the_run_at_once(attempted) -> None:
    run = attempted(lambda given: b"[" * 201 + b"]" * 201)
    assert (run.kind, run.result) == ("completed", "failed")
    assert run.error == "the return value must be nested at most 200 deep"


@pytest.mark.parametrize("answer", [b"", b"plain text", b"\xff"])
def test_a_result_that_is_no_json_fails_the_run_at_once(attempted, answer: bytes) -> None:
    run = attempted(lambda given: answer)
    assert (run.kind, run.result) == ("completed", "failed")
    assert "not JSON" in run.error


def test_a_function_error_of_an_unknown_shape_is_a_failed_attempt(world, attempted) -> None:
    from io import BytesIO

    for text in (b"no json", b"[]", b'"oops"'):
        world.on(
            "invoke",
            lambda call, given, text=text: {"FunctionError": "Unhandled", "Payload": BytesIO(text)},
        )
        run = attempted(lambda given: 1)
        assert json.loads(run.attempts or "")[0]["error"] == text.decode()


def test_a_listed_function_is_accepted_by_its_name(world) -> None:
    run_id = submit({"action": "lambda:my-function", "args": {"n": 1}})["runId"]
    assert world.run(f"default#{run_id}").action == "lambda:my-function"


@pytest.mark.promise(
    "Actions that are Lambda functions",
    "A function that is not in `lambdaActions` is refused as `UnknownAction`",
)
@pytest.mark.parametrize(
    ("pool", "name", "known"),
    [
        ("default", "ghost", "charge, my-function"),
        ("default", "", "charge, my-function"),
        ("default", "charge:1", "charge, my-function"),
        ("default", "arn:aws:lambda:us-east-1:1:function:charge", "charge, my-function"),
        ("other", "charge", "none"),
    ],
)
def test_a_function_that_the_pool_does_not_list_is_unknown(
    world, pool: str, name: str, known: str
) -> None:
    with pytest.raises(errors.UnknownAction) as caught:
        submit({"pool": pool, "action": f"lambda:{name}"})
    assert str(caught.value).endswith(f"its lambdaActions in cdk.json are {known}")
    assert world.items() == []
