"""One attempt: the message table acted out on a real item, and what a run's races come to."""

import threading
from dataclasses import fields
from typing import Any
from unittest.mock import ANY

import pytest

from workpool.aws import store
from workpool.core.retry import Finish, Reschedule
from workpool.core.run import Payload, Run
from workpool.errors import NonRetryableError
from workpool.verbs.attempt import LOST, attempt

NOW = 1_790_000_000_000  # the world's
DUE = NOW - 2000
LEFT_MS = 70_000
LEASE = NOW + LEFT_MS
AGAIN = NOW + 1000  # the default pool's first backoff is 250 ms
SHOWN_AGAIN = "2026-09-21T14:13:21Z"
EXPIRES = NOW // 1000 + 86_400

pytestmark = pytest.mark.usefixtures("no_jitter")


def attempted(message: Any, *, left_ms: int = LEFT_MS) -> float | None:
    return attempt(message, remaining_ms=lambda: left_ms)


def changed(before: Run, after: Run) -> dict[str, Any]:
    """The fields of a run that differ, as they are now; the notes on its attempts apart."""
    names = [field.name for field in fields(Run) if field.name not in ("started_at", "attempts")]
    return {it: getattr(after, it) for it in names if getattr(before, it) != getattr(after, it)}


CLAIMED = {"claim": ANY, "lease": None}
OVER = {"finished_at": NOW, "expires_at": EXPIRES, "open": None}
SUCCEEDED = {
    "kind": "completed",
    "result": "success",
    "return_value": Payload('{"n":1}'),
    "claim": ANY,
} | OVER
RETRIED = {"kind": "scheduled", "retries": 1, "due": AGAIN}
NOTHING: dict[str, Any] = {}
ENQUEUED: dict[str, Any] = {"kind": "enqueued"}
SCHEDULED: dict[str, Any] = {"kind": "scheduled"}
RUNNING = {"kind": "running", "claim": "c1", "lease": NOW + 9_500}
LEASE_OVER = RUNNING | {"lease": NOW}
SHOWN_DUE = "2026-09-21T14:13:18Z"


@pytest.mark.parametrize(
    ("state", "for_due", "writes", "answer", "back"),
    [
        # unknown or ended, any message: answer how it ended; drop
        ({"kind": "completed", "result": "success"}, DUE, NOTHING, ("completed",), None),
        ({"kind": "completed", "result": "failed"}, DUE - 1000, NOTHING, ("completed",), None),
        ({"kind": "canceled", "result": "canceled"}, DUE + 1000, NOTHING, ("canceled",), None),
        # scheduled for another due: with a token, repeat the answer; else stale
        (SCHEDULED, DUE - 1000, NOTHING, ("retry", SHOWN_DUE), None),
        (SCHEDULED, DUE + 1000, NOTHING, ("retry", SHOWN_DUE), None),
        # at another due, any other: stale
        (ENQUEUED, DUE - 1000, NOTHING, ("enqueued",), None),
        (RUNNING, DUE - 1000, NOTHING, ("running",), None),
        (LEASE_OVER, DUE - 1000, NOTHING, ("running",), None),
        # running, lease alive: back when the lease is over
        (RUNNING, DUE, NOTHING, None, 9.5),
        # running, lease over: lose, then as any failed attempt
        (LEASE_OVER, DUE, RETRIED | {"lease": None}, ("retry", SHOWN_AGAIN), None),
        (
            LEASE_OVER | {"retries": 4},
            DUE,
            {"kind": "completed", "result": "failed", "error": LOST, "lease": None} | OVER,
            ("completed",),
            None,
        ),
        (
            LEASE_OVER | {"cancel_requested": True},
            DUE,
            {"kind": "canceled", "result": "canceled", "lease": None} | OVER,
            ("canceled",),
            None,
        ),
        # enqueued or scheduled, same due: claim
        (ENQUEUED, DUE, SUCCEEDED, ("completed",), None),
        (SCHEDULED, DUE, SUCCEEDED, ("completed",), None),
        (SCHEDULED | {"due": NOW}, NOW, SUCCEEDED, ("completed",), None),
    ],
)
@pytest.mark.parametrize("token", [None, "T"])
def test_a_message_is_acted_upon_as_the_message_table_says(
    world,
    message,
    token: str | None,
    state: dict[str, Any],
    for_due: int,
    writes: dict[str, Any],
    answer: tuple[str, ...] | None,
    back: float | None,
) -> None:
    world.action(lambda ctx, args: {"n": 1})
    before = world.put(world.a_run(**({"due": DUE} | state)))
    assert attempted(message(before, token=token, due=for_due)) == back
    expected = dict(writes)
    if token and expected.get("kind") in ("scheduled", "completed", "canceled"):
        expected["execution"] = "r1-1790000000000-1"
    assert changed(before, world.run("default#r1")) == expected
    assert world.answers() == ([("T", *answer)] if token and answer else [])


@pytest.mark.parametrize(("token", "answers"), [(None, []), ("T", [("T", "unknown")])])
def test_a_message_for_an_unknown_run_is_dropped_and_its_token_answered(
    world, message, token: str | None, answers: list[tuple[str, str]]
) -> None:
    assert attempted(message(world.a_run(), token=token)) is None
    assert world.answers() == answers
    assert world.items() == []


def test_an_early_message_comes_back_when_the_run_is_due(world, message) -> None:
    before = world.put(world.a_run(kind="scheduled", due=NOW + 2500))
    assert attempted(message(before)) == 2.5
    assert world.run("default#r1") == before


def test_the_runs_own_timer_proves_that_it_is_due_whatever_the_clock_says(world, message) -> None:
    world.action(lambda ctx, args: {"n": 1})
    before = world.put(world.a_run(kind="scheduled", due=NOW + 2500))
    assert attempted(message(before, token="T")) is None
    assert world.run("default#r1").result == "success"


def test_a_message_never_comes_back_sooner_than_a_second(world, message) -> None:
    before = world.put(world.a_run(kind="scheduled", due=NOW + 1))
    assert attempted(message(before)) == 1


def test_while_the_action_runs_the_run_is_claimed_until_the_functions_deadline(
    world, message
) -> None:
    seen: list[Run] = []
    world.action(lambda ctx, args: seen.append(world.run("default#r1")))
    attempted(message(world.put(world.a_run())))
    assert [(run.kind, run.lease, bool(run.claim)) for run in seen] == [("running", LEASE, True)]


def test_each_attempt_has_a_claim_of_its_own(world, message) -> None:
    for run_id in ("r1", "r2"):
        attempted(message(world.put(world.a_run(run_id=run_id))))
    assert world.run("default#r1").claim != world.run("default#r2").claim


def test_an_action_is_told_about_its_run(world, message) -> None:
    told: list[Any] = []

    def work(ctx: Any, args: Any) -> None:
        told.append((ctx.run_id, ctx.pool, ctx.action, ctx.retries, ctx.annotation, args))
        told.append((ctx.idempotency_key, ctx.remaining_ms()))

    world.action(work)
    attempted(message(world.put(world.a_run(retries=3, annotation="o1", args=Payload('{"n":1}')))))
    assert told == [("r1", "default", "jobs.work", 3, "o1", {"n": 1}), ("r1", 60_000)]


def test_the_remaining_time_ends_a_margin_before_the_functions_own(world, message) -> None:
    told: list[int] = []

    def work(ctx: Any, args: Any) -> None:
        world.tick(2)
        told.append(ctx.remaining_ms())
        world.tick(60)
        told.append(ctx.remaining_ms())

    world.redeploy(actionTimeoutSeconds=10)
    world.action(work)
    attempted(message(world.put(world.a_run())), left_ms=15_000)
    assert told == [8_000, 0]


@pytest.mark.parametrize(
    ("value", "stored"),
    [(None, "null"), ({"ü": [1.5, True]}, '{"ü":[1.5,true]}'), ("x" * 124_998, ANY), ("", '""')],
)
def test_what_an_action_returns_is_stored_as_json(world, message, value: Any, stored: Any) -> None:
    world.action(lambda ctx, args: value)
    attempted(message(world.put(world.a_run())))
    assert (world.run("default#r1").result, world.run("default#r1").return_value.text) == (
        "success",
        stored,
    )


@pytest.mark.promise(
    "Results and completion",
    "A return value that is no JSON, too large or nested too deeply fails the run at once",
)
@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({1, 2}, "the return value is not JSON: Object of type set is not JSON serializable"),
        (float("nan"), "the return value is not JSON: Out of range float values"),
        ("\ud800", "the return value is not JSON: 'utf-8' codec can't encode"),
        ("x" * 15_999_999, "the return value must be at most 16000000 bytes of JSON, got 16000001"),
        ("ü" * 8_000_000, "the return value must be at most 16000000 bytes of JSON, got 16000002"),
    ],
    ids=["a set", "NaN", "a lone surrogate", "a byte too long", "too long in bytes"],
)
def test_a_return_value_that_no_run_can_carry_fails_it_at_once(
    world, message, value: Any, error: str
) -> None:
    world.action(lambda ctx, args: value)
    attempted(message(world.put(world.a_run())))
    run = world.run("default#r1")
    assert (run.kind, run.result, run.retries) == ("completed", "failed", 0)
    assert run.error is not None
    assert run.error.startswith(error)


@pytest.mark.promise(
    "Results and completion",
    "A return value that is no JSON, too large or nested too deeply fails the run at once",
)
@pytest.mark.parametrize(
    ("depth", "error"),
    [
        (200, None),
        (201, "the return value must be nested at most 200 deep"),
        (100_000, "the return value is not JSON: maximum recursion depth exceeded"),
    ],
)
def test_a_return_value_nested_too_deeply_fails_the_run_at_once(
    world, message, depth: int, error: str | None
) -> None:
    nested: Any = 1
    for _ in range(depth):
        nested = (nested,)
    world.action(lambda ctx, args: nested)
    attempted(message(world.put(world.a_run())))
    run = world.run("default#r1")
    assert (run.kind, run.retries) == ("completed", 0)
    assert (run.error or "").startswith(error or "")
    assert run.result == ("success" if error is None else "failed")


class Impolite(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Declined(NonRetryableError):
    pass


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (ValueError("boom"), "boom"),
        (ValueError(), "ValueError"),
        (SystemExit(3), "3"),
        (SystemExit(), "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (ValueError("x" * 5000), "x" * 4096),
        (ValueError("\ud800"), "?"),
        (Impolite(), "Impolite"),
        (store.Refused(None), "None"),
        (RecursionError("deep"), "deep"),
    ],
    ids=lambda it: type(it).__name__,
)
def test_whatever_an_action_raises_is_a_failed_attempt(
    world, message, raised: BaseException, error: str
) -> None:
    def work(ctx: Any, args: Any) -> None:
        raise raised

    world.action(work)
    first = world.put(world.a_run(run_id="r1"))
    last = world.put(world.a_run(run_id="r2", retries=4))
    for run in (first, last):
        assert attempted(message(run)) is None
    assert changed(first, world.run(first.key)) == RETRIED | {"claim": ANY}
    assert (world.run(last.key).result, world.run(last.key).error) == ("failed", error)


@pytest.mark.promise("Retries", "NonRetryableError and its subclasses skip the remaining retries")
@pytest.mark.parametrize("error", [NonRetryableError("no card"), Declined("no card")])
def test_a_non_retryable_error_ends_the_run_after_one_attempt(
    world, message, error: Exception
) -> None:
    def work(ctx: Any, args: Any) -> None:
        raise error

    world.action(work)
    attempted(message(world.put(world.a_run(max_retries=9)), token="T"))
    run = world.run("default#r1")
    assert (run.kind, run.result, run.error, run.retries) == ("completed", "failed", "no card", 0)
    assert world.answers() == [("T", "completed")]


def test_an_action_that_is_not_deployed_fails_the_attempt(world, message) -> None:
    attempted(message(world.put(world.a_run(action="jobs.nothing", retries=4))))
    error = world.run("default#r1").error
    assert error is not None
    assert error.startswith("no action 'jobs.nothing'")


def test_a_module_that_cannot_be_imported_fails_the_attempt(world, message) -> None:
    text = "from workpool import action\nraise OSError('no key')\n@action\ndef work(c, a): pass"
    world.code("actions", "jobs", text)
    attempted(message(world.put(world.a_run(retries=4))))
    assert world.run("default#r1").error == "no key"


def test_an_async_action_is_awaited(world, message) -> None:
    world.code(
        "actions",
        "jobs",
        "import asyncio\nfrom workpool import action\n@action\nasync def work(ctx, args):\n"
        "    await asyncio.sleep(0)\n    return args['n'] + 1\n",
    )
    attempted(message(world.put(world.a_run(args=Payload('{"n":1}')))))
    assert world.run("default#r1").return_value.text == "2"


def test_an_async_action_that_raises_is_a_failed_attempt(world, message) -> None:
    def work(ctx: Any, args: Any) -> None:
        raise ValueError("boom")

    world.action(work, head="async def")
    attempted(message(world.put(world.a_run(retries=4))))
    assert world.run("default#r1").error == "boom"


def failing(ctx: Any, args: Any) -> None:
    raise ValueError("boom")


@pytest.mark.promise("Options", "The options of a run override those of its pool")
@pytest.mark.parametrize(
    ("options", "due"),
    [
        ({}, NOW + 4000),
        ({"initialBackoffMs": 1000}, NOW + 1000),
        ({"initialBackoffMs": 1000.5}, NOW + 2000),
        ({"initialBackoffMs": 60_000, "base": 3}, NOW + 60_000),
    ],
)
def test_a_runs_own_options_override_its_pools(
    world, message, options: dict[str, Any], due: int
) -> None:
    world.action(failing)
    run = world.submit(pool="other", options=options)
    attempted(message(run))
    assert world.run(run.key).due == due


def test_a_runs_own_number_of_retries_overrides_its_pools(world, message) -> None:
    world.action(failing)
    retries = {}
    for given in (None, 0, 2):
        options = {} if given is None else {"maxRetries": given}
        run = world.submit(pool="other", options=options)
        while world.run(run.key).kind != "completed":
            world.tick(3600)
            attempted(message(world.run(run.key)))
        retries[given] = world.run(run.key).retries
    assert retries == {None: 1, 0: 0, 2: 2}


def test_a_runs_own_base_shapes_its_later_backoffs(world, message) -> None:
    world.action(failing)
    run = world.submit(options={"initialBackoffMs": 1000, "base": 10})
    delays = []
    for _ in range(3):
        attempted(message(world.run(run.key)))
        delays.append(world.run(run.key).due - world.now_ms)
        world.tick(3600)
    assert delays == [1000, 10_000, 100_000]


@pytest.mark.promise(
    "Retries",
    "The delay before retry n is `initialBackoffMs * base^(n-1) "
    "* u`, with a random u in [0.5, 1.5)",
)
def test_jitter_is_drawn_from_half_to_one_and_a_half(world, message, monkeypatch) -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(_: Any, low: float, high: float) -> float:
        drawn.append((low, high))
        return 1.49

    monkeypatch.setattr("random.SystemRandom.uniform", uniform)
    world.action(failing)
    run = world.submit(options={"initialBackoffMs": 10_000})
    attempted(message(run))
    assert drawn == [(0.5, 1.5)]
    assert world.run(run.key).due == NOW + 15_000  # 14.9 s, rounded up


def test_a_run_forgets_itself_after_its_pools_retention_unless_a_completion_waits(
    world, message
) -> None:
    world.action(lambda ctx, args: None)
    plain, waiting = world.submit(), world.submit(options={"onComplete": "jobs.done"})
    for run in (plain, waiting):
        attempted(message(run))
    assert world.run(plain.key).expires_at == EXPIRES
    assert world.run(plain.key).open is None
    assert world.run(waiting.key).expires_at is None
    assert world.run(waiting.key).completion == "pending"


# Lost answers: a write counts once.


def test_a_claim_whose_answer_is_lost_runs_the_action_once(world, message) -> None:
    calls: list[int] = []
    world.action(lambda ctx, args: calls.append(1))
    world.lose_answer("update_item")
    attempted(message(world.put(world.a_run())))
    assert calls == [1]
    assert world.run("default#r1").result == "success"


@pytest.mark.parametrize("fails", [False, True])
def test_an_outcome_whose_answer_is_lost_is_handed_over_as_if_it_had_come(
    world, message, logged, fails: bool
) -> None:
    world.action(failing if fails else lambda ctx, args: None)
    world.pass_by("update_item")
    world.lose_answer("update_item")
    attempted(message(world.put(world.a_run()), token="T"))
    answer = ("retry", SHOWN_AGAIN) if fails else ("completed",)
    assert world.answers() == [("T", *answer)]
    assert len(logged("job-retry" if fails else "job-end")) == 1
    assert world.run("default#r1").retries == (1 if fails else 0)


# Tokens whose task was closed, and answers that Step Functions does not take.


@pytest.mark.parametrize("code", ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"])
@pytest.mark.parametrize("operation", ["send_task_success", "send_task_failure"])
def test_a_token_that_is_closed_needs_no_answer(world, message, code: str, operation: str) -> None:
    world.action(failing if operation == "send_task_failure" else lambda ctx, args: None)
    world.refuse(operation, code)
    assert attempted(message(world.put(world.a_run()), token="T")) is None
    assert world.made(operation) == 1


@pytest.mark.parametrize("fails", [False, True])
def test_an_outcome_that_the_table_refuses_is_written_while_the_lease_is_alive(
    world, message, fails: bool
) -> None:
    """The action is done: the table's trouble must not cost the run its attempt."""
    calls: list[int] = []

    def work(ctx: Any, args: Any) -> None:
        calls.append(1)
        if fails:
            raise ValueError("boom")

    world.action(work)
    world.pass_by("update_item")
    world.refuse("update_item", "ProvisionedThroughputExceededException", times=9)
    deadline_ms = NOW + LEFT_MS
    first = message(world.put(world.a_run()), token="T")
    assert attempt(first, remaining_ms=lambda: deadline_ms - world.now_ms) is None
    run = world.run("default#r1")
    assert (calls, run.kind) == ([1], "scheduled" if fails else "completed")
    assert len(world.answers()) == 1


def test_an_outcome_that_the_table_never_takes_is_left_to_the_lease(world, message) -> None:
    world.action(lambda ctx, args: None)
    world.pass_by("update_item")
    world.refuse("update_item", "ProvisionedThroughputExceededException", times=999)
    deadline_ms = NOW + LEFT_MS
    first = message(world.put(world.a_run()), token="T")
    with pytest.raises(Exception, match="ProvisionedThroughput"):
        attempt(first, remaining_ms=lambda: deadline_ms - world.now_ms)
    assert world.run("default#r1").kind == "running"
    assert NOW + LEFT_MS - 12_000 < world.now_ms <= NOW + LEFT_MS - 2_000
    assert world.answers() == []


@pytest.mark.parametrize("operation", ["send_task_success", "send_task_failure"])
def test_an_answer_that_was_not_taken_is_repeated_at_redelivery_without_the_action(
    world, message, operation: str
) -> None:
    calls: list[int] = []

    def work(ctx: Any, args: Any) -> None:
        calls.append(1)
        if operation == "send_task_failure":
            raise ValueError("boom")

    world.action(work)
    first = message(world.put(world.a_run()), token="T")
    world.refuse(operation, "ThrottlingException")
    with pytest.raises(Exception, match="ThrottlingException"):
        attempted(first)
    assert attempted(first) is None
    assert calls == [1]
    answer = ("retry", SHOWN_AGAIN) if operation == "send_task_failure" else ("completed",)
    assert world.answers() == [("T", *answer)] * 2


# Races: what happens between this attempt's read and its write.


def other_finishes(run: Run, claim: str = "c2") -> None:
    """Another consumer declares the attempt lost, claims the next one and ends the run."""
    again = store.reschedule(run, Reschedule(due=NOW + 5000, error=LOST), execution=None)
    claimed = store.claim(again, claim=claim, lease=LEASE)
    success = Finish(result="success", return_value=Payload('"r1-1-9"'))
    store.finish(claimed, success, finished_at=NOW, expires_at=EXPIRES)


@pytest.mark.promise(
    "Results and completion", "A second or late report for an attempt changes nothing"
)
@pytest.mark.parametrize("fails", [False, True])
def test_an_attempt_that_was_declared_lost_changes_nothing_when_it_ends_late(
    world, message, logged, fails: bool
) -> None:
    def work(ctx: Any, args: Any) -> str:
        other_finishes(world.run("default#r1"))
        if fails:
            raise ValueError("late")
        return "mine"

    world.action(work)
    assert attempted(message(world.put(world.a_run()), token="T")) is None
    run = world.run("default#r1")
    assert (run.result, run.return_value.text, run.retries, run.claim) == (
        "success",
        '"r1-1-9"',
        1,
        "c2",
    )
    assert world.answers() == [("T", "completed")]
    assert logged("job-end") == []


@pytest.mark.parametrize(("token", "answers"), [(None, []), ("T", [("T", "retry", SHOWN_AGAIN)])])
def test_a_lost_attempt_that_succeeds_late_leaves_the_retry_to_its_timer(
    world, message, token: str | None, answers: list[Any]
) -> None:
    def work(ctx: Any, args: Any) -> None:
        lost = Reschedule(due=AGAIN, error=LOST)
        store.reschedule(world.run("default#r1"), lost, execution="r1-1-9")

    world.action(work)
    assert attempted(message(world.put(world.a_run()), token=token)) is None
    run = world.run("default#r1")
    assert (run.kind, run.retries, run.due, run.execution) == ("scheduled", 1, AGAIN, "r1-1-9")
    assert world.answers() == answers


@pytest.mark.parametrize("fails", [False, True])
def test_an_attempt_whose_run_was_forgotten_meanwhile_ends_quietly(
    world, message, fails: bool
) -> None:
    def work(ctx: Any, args: Any) -> None:
        world.client("dynamodb").delete_item(TableName="runs", Key={"run": {"S": "default#r1"}})
        if fails:
            raise ValueError("late")

    world.action(work)
    assert attempted(message(world.put(world.a_run()), token="T")) is None
    assert world.items() == []
    assert world.answers() == [("T", "unknown")]


def test_a_claim_lost_to_another_consumer_sends_the_message_back(world, message) -> None:
    calls: list[int] = []
    world.action(lambda ctx, args: calls.append(1))
    run = world.put(world.a_run())
    world.meanwhile("update_item", lambda: world.put(world.a_run(**(RUNNING | {"due": run.due}))))
    assert attempted(message(run, token="T")) == 9.5
    assert calls == []
    assert world.answers() == []


@pytest.mark.promise("Cancel", "A canceled run that waits ends at once and never starts")
def test_a_run_canceled_between_read_and_claim_never_starts(world, message) -> None:
    calls: list[int] = []
    world.action(lambda ctx, args: calls.append(1))
    run = world.put(world.a_run())
    world.meanwhile("update_item", lambda: store.cancel(run, finished_at=NOW, expires_at=EXPIRES))
    assert attempted(message(run, token="T")) is None
    assert calls == []
    assert world.run("default#r1").kind == "canceled"
    assert world.answers() == [("T", "canceled")]


@pytest.mark.promise(
    "Cancel", "A cancel does not interrupt an action that runs, and its success stays a success"
)
@pytest.mark.promise(
    "Cancel", "After a cancel, a failed attempt ends the run as canceled, even the last attempt"
)
@pytest.mark.parametrize(
    ("outcome", "retries", "kind", "result"),
    [
        ("success", 0, "completed", "success"),
        ("failure", 0, "canceled", "canceled"),
        ("failure", 4, "canceled", "canceled"),
        ("fatal", 0, "canceled", "canceled"),
    ],
)
@pytest.mark.parametrize("moment", ["while the action runs", "between decision and write"])
def test_a_request_to_cancel_turns_a_failure_into_a_cancel_but_not_a_success(
    world, message, logged, outcome: str, retries: int, kind: str, result: str, moment: str
) -> None:
    def work(ctx: Any, args: Any) -> None:
        if moment == "while the action runs":
            store.ask_to_cancel(world.run("default#r1"))
        if outcome == "failure":
            raise ValueError("boom")
        if outcome == "fatal":
            raise NonRetryableError("boom")

    world.action(work)
    if moment == "between decision and write":
        world.pass_by("update_item")
        world.meanwhile("update_item", lambda: store.ask_to_cancel(world.run("default#r1")))
    attempted(message(world.put(world.a_run(retries=retries)), token="T"))
    run = world.run("default#r1")
    assert (run.kind, run.result, run.error, run.retries) == (kind, result, None, retries)
    assert world.answers() == [("T", kind)]
    assert [line["result"] for line in logged("job-end")] == [result]


def test_a_worker_that_two_declare_lost_at_once_is_lost_once(world, message) -> None:
    run = world.put(world.a_run(**LEASE_OVER))
    world.meanwhile("update_item", lambda: attempted(message(run)))
    assert attempted(message(run)) is None
    assert world.run("default#r1").retries == 1
    assert world.run("default#r1").kind == "scheduled"


# The watchdog. Ending the process is what the tests cannot have, so they see its wish instead.


class Ended(threading.Event):
    code: int | None = None

    def __call__(self, code: int) -> None:
        self.code = code
        self.set()


@pytest.fixture
def process_end(monkeypatch: pytest.MonkeyPatch) -> Ended:
    ended = Ended()
    monkeypatch.setattr("os._exit", ended)
    return ended


@pytest.mark.parametrize(
    ("state", "kind", "answer"),
    [
        ({}, "scheduled", ("retry", SHOWN_AGAIN)),
        ({"retries": 4}, "completed", ("completed",)),
    ],
)
def test_the_watchdog_writes_a_failed_attempt_before_the_deadline_and_ends_the_process(
    world, message, process_end: Ended, state: dict[str, Any], kind: str, answer: tuple[str, ...]
) -> None:
    world.redeploy(actionTimeoutSeconds=0.03)
    release = threading.Event()
    world.action(lambda ctx, args: release.wait(30) and "late")
    first = message(world.put(world.a_run(**state)), token="T")
    consumer = threading.Thread(target=attempted, args=[first], kwargs={"left_ms": 5_030})
    consumer.daemon = True
    consumer.start()
    assert process_end.wait(30)
    assert process_end.code == 1
    written = world.run("default#r1")
    assert written.kind == kind
    if kind == "completed":
        assert written.error == "the action ran longer than its 0.03 s and was ended"
    assert world.answers() == [("T", *answer)]
    release.set()
    consumer.join(0.1)
    assert consumer.is_alive()  # It never returns: the slot is not free while the process lives.
    assert world.run("default#r1") == written


def test_the_watchdog_ends_the_process_even_if_its_write_fails(
    world, message, process_end: Ended
) -> None:
    world.redeploy(actionTimeoutSeconds=0.03)
    release = threading.Event()
    world.action(lambda ctx, args: release.wait(30))
    world.pass_by("update_item")
    world.refuse("update_item", "InternalServerError", times=999)
    threading.excepthook, hook = lambda args: None, threading.excepthook
    try:
        first = message(world.put(world.a_run()))
        consumer = threading.Thread(target=attempted, args=[first], kwargs={"left_ms": 5_030})
        consumer.daemon = True
        consumer.start()
        assert process_end.wait(30)
    finally:
        threading.excepthook = hook
        release.set()
    assert process_end.code == 1
    assert world.run("default#r1").kind == "running"


@pytest.mark.parametrize("fails", [False, True])
def test_an_attempt_that_is_over_leaves_no_watchdog_behind(world, message, fails: bool) -> None:
    world.action(failing if fails else lambda ctx, args: None)
    attempted(message(world.put(world.a_run())))
    watchdogs = [it for it in threading.enumerate() if isinstance(it, threading.Timer)]
    for watchdog in watchdogs:
        watchdog.join(1)
    assert [it for it in watchdogs if it.is_alive()] == []


def test_the_pools_own_limit_binds_where_the_function_has_more_time(
    world, message, monkeypatch
) -> None:
    limits: list[float] = []

    class Timer(threading.Thread):
        def __init__(self, seconds: float, function: Any) -> None:
            super().__init__()
            limits.append(seconds)

        def start(self) -> None: ...

        def cancel(self) -> None: ...

    monkeypatch.setattr("threading.Timer", Timer)
    world.action(lambda ctx, args: None)
    for run_id, left_ms in (("r1", 900_000), ("r2", 65_000)):
        attempted(message(world.put(world.a_run(run_id=run_id))), left_ms=left_ms)
    slow_claim = iter([65_000, 60_500])
    attempt(message(world.put(world.a_run(run_id="r3"))), remaining_ms=lambda: next(slow_claim))
    assert limits == [60, 60, 59.5]


@pytest.mark.promise(
    "Options", "An action has all of its `actionTimeoutSeconds` when it begins, or begins later"
)
@pytest.mark.parametrize("retries", [0, 4])
def test_an_attempt_without_its_promised_time_comes_back_at_no_cost(
    world, message, logged, retries: int
) -> None:
    calls: list[int] = []
    world.action(lambda ctx, args: calls.append(ctx.remaining_ms()))
    before = world.put(world.a_run(retries=retries, max_retries=4))
    assert attempted(message(before, token="T"), left_ms=64_999) == 1
    assert (world.run(before.key), calls, world.answers()) == (before, [], [])
    assert [line["remainingMs"] for line in logged("attempt-postponed")] == [64_999]
    assert attempted(message(before, token="T"), left_ms=65_000) is None
    assert calls == [60_000]


def test_an_attempt_that_is_only_written_off_needs_no_time(world, message) -> None:
    lost = world.put(world.a_run(**LEASE_OVER))
    assert attempted(message(lost), left_ms=10) is None
    assert world.run(lost.key).kind == "scheduled"
