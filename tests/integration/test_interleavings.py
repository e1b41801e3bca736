"""The races that shaped the design, walked step by step; the numbers are those of its list.

M0 is the relay's message, M1 the Retrier's first with token T. A consumer that dies raises `Died`
out of the step it died in; its message comes back once its lease is over.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from handlers import consumer, dead_letters, relay
from tests.support.invocations import answer_of
from workpool.aws import store
from workpool.core.message import Message
from workpool.core.retry import Finish, Reschedule
from workpool.core.run import Payload, Run
from workpool.verbs.attempt import LOST, attempt
from workpool.verbs.cancel import cancel
from workpool.verbs.complete import complete
from workpool.verbs.look import look

NOW = 1_790_000_000_000
AGAIN = NOW + 1000
SHOWN_AGAIN = "2026-09-21T14:13:21Z"
KEY = "default#r1"
LEFT_MS = 70_000

pytestmark = pytest.mark.usefixtures("no_jitter")


class Work:
    """An action that fails as often as it is told to, does what it is told to do meanwhile, and
    counts its calls."""

    def __init__(self, *, failures: int = 0) -> None:
        self.failures = failures
        self.calls = 0
        self.meanwhile: Callable[[], Any] = lambda: None

    def __call__(self, ctx: Any, args: Any) -> str:
        self.calls += 1
        do, self.meanwhile = self.meanwhile, lambda: None
        do()
        if self.calls <= self.failures:
            raise ValueError("boom")
        return "done"


@pytest.fixture
def work(world) -> Work:
    action = Work()
    world.action(action)
    return action


def attempted(message: Message) -> float | None:
    return attempt(message, remaining_ms=lambda: LEFT_MS)


def m1(due: int = AGAIN, token: str = "T") -> Message:
    return Message(run=KEY, due=due, token=token, execution="r1-1-1")


def scheduled_again(world) -> Run:
    """The run after its first attempt failed, its execution waiting."""
    return world.put(
        world.a_run(kind="scheduled", retries=1, due=AGAIN, claim="c1", execution="r1-1-1")
    )


def test_01_a_message_delivered_twice_at_once_runs_the_action_once(world, message, work) -> None:
    m0 = message(world.put(world.a_run()))
    copies: list[float | None] = []
    work.meanwhile = lambda: copies.append(attempted(m0))
    assert attempted(m0) is None
    assert copies == [70]
    world.tick(130)
    assert attempted(m0) is None
    assert (work.calls, world.run(KEY).result) == (1, "success")


@pytest.mark.promise("Retries", "A lost worker is a failed attempt, and its error says so")
def test_02_a_consumer_that_dies_after_its_claim_lost_one_attempt(world, message, work) -> None:
    m0 = message(world.put(world.a_run()))
    world.die_after("update_item")
    with pytest.raises(world.Died):
        attempted(m0)
    running = world.run(KEY)
    world.tick(130)
    assert attempted(m0) is None
    run = world.run(KEY)
    assert (run.kind, run.retries, work.calls) == ("scheduled", 1, 0)
    relay.handler(world.change(running, run), None)
    assert list(world.executions()) == [f"r1-{NOW}-1"]


def test_03_a_late_copy_of_the_first_message_is_dropped_while_a_retry_runs(
    world, message, work
) -> None:
    m0 = message(world.a_run())
    scheduled_again(world)
    world.tick(1)
    copies: list[float | None] = []
    work.meanwhile = lambda: copies.append(attempted(m0))
    assert attempted(m1()) is None
    assert copies == [None]
    assert (work.calls, world.answers()) == (1, [("T", "completed")])


def test_04_a_late_copy_of_the_first_message_starts_no_retry(world, message, work) -> None:
    m0 = message(world.a_run())
    before = scheduled_again(world)
    world.tick(60)
    assert attempted(m0) is None
    assert (world.run(KEY), work.calls) == (before, 0)
    assert attempted(m1()) is None
    assert (world.run(KEY).result, work.calls) == ("success", 1)


def test_05_a_reschedule_whose_consumer_dies_gets_its_timer_from_the_relay(
    world, message, work
) -> None:
    work.failures = 1
    m0 = message(world.put(world.a_run()))
    running: list[Run] = []
    work.meanwhile = lambda: running.append(world.run(KEY))
    world.pass_by("update_item")
    world.die_after("update_item")
    with pytest.raises(world.Died):
        attempted(m0)
    relay.handler(world.change(running[0], world.run(KEY)), None)
    assert list(world.executions()) == [f"r1-{NOW}-1"]
    world.tick(130)
    assert attempted(m0) is None
    assert (world.run(KEY).kind, work.calls) == ("scheduled", 1)


def test_06_a_retry_whose_consumer_dies_before_its_answer_is_answered_at_redelivery(
    world, work
) -> None:
    work.failures = 9
    scheduled_again(world)
    world.tick(1)
    world.die_before("send_task_failure")
    with pytest.raises(world.Died):
        attempted(m1())
    due = world.run(KEY).due
    world.tick(130)
    assert attempted(m1()) is None
    assert work.calls == 1
    assert world.answers() == [("T", "retry", "2026-09-21T14:13:22Z")] * 2
    assert due == NOW + 2000


def test_07_a_message_sent_twice_leaves_no_token_without_an_answer(world, work) -> None:
    work.failures = 9
    scheduled_again(world)
    world.tick(1)
    world.refuse("send_task_failure", "TaskTimedOut")
    assert attempted(m1(token="T1")) is None
    assert attempted(m1(token="T2")) is None
    assert work.calls == 1
    assert [answer[:2] for answer in world.answers()] == [("T1", "retry"), ("T2", "retry")]


def test_08_a_clock_that_is_behind_does_not_hold_up_the_runs_own_timer(world, work) -> None:
    scheduled_again(world)
    world.tick(-3)
    assert attempted(m1()) is None
    assert (world.run(KEY).result, work.calls) == ("success", 1)


def test_09_canceling_a_run_of_next_year_stops_its_execution(world, work) -> None:
    run = world.submit(options={"runAfterMs": 300 * 86_400_000})
    relay.handler(world.change(None, run), None)
    cancel("default", run.run_id)
    relay.handler(world.change(run, world.run(run.key)), None)
    stepfunctions = world.client("stepfunctions")
    machine = stepfunctions.list_state_machines()["stateMachines"][0]["stateMachineArn"]
    executions = stepfunctions.list_executions(stateMachineArn=machine)["executions"]
    assert [it["status"] for it in executions] == ["ABORTED"]
    world.tick(300 * 86_400)  # Were it not stopped, its message would find nothing and be answered.
    assert attempted(Message(run=run.key, due=run.due, token="T", execution="r1-1-1")) is None
    assert world.answers() == [("T", "unknown")]


def test_10_an_execution_that_starts_for_a_canceled_run_ends(world, work) -> None:
    scheduled_again(world)
    cancel("default", "r1")
    world.tick(1)
    assert attempted(m1()) is None
    assert (world.answers(), work.calls) == ([("T", "canceled")], 0)


@pytest.mark.parametrize(("failures", "kind"), [(9, "canceled"), (0, "completed")])
def test_11_a_cancel_between_read_and_write_beats_a_failure_but_not_a_success(
    world, message, work, failures: int, kind: str
) -> None:
    work.failures = failures
    m0 = message(world.put(world.a_run()))
    world.pass_by("update_item")
    world.meanwhile("update_item", lambda: cancel("default", "r1"))
    assert attempted(m0) is None
    assert world.run(KEY).kind == kind


def test_12_a_cancel_whose_run_moves_on_meanwhile_looks_again(world) -> None:
    run = world.put(world.a_run(kind="running", claim="c1", lease=NOW + 1))
    again = Reschedule(due=AGAIN, error="boom")
    world.meanwhile("update_item", lambda: store.reschedule(run, again, execution="r1-1-1"))
    assert cancel("default", "r1")["kind"] == "canceled"
    assert world.run(KEY).kind == "canceled"


def test_13_a_claim_whose_answer_is_lost_loses_no_attempt(world, message, work) -> None:
    m0 = message(world.put(world.a_run(max_retries=0)))
    world.lose_answer("update_item")
    assert attempted(m0) is None
    assert (world.run(KEY).result, work.calls) == ("success", 1)


def test_14_a_reschedule_whose_answer_is_lost_still_has_its_timer(world, work) -> None:
    work.failures = 9
    scheduled_again(world)
    world.tick(1)
    world.pass_by("update_item")
    world.lose_answer("update_item")
    assert attempted(m1()) is None
    assert world.answers() == [("T", "retry", "2026-09-21T14:13:22Z")]


def test_15_a_copy_of_the_first_message_in_the_dead_letters_fails_no_live_run(
    world, message, lambda_context
) -> None:
    m0 = message(world.a_run())
    run = world.put(world.a_run(kind="running", retries=2, due=AGAIN, claim="c3", lease=NOW + 9000))
    event = world.deliver("default-dead-letters", m0.body())
    assert dead_letters.handler(event, lambda_context()) == {"batchItemFailures": []}
    assert world.run(KEY) == run
    assert world.messages("default-work") == []


def test_16_while_the_table_is_away_no_run_fails_and_then_the_backlog_drains(
    world, message, work, lambda_context
) -> None:
    run = world.put(world.a_run())
    event = world.deliver("default-work", message(run).body())
    world.refuse("get_item", "AccessDeniedException", times=3)
    for _ in range(3):
        answer = answer_of(consumer.handler, event, lambda_context())
        failed = [{"itemIdentifier": event["Records"][0]["messageId"]}]
        assert answer == {"batchItemFailures": failed}
        assert world.run(KEY) == run
    assert consumer.handler(event, lambda_context()) == {"batchItemFailures": []}
    assert (world.run(KEY).result, work.calls) == ("success", 1)


@pytest.mark.promise(
    "Results and completion", "A second or late report for an attempt changes nothing"
)
def test_17_a_lost_attempt_that_ends_late_overwrites_nothing(world, message, work) -> None:
    def lost_and_claimed_again() -> None:
        lost = Reschedule(due=AGAIN, error=LOST)
        again = store.reschedule(world.run(KEY), lost, execution=None)
        store.claim(again, claim="c2", lease=NOW + LEFT_MS)

    work.meanwhile = lost_and_claimed_again
    assert attempted(message(world.put(world.a_run()))) is None
    run = world.run(KEY)
    assert (run.kind, run.claim, run.return_value) == ("running", "c2", None)
    success = Finish(result="success", return_value=Payload('"r1-1-9"'))
    store.finish(run, success, finished_at=NOW, expires_at=NOW)
    assert world.item()["returnValue"] == {"S": '"r1-1-9"'}


def test_18_of_all_who_declare_a_worker_lost_one_wins(world, message) -> None:
    run = world.put(world.a_run(kind="running", claim="c1", lease=NOW))
    world.meanwhile("update_item", lambda: attempted(message(run)))
    assert attempted(message(run, token="T")) is None
    assert (world.run(KEY).retries, world.run(KEY).execution) == (1, None)
    assert world.answers() == [("T", "retry", SHOWN_AGAIN)]


def test_20_a_run_whose_execution_failed_is_retried_by_a_message_without_a_token(
    world, message, work
) -> None:
    work.failures = 9
    run = world.put(world.a_run(kind="scheduled", retries=1, due=AGAIN, claim="c1"))
    relay.handler(world.change(replace(run, kind="running", lease=AGAIN), run), None)
    world.refuse("start_execution", "ExecutionAlreadyExists")
    look(KEY)  # too early: the name of its execution is taken
    assert world.messages("default-work") == []
    world.tick(900)
    look(KEY)
    assert attempted(message(run)) is None
    running = replace(run, kind="running", lease=AGAIN)
    relay.handler(world.change(running, world.run(KEY)), None)
    assert world.run(KEY).retries == 2
    assert f"r1-{NOW}-2" in world.executions()


def test_21_a_key_that_is_used_again_has_timers_of_its_own(world, message, work) -> None:
    work.failures = 9
    names = []
    for _ in range(2):
        run = world.submit(options={"idempotencyKey": "o1", "maxRetries": 1})
        assert attempted(message(run)) is None
        names.append(world.run(run.key).execution_name())
        world.tick(3600)
        assert attempted(message(world.run(run.key))) is None
        assert world.run(run.key).result == "failed"
        world.tick(86_400)
    assert len(set(names)) == 2


@pytest.mark.parametrize(
    "state",
    [
        {"kind": "completed", "result": "success"},
        {"kind": "scheduled", "retries": 1, "due": AGAIN},
        {"kind": "running", "retries": 1, "due": AGAIN, "claim": "c2", "lease": NOW + 700_000},
    ],
)
def test_22_an_insert_that_is_relayed_again_ten_minutes_later_changes_nothing(
    world, message, work, state: dict[str, Any]
) -> None:
    new = world.a_run()
    run = world.put(world.a_run(**state))
    world.tick(600)
    relay.handler(world.change(None, new), None)
    assert attempted(message(new)) is None
    assert (world.run(KEY), work.calls) == (run, 0)


def test_23_a_batch_that_is_relayed_twice_runs_the_action_once(world, work, lambda_context) -> None:
    event = world.change(None, world.put(world.a_run()))
    relay.handler(event, None)
    relay.handler(event, None)
    received = world.deliver("default-work")
    assert len(received["Records"]) == 2
    assert consumer.handler(received, lambda_context()) == {"batchItemFailures": []}
    assert (world.run(KEY).result, work.calls) == ("success", 1)


def ended_run(world) -> Run:
    return world.put(
        world.a_run(
            kind="completed",
            result="success",
            return_value=Payload("1"),
            finished_at=NOW,
            on_complete="jobs.done",
            completion="pending",
        )
    )


def completed() -> float | None:
    return complete(KEY, remaining_ms=lambda: 60_000)


def an_order() -> list[dict[str, Any]]:
    key = {"run": {"S": "an order"}}
    return [
        {
            "Update": {
                "TableName": "runs",
                "Key": key,
                "UpdateExpression": "ADD settled :one",
                "ExpressionAttributeValues": {":one": {"N": "1"}},
            }
        }
    ]


@pytest.mark.promise(
    "Results and completion", "The writes that a handler returns take effect exactly once"
)
def test_24_an_ended_event_twice_at_once_and_a_crash_have_one_effect(world) -> None:
    effects: list[str] = []
    copies: list[float | None] = []

    def done(ctx: Any, context: Any, result: Any) -> list[dict[str, Any]]:
        effects.append(ctx.idempotency_key)
        if not copies:
            copies.append(completed())
        return an_order()

    world.handler(done)
    ended_run(world)
    world.die_before("transact_write_items")
    with pytest.raises(world.Died):
        completed()
    assert copies == [60]
    world.tick(60)
    assert completed() is None
    assert completed() is None
    assert effects == ["r1", "r1"]
    assert world.item("an order") == {"run": {"S": "an order"}, "settled": {"N": "1"}}


def test_25_a_handler_that_always_raises_makes_no_further_event(world) -> None:
    def done(ctx: Any, context: Any, result: Any) -> None:
        raise ValueError("bang")

    world.handler(done)
    states = [ended_run(world)]
    while world.run(KEY).completion == "pending":
        completed()
        states.append(world.run(KEY))
        world.tick(1000)
    relay.handler(world.change(*states), None)
    assert len(states) > 3
    assert world.made("put_events") == 0


def test_26_completions_that_were_down_for_longer_than_the_retention_are_still_done(
    world,
) -> None:
    called: list[str] = []
    world.handler(lambda ctx, context, result: called.append(ctx.run_id))
    ended_run(world)
    world.tick(3 * 86_400)
    assert completed() is None
    assert called == ["r1"]
    assert world.run(KEY).expires_at == world.now_ms // 1000 + 86_400


def test_30_a_lost_message_is_repeated_however_busy_the_queue_is(world, message) -> None:
    world.deliver("default-work", *["{}"] * 3)
    run = world.put(world.a_run())
    look(KEY)
    assert world.bodies("default-work") == [{"v": 1, "run": KEY, "due": "2026-09-21T14:13:20Z"}]
    assert message(run).body() == world.messages("default-work")[0]["Body"]


def test_32_a_run_whose_execution_was_stopped_by_a_person_is_found_by_a_second_look(
    world, message, work
) -> None:
    work.failures = 1
    scheduled_again(world)
    world.tick(1)
    world.refuse("send_task_failure", "TaskTimedOut")
    assert attempted(m1()) is None
    run = world.run(KEY)
    assert run.kind == "scheduled"
    world.tick(900)
    look(KEY)
    assert [it["Body"] for it in world.messages("default-work")] == [message(run).body()]
    assert attempted(message(run)) is None
    assert world.run(KEY).result == "success"


def test_33_a_copy_that_seems_early_is_not_dropped_with_its_twin(world, message, work) -> None:
    hint = message(scheduled_again(world))
    assert attempted(hint) == 1  # this one's clock says early: it comes back
    world.tick(1)
    world.die_after("update_item")  # that one's says due: it claims, and dies
    with pytest.raises(world.Died):
        attempted(hint)
    world.tick(130)
    assert attempted(hint) is None
    assert world.run(KEY).retries == 2
