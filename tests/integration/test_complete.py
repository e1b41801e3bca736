"""Completion handlers: called whatever the outcome, once in effect whatever crashes."""

from itertools import pairwise
from typing import Any

import pytest

from handlers import completion
from tests.support.failures import refusal
from tests.support.invocations import answer_of, bodies_handed_back
from workpool.aws import store
from workpool.core.run import Payload, Run
from workpool.verbs.complete import MAX_TRIES, complete, retry_delay_seconds

NOW = 1_790_000_000_000
KEY = "default#r1"
LEFT_MS = 60_000
SUCCEEDED = {"kind": "completed", "result": "success", "return_value": Payload('{"n":1}')}


@pytest.fixture
def ended(world):
    """Store a run that ended and whose completion is pending."""

    def of(**fields: Any) -> Run:
        pending = {
            "on_complete": "jobs.done",
            "completion": "pending",
            "finished_at": NOW - 5,
            "claim": "c1",
        }
        return world.put(world.a_run(**(SUCCEEDED | pending | fields)))

    return of


def completed(key: str = KEY) -> float | None:
    return complete(key, remaining_ms=lambda: LEFT_MS)


def done_with(world) -> list[Any]:
    """A handler that notes what it is called with."""
    calls: list[Any] = []
    world.handler(lambda ctx, context, result: calls.append((ctx, context, result)))
    return calls


@pytest.mark.promise(
    "Results and completion", "The handler gets the context and the result, whatever the outcome"
)
@pytest.mark.parametrize(
    ("state", "result"),
    [
        (SUCCEEDED, {"type": "success", "returnValue": {"n": 1}}),
        (SUCCEEDED | {"return_value": Payload("null")}, {"type": "success", "returnValue": None}),
        (
            {"kind": "completed", "result": "failed", "error": "boom", "return_value": None},
            {"type": "failed", "error": "boom"},
        ),
        (
            {"kind": "canceled", "result": "canceled", "return_value": None},
            {"type": "canceled"},
        ),
    ],
)
def test_the_handler_gets_the_context_and_the_result_whatever_the_outcome(
    world, ended, state: dict[str, Any], result: dict[str, Any]
) -> None:
    calls = done_with(world)
    ended(**state, context='{"order":[1]}', annotation="o1", retries=2)
    assert completed() is None
    [(ctx, context, got)] = calls
    assert (context, got) == ({"order": [1]}, result)
    assert (ctx.run_id, ctx.pool, ctx.action, ctx.retries) == ("r1", "default", "jobs.work", 2)
    assert (ctx.annotation, ctx.idempotency_key) == ("o1", "r1")


def test_without_a_context_the_handler_gets_none(world, ended) -> None:
    calls = done_with(world)
    ended()
    completed()
    assert calls[0][1] is None


@pytest.mark.promise("Status", "The retention begins when the completion is done")
def test_a_completion_that_is_done_leaves_the_open_index_and_starts_the_retention(
    world, ended
) -> None:
    done_with(world)
    ended()
    world.tick(100)
    completed()
    run = world.run(KEY)
    assert (run.completion, run.open, run.completion_lease) == ("done", None, None)
    assert run.expires_at == NOW // 1000 + 100 + 86_400
    assert (run.kind, run.result, run.return_value.text) == ("completed", "success", '{"n":1}')


@pytest.mark.parametrize(
    "state",
    [
        {"completion": "done"},
        {"completion": "parked"},
        {"completion": None},
        {"kind": "running", "result": None, "completion": None},
    ],
)
def test_nothing_is_called_for_a_run_whose_completion_is_not_pending(
    world, ended, state: dict[str, Any]
) -> None:
    calls = done_with(world)
    run = ended(**state)
    assert completed() is None
    assert (calls, world.run(KEY)) == ([], run)
    assert world.made("update_item") == 0


def test_nothing_is_called_for_an_unknown_run(world) -> None:
    calls = done_with(world)
    assert completed("default#nobody") is None
    assert calls == []


def test_an_async_handler_is_awaited(world, ended) -> None:
    calls: list[str] = []
    world.handler(lambda ctx, context, result: calls.append(ctx.run_id), head="async def")
    ended()
    assert completed() is None
    assert calls == ["r1"]


def an_order(condition: str | None = None) -> dict[str, Any]:
    count = {
        "TableName": "runs",
        "Key": {"run": {"S": "an order"}},
        "UpdateExpression": "ADD settled :one",
        "ExpressionAttributeValues": {":one": {"N": "1"}},
    }
    return {"Update": count | ({"ConditionExpression": condition} if condition else {})}


@pytest.mark.promise(
    "Results and completion", "The writes that a handler returns take effect exactly once"
)
def test_the_writes_that_the_handler_returns_happen_with_the_mark(world, ended) -> None:
    world.handler(lambda ctx, context, result: [an_order()])
    ended()
    assert completed() is None
    assert world.item("an order")["settled"] == {"N": "1"}
    assert world.run(KEY).completion == "done"


def test_a_handler_may_return_ninety_writes(world, ended) -> None:
    writes = [
        {"Put": {"TableName": "runs", "Item": {"run": {"S": f"order {n}"}}}} for n in range(90)
    ]
    world.handler(lambda ctx, context, result: writes)
    ended()
    assert completed() is None
    assert len(world.items()) == 91


@pytest.mark.parametrize(
    "value",
    [[an_order()] * 91, {"Put": {}}, "writes", 7, (an_order(),)],
    ids=["91", "dict", "text", "number", "tuple"],
)
def test_what_is_no_list_of_up_to_ninety_writes_is_a_failed_try(world, ended, value: Any) -> None:
    world.handler(lambda ctx, context, result: value)
    ended()
    assert completed() == 1
    error = world.run(KEY).completion_error
    assert error is not None
    assert error.startswith("a completion handler returns None or a list of at most 90")
    assert world.item("an order") is None


def test_a_condition_of_the_handlers_own_that_fails_is_a_failed_try(world, ended) -> None:
    world.handler(lambda ctx, context, result: [an_order("attribute_exists(settled)")])
    ended()
    assert completed() == 1
    run = world.run(KEY)
    assert (run.completion, run.completion_tries) == ("pending", 1)
    assert "TransactionCanceled" in (run.completion_error or "")


def test_a_handler_that_is_not_deployed_is_a_failed_try(world, ended) -> None:
    ended(on_complete="jobs.nothing")
    assert completed() == 1
    assert "no completion 'jobs.nothing'" in (world.run(KEY).completion_error or "")


class Impolite(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (ValueError("bang"), "bang"),
        (ValueError(), "ValueError"),
        (SystemExit(3), "3"),
        (ValueError("x" * 5000), "x" * 4096),
        (Impolite(), "Impolite"),
    ],
    ids=lambda it: type(it).__name__,
)
def test_whatever_a_handler_raises_is_a_failed_try(
    world, ended, raised: BaseException, error: str
) -> None:
    def done(*given: Any) -> None:
        raise raised

    world.handler(done)
    ended()
    assert completed() == 1
    assert world.run(KEY).completion_error == error


@pytest.mark.promise(
    "Results and completion", "A handler that raises does not change the result of its run"
)
@pytest.mark.promise(
    "Results and completion",
    "A handler that keeps raising is called with growing delays, and then the completion is parked",
)
def test_a_handler_that_always_raises_is_called_with_growing_delays_and_then_parked(
    world, ended, logged
) -> None:
    calls: list[int] = []

    def done(*given: Any) -> None:
        calls.append(world.now_ms)
        raise ValueError("bang")

    world.handler(done)
    before = ended()
    delays: list[float] = []
    while (delay := completed()) is not None:
        delays.append(delay)
        world.tick(delay)
    assert delays == [1, 2, 4, 8, 16, 32, 64]
    assert len(calls) == MAX_TRIES
    run = world.run(KEY)
    assert (run.completion, run.completion_tries, run.completion_error) == ("parked", 8, "bang")
    assert (run.expires_at, run.completion_lease) == (None, None)
    assert (run.open or "").startswith("default#parked#")
    assert (run.kind, run.result, run.return_value.text) == (before.kind, "success", '{"n":1}')
    lines = [line for line in logged() if str(line.get("event")).startswith("completion")]
    assert [line["event"] for line in lines] == ["completion-retry"] * 7 + ["completion-parked"]
    assert lines[-1]["error"] == "bang"
    assert completed() is None
    assert len(calls) == MAX_TRIES


def test_delays_are_at_most_fifteen_minutes() -> None:
    assert [retry_delay_seconds(tries) for tries in (1, 2, 10, 11, 5000)] == [1, 2, 512, 900, 900]


def test_a_try_before_its_time_comes_back_then(world, ended) -> None:
    def done(*given: Any) -> None:
        raise ValueError("bang")

    world.handler(done)
    ended()
    completed()
    world.tick(0.25)
    assert completed() == 0.75
    assert world.run(KEY).completion_tries == 1


def test_a_handler_that_recovers_is_done_and_its_error_is_forgotten(world, ended) -> None:
    answers = iter([ValueError("bang"), None])

    def done(*given: Any) -> None:
        if error := next(answers):
            raise error

    world.handler(done)
    ended()
    world.tick(completed() or 0)
    assert completed() is None
    run = world.run(KEY)
    assert (run.completion, run.completion_tries, run.completion_error) == ("done", 2, None)


def test_a_handler_whose_process_dies_every_time_is_parked_too(world, ended) -> None:
    calls: list[int] = []
    world.handler(lambda *given: calls.append(1))
    ended(completion_tries=MAX_TRIES, completion_claim="h1", completion_lease=NOW - 1)
    assert completed() is None
    assert (calls, world.run(KEY).completion) == ([], "parked")


# Twice at once, and deaths


def test_while_one_call_holds_the_lease_the_other_comes_back_when_it_is_over(world, ended) -> None:
    copies: list[float | None] = []
    world.handler(lambda ctx, context, result: copies.append(completed()))
    ended()
    assert completed() is None
    assert copies == [60]


def test_a_lease_lost_between_read_and_write_comes_back_soon(world, ended) -> None:
    calls = done_with(world)
    run = ended()
    world.meanwhile(
        "update_item",
        lambda: store.lease_completion(run, claim="h2", now_ms=NOW, lease=NOW + LEFT_MS),
    )
    assert completed() == 1
    assert calls == []


def test_no_try_is_lost_to_a_call_that_read_before_another_was_made(world, ended) -> None:
    """Between this call's read and its write another takes the lease and its handler raises, whose
    next try is due when this write comes: that must not set back the tries."""
    calls = done_with(world)
    run = ended()

    def other() -> None:
        held = store.lease_completion(run, claim="h2", now_ms=NOW, lease=NOW + LEFT_MS)
        store.retry_completion(held, at_ms=NOW, error="boom")

    world.meanwhile("update_item", other)
    assert completed() is None
    assert len(calls) == 1
    assert world.run(KEY).completion_tries == 2


def test_a_completion_that_another_call_did_meanwhile_is_dropped(world, ended) -> None:
    calls = done_with(world)
    run = ended()

    def other() -> None:
        held = store.lease_completion(run, claim="h2", now_ms=NOW, lease=NOW + LEFT_MS)
        store.complete(held, expires_at=NOW, writes=[])

    world.meanwhile("update_item", other)
    assert completed() is None
    assert calls == []


@pytest.mark.parametrize("raises", [False, True])
def test_a_call_that_outlives_its_lease_changes_nothing(world, ended, logged, raises: bool) -> None:
    calls: list[str] = []

    def done(ctx: Any, context: Any, result: Any) -> list[Any]:
        calls.append(ctx.run_id)
        if len(calls) == 1:
            world.tick(61)
            assert completed() is None
            if raises:
                raise ValueError("late")
        return [an_order()]

    world.handler(done)
    ended()
    assert completed() is None
    assert calls == ["r1", "r1"]
    assert world.item("an order")["settled"] == {"N": "1"}
    failures = [line for line in logged() if line["message"] == "the completion handler failed"]
    assert len(failures) == (1 if raises else 0)
    run = world.run(KEY)
    assert (run.completion, run.completion_tries, run.completion_error) == ("done", 2, None)


def test_a_process_that_dies_before_the_handler_calls_it_later(world, ended) -> None:
    calls = done_with(world)
    ended()
    world.die_after("update_item")
    with pytest.raises(world.Died):
        completed()
    assert calls == []
    assert completed() == 60
    world.tick(60)
    assert completed() is None
    assert len(calls) == 1


@pytest.mark.promise(
    "Results and completion", "The writes that a handler returns take effect exactly once"
)
@pytest.mark.parametrize("died", ["before the mark", "after the mark"])
def test_a_process_that_dies_around_its_mark_writes_once(world, ended, died: str) -> None:
    world.handler(lambda ctx, context, result: [an_order()])
    ended()
    if died == "before the mark":
        world.die_before("transact_write_items")
    else:
        world.die_after("transact_write_items")
    with pytest.raises(world.Died):
        completed()
    world.tick(60)
    assert completed() is None
    assert world.item("an order")["settled"] == {"N": "1"}
    assert world.run(KEY).completion == "done"


@pytest.mark.parametrize("writes", [[], [an_order()]], ids=["no writes", "writes"])
def test_a_mark_whose_answer_is_lost_counts_once(world, ended, writes: list[Any]) -> None:
    calls: list[int] = []

    def done(*given: Any) -> list[Any]:
        calls.append(1)
        return writes

    world.handler(done)
    ended()
    if writes:
        world.lose_answer("transact_write_items")
    else:
        world.pass_by("update_item")
        world.lose_answer("update_item")
    assert completed() is None
    assert calls == [1]
    assert world.run(KEY).completion == "done"
    assert world.run(KEY).completion_error is None


# AWS's trouble at the mark, and the handler's own fault


MARK = {True: "transact_write_items", False: "update_item"}
TROUBLES = [
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TransactionConflictException",
    "TransactionInProgressException",
    "InternalServerError",
    "ServiceUnavailable",
    "ExpiredTokenException",
    "NobodyKnowsThisOne",
]


@pytest.fixture
def writes(world, ended) -> list[int]:
    """A run whose handler returns one write. How often it was called."""
    calls: list[int] = []

    def done(*given: Any) -> list[Any]:
        calls.append(world.now_ms)
        return [an_order()]

    world.handler(done)
    ended()
    return calls


def is_done_once(world, *, tries: int = 1) -> None:
    run = world.run(KEY)
    assert (run.completion, run.completion_tries, run.completion_error) == ("done", tries, None)
    assert world.item("an order")["settled"] == {"N": "1"}


@pytest.mark.parametrize("code", TROUBLES)
@pytest.mark.parametrize("with_writes", [True, False], ids=["writes", "no writes"])
def test_a_mark_that_aws_refuses_for_a_while_is_repeated_without_the_handler(
    world, ended, code: str, with_writes: bool
) -> None:
    calls: list[int] = []

    def done(*given: Any) -> list[Any]:
        calls.append(1)
        return [an_order()] if with_writes else []

    world.handler(done)
    ended()
    if not with_writes:
        world.pass_by("update_item")  # the lease
    world.refuse(MARK[with_writes], code, times=4)
    assert completed() is None
    assert calls == [1]
    run = world.run(KEY)
    assert (run.completion, run.completion_tries) == ("done", 1)


@pytest.mark.parametrize(
    "reason",
    ["TransactionConflict", "ProvisionedThroughputExceeded", "ThrottlingError", "NobodyKnowsIt"],
)
@pytest.mark.parametrize("entry", ["the mark's", "the handler's"])
def test_a_transaction_that_is_canceled_through_no_fault_of_its_own_is_repeated(
    world, writes: list[int], reason: str, entry: str
) -> None:
    codes = (reason, "None") if entry == "the handler's" else ("None", reason)
    world.cancel_transactions(*codes, times=4)
    assert completed() is None
    assert len(writes) == 1
    is_done_once(world)


def test_repeated_marks_are_one_transaction_to_dynamodb(world, writes: list[int]) -> None:
    """They have the same token and the same content, also when time has passed."""
    world.cancel_transactions("TransactionConflict", "None", times=6)
    completed()
    sent = [given for operation, given in world.calls if operation == "transact_write_items"]
    assert len(sent) == 7
    assert all(it == sent[0] for it in sent)
    assert sent[0]["ClientRequestToken"] == world.run(KEY).completion_claim


def test_the_pauses_between_marks_grow_and_are_random(
    world, writes: list[int], monkeypatch
) -> None:
    times: list[int] = []

    def conflict(call: Any, parameters: dict[str, Any]) -> Any:
        times.append(world.now_ms)
        raise refusal("ThrottlingException")

    drawn = iter([0.5, 1.5] * 9)
    monkeypatch.setattr("random.SystemRandom.uniform", lambda _, low, high: next(drawn))
    world.on("transact_write_items", *[conflict] * 9)
    completed()
    pauses = [after - before for before, after in pairwise(times)]
    assert pauses == [50, 300, 200, 1200, 800, 4800, 2500, 7500]


@pytest.mark.parametrize("takes_effect", [True, False])
def test_a_mark_that_is_never_answered_is_repeated_and_counts_once(
    world, writes: list[int], takes_effect: bool
) -> None:
    world.not_answer("transact_write_items", takes_effect=takes_effect, times=3)
    assert completed() is None
    assert len(writes) == 1
    is_done_once(world)


def test_a_mark_that_took_effect_and_is_never_answered_is_not_taken_back(
    world, writes: list[int]
) -> None:
    world.not_answer("transact_write_items", takes_effect=True, times=999)
    assert completed() is None
    assert len(writes) == 1
    is_done_once(world)


@pytest.mark.usefixtures("no_jitter")
def test_a_mark_that_aws_never_takes_gives_its_try_back_and_comes_again_later(
    world, writes: list[int], logged
) -> None:
    world.refuse("transact_write_items", "ThrottlingException", times=999)
    assert completed() == 30
    run = world.run(KEY)
    assert (run.completion, run.completion_tries, run.completion_error) == ("pending", 0, None)
    spent = world.now_ms - NOW
    assert 40_000 < spent <= LEFT_MS - 10_000  # It is repeated while the lease has time for it.
    assert run.completion_lease == world.now_ms + 30_000
    lines = logged("completion-unmarked")
    assert [(it["runId"], it["retryInMs"], "Throttling" in it["error"]) for it in lines] == [
        ("r1", 30_000, True)
    ]
    assert completed() == 30  # not before its time
    assert len(writes) == 1


def test_a_missing_right_is_not_waited_for_with_the_message_in_hand(
    world, writes: list[int]
) -> None:
    """It lasts for minutes at least, and other completions wait behind this one."""
    world.refuse("transact_write_items", "AccessDeniedException")
    assert 15 <= (completed() or 0) <= 45
    assert world.made("transact_write_items") == 1
    assert world.run(KEY).completion_tries == 0
    world.tick(45)
    assert completed() is None
    is_done_once(world)


def test_a_try_that_cannot_be_given_back_is_counted_and_the_run_comes_again(
    world, writes: list[int]
) -> None:
    world.refuse("transact_write_items", "AccessDeniedException")
    world.pass_by("update_item")
    world.refuse("update_item", "InternalServerError")
    assert 15 <= (completed() or 0) <= 45
    assert world.run(KEY).completion_tries == 1
    world.tick(60)
    assert completed() is None
    is_done_once(world, tries=2)


def test_a_try_that_is_given_back_twice_is_given_back_once(world, writes: list[int]) -> None:
    world.refuse("transact_write_items", "AccessDeniedException")
    world.pass_by("update_item")
    world.lose_answer("update_item")
    completed()
    assert world.run(KEY).completion_tries == 0


@pytest.mark.parametrize(
    "reasons",
    [
        ("ConditionalCheckFailed", "None"),
        ("ConditionalCheckFailed", "TransactionConflict"),
        ("ItemCollectionSizeLimitExceeded", "None"),
        ("ValidationError", "None"),
    ],
)
def test_a_transaction_that_is_canceled_for_a_write_of_the_handlers_is_its_failed_try(
    world, writes: list[int], reasons: tuple[str, ...]
) -> None:
    world.cancel_transactions(*reasons)
    assert completed() == 1
    run = world.run(KEY)
    assert (run.completion, run.completion_tries) == ("pending", 1)
    assert "TransactionCanceled" in (run.completion_error or "")
    assert world.made("transact_write_items") == 1


@pytest.mark.parametrize(
    "code",
    [
        "ValidationException",
        "ResourceNotFoundException",
        "ItemCollectionSizeLimitExceededException",
        "SerializationException",
        "RequestEntityTooLarge",
    ],
)
def test_writes_that_dynamodb_refuses_for_their_own_sake_are_a_failed_try(
    world, writes: list[int], code: str
) -> None:
    world.refuse("transact_write_items", code)
    assert completed() == 1
    assert code in (world.run(KEY).completion_error or "")
    assert (world.run(KEY).completion_tries, world.made("transact_write_items")) == (1, 1)


def test_writes_that_cannot_be_encoded_are_a_failed_try(world, ended) -> None:
    deep: Any = {"S": "x"}
    for _ in range(5000):
        deep = {"L": [deep]}
    put = {"Put": {"TableName": "runs", "Item": {"run": {"S": "an order"}, "deep": deep}}}
    world.handler(lambda *given: [put])
    ended()
    assert completed() == 1
    assert world.run(KEY).completion_tries == 1


def test_an_error_of_aws_that_the_handler_raises_is_its_own(world, ended) -> None:
    def done(*given: Any) -> None:
        raise refusal("ThrottlingException")

    world.handler(done)
    ended()
    assert completed() == 1
    assert world.run(KEY).completion_tries == 1


# The function


def handled(world, context: Any, *keys: str) -> list[str]:
    """The keys of the runs whose events go back."""
    event = world.deliver("completions", *(f'{{"v": 1, "run": "{key}"}}' for key in keys))
    back = bodies_handed_back(event, answer_of(completion.handler, event, context))
    return [key for key in keys for body in back if f'"{key}"' in body]


def test_a_batch_of_events_has_its_handlers_called(world, ended, lambda_context) -> None:
    calls = done_with(world)
    keys = [ended(run_id=f"r{n}").key for n in range(3)]
    assert handled(world, lambda_context(), *keys) == []
    assert [ctx.run_id for ctx, _, _ in calls] == ["r0", "r1", "r2"]


def test_an_event_whose_handler_raises_comes_back_alone_after_its_delay(
    world, ended, lambda_context
) -> None:
    def done(ctx: Any, context: Any, result: Any) -> None:
        if ctx.run_id == "r1":
            raise ValueError("bang")

    world.handler(done)
    keys = [ended(run_id=f"r{n}").key for n in range(3)]
    assert handled(world, lambda_context(), *keys) == ["default#r1"]
    assert world.comes_back_in() == [1]
    assert [world.run(key).completion for key in keys] == ["done", "pending", "done"]


def test_an_event_that_arrives_twice_in_one_batch_has_one_effect(
    world, ended, lambda_context
) -> None:
    calls = done_with(world)
    ended()
    assert handled(world, lambda_context(), KEY, KEY) == []
    assert len(calls) == 1


@pytest.mark.promise(
    "Results and completion",
    "A handler has all of its `timeoutSeconds` when it begins, or begins later",
)
def test_a_record_is_begun_only_if_its_whole_promised_time_is_left(
    world, ended, lambda_context, logged
) -> None:
    """The handlers were promised 40 s, and their mark needs 10."""
    calls = done_with(world)
    keys = [ended(run_id=f"r{n}").key for n in range(3)]
    # asked before reading, before the lease, and for the lease
    times = [60_000, 60_000, 60_000, 50_000, 50_000, 50_000, 49_999]
    assert handled(world, lambda_context(*times), *keys) == keys[2:]
    assert [ctx.run_id for ctx, _, _ in calls] == ["r0", "r1"]
    assert world.comes_back_in() == [1]
    assert world.run(keys[2]).completion_tries == 0
    assert [line["runId"] for line in logged("completion-postponed")] == ["r2"]


def test_the_first_record_of_a_batch_is_no_exception(world, ended, lambda_context) -> None:
    calls = done_with(world)
    before = ended()
    assert handled(world, lambda_context(49_999), KEY) == [KEY]
    assert (calls, world.run(KEY)) == ([], before)


def test_payloads_that_were_read_too_slowly_cost_no_try(world, ended) -> None:
    calls = done_with(world)
    before = ended()
    left = iter([60_000, 49_999])
    assert complete(KEY, remaining_ms=lambda: next(left)) == 1
    assert (calls, world.run(KEY)) == ([], before)


def test_an_event_that_names_no_run_is_parked(world, lambda_context) -> None:
    event = world.deliver("completions", "hello")
    assert completion.handler(event, lambda_context()) == {"batchItemFailures": []}
    assert [it["Body"] for it in world.messages("parked")] == ["hello"]
