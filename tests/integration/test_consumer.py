"""The consumer's door: what is acknowledged, what comes back and when, what is set aside."""

import pytest

from handlers import consumer
from handlers.records import BatchFailed
from tests.support.invocations import answer_of, bodies_handed_back

NOW = 1_790_000_000_000
KEY = "default#r1"


def consumed(world, context, *bodies: str) -> tuple[list[str], list[str]]:
    """The bodies of the messages that were received, and of those that go back."""
    event = world.deliver("default-work", *bodies)
    back = bodies_handed_back(event, answer_of(consumer.handler, event, context))
    return [it["body"] for it in event["Records"]], back


def test_a_message_whose_attempt_ended_is_acknowledged(world, message, lambda_context) -> None:
    world.action(lambda ctx, args: "done")
    body = message(world.put(world.a_run())).body()
    assert consumed(world, lambda_context(), body) == ([body], [])
    assert world.run(KEY).return_value.text == '"done"'
    assert world.comes_back_in() == []


@pytest.mark.parametrize(
    ("state", "seconds"),
    [
        ({"kind": "running", "lease": NOW + 9_000}, 9),
        ({"kind": "running", "lease": NOW + 9_001}, 10),
        ({"kind": "scheduled", "due": NOW + 1}, 1),
        ({"kind": "scheduled", "due": NOW + 100 * 3600 * 1000}, 11 * 3600),
    ],
)
def test_a_message_that_may_not_act_yet_comes_back_in_time_and_not_before(
    world, message, lambda_context, state, seconds: int
) -> None:
    body = message(world.put(world.a_run(**state))).body()
    assert consumed(world, lambda_context(), body) == ([body], [body])
    assert world.comes_back_in() == [seconds]
    assert world.messages("default-work") == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("hello", "not a message of a work queue"),
        ('{"v": 2, "run": "default#r1"}', "a message of version 2; this code reads up to 1"),
    ],
)
def test_a_message_that_can_never_be_read_is_moved_aside_at_once(
    world, logged, lambda_context, body: str, reason: str
) -> None:
    assert consumed(world, lambda_context(), body) == ([body], [])
    parked = world.messages("default-parked")
    assert [it["Body"] for it in parked] == [body]
    assert parked[0]["MessageAttributes"]["reason"]["StringValue"].startswith(reason)
    lines = logged("message-parked")
    assert [(it["pool"], it["error"].startswith(reason)) for it in lines] == [("default", True)]


def test_a_message_of_a_run_of_a_newer_version_is_moved_aside(
    world, message, lambda_context
) -> None:
    item = world.a_run().to_item() | {"v": {"N": "2"}}
    world.put_item(item)
    body = message(world.a_run()).body()
    assert consumed(world, lambda_context(), body) == ([body], [])
    assert [it["Body"] for it in world.messages("default-parked")] == [body]
    assert world.item() == item


def test_a_message_that_cannot_be_moved_aside_comes_back(world, lambda_context) -> None:
    world.refuse("send_message", "InternalError")
    assert consumed(world, lambda_context(), "hello") == (["hello"], ["hello"])
    assert world.messages("default-parked") == []


def test_a_message_whose_attempt_meets_an_error_comes_back_alone(
    world, message, logged, lambda_context
) -> None:
    world.action(lambda ctx, args: None)
    bodies = [message(world.put(world.a_run(run_id=f"r{n}"))).body() for n in (1, 2)]
    world.refuse("get_item", "ProvisionedThroughputExceededException")
    assert consumed(world, lambda_context(), *bodies) == (bodies, bodies[:1])
    assert world.run("default#r1").kind == "enqueued"
    assert world.run("default#r2").kind == "completed"
    assert [line["level"] for line in logged("record-failed")] == ["ERROR"]


@pytest.mark.promise(
    "Alarms, dashboard, tracing",
    "A function that can do none of its messages fails, and so counts as an error",
)
def test_a_batch_of_which_nothing_could_be_done_fails_as_a_whole(
    world, message, logged, lambda_context
) -> None:
    """An invocation that hands all messages back is no error to Lambda, and no alarm sees it."""
    world.action(lambda ctx, args: None)
    bodies = [message(world.put(world.a_run(run_id=f"r{n}"))).body() for n in (1, 2)]
    event = world.deliver("default-work", *bodies)
    world.refuse("get_item", "AccessDeniedException", times=2)
    with pytest.raises(BatchFailed, match=r"^none of 2 messages could be done") as failed:
        consumer.handler(event, lambda_context())
    assert failed.value.__cause__ is failed.value.__context__ is None  # It is logged already.
    assert len(logged("record-failed")) == 2
    assert world.comes_back_in() == []
    assert answer_of(consumer.handler, event, lambda_context()) == {"batchItemFailures": []}


def test_a_batch_whose_messages_must_only_wait_does_not_fail(
    world, message, lambda_context
) -> None:
    body = message(world.put(world.a_run(kind="running", lease=NOW + 9_000))).body()
    event = world.deliver("default-work", body)
    assert bodies_handed_back(event, consumer.handler(event, lambda_context())) == [body]
    assert consumer.handler({"Records": []}, lambda_context()) == {"batchItemFailures": []}


def test_a_message_whose_return_cannot_be_timed_comes_back_all_the_same(
    world, message, lambda_context
) -> None:
    body = message(world.put(world.a_run(kind="running", lease=NOW + 1))).body()
    world.refuse("change_message_visibility", "ReceiptHandleIsInvalid")
    assert consumed(world, lambda_context(), body) == ([body], [body])


def test_the_lease_ends_with_the_functions_time(world, message, lambda_context) -> None:
    leases = []
    world.redeploy(actionTimeoutSeconds=28)
    world.action(lambda ctx, args: leases.append(world.run(KEY).lease))
    consumed(world, lambda_context(33_000), message(world.put(world.a_run())).body())
    assert leases == [NOW + 33_000]
