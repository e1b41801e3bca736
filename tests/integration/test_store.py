"""Every transition from every state: who may write what, and what a lost answer does not change."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.environment import START_MS
from workpool.aws import store
from workpool.core.retry import Finish, Reschedule
from workpool.core.run import Payload, Run, open_partition

NOW = 1_790_000_005_000
DUE, NEXT = 1_790_000_010_000, 1_790_000_020_000
LEASE, FINISHED, EXPIRES = 1_790_000_070_000, 1_790_000_011_111, 1_790_086_411

# Every state that a run may be in when a writer arrives who believes that it is at DUE, that its
# claim is "c1" and its completion's "h1".
RUNNING = {"kind": "running", "claim": "c1", "lease": LEASE}
ENDED = {
    "kind": "completed",
    "result": "success",
    "return_value": Payload("1"),
    "finished_at": 5,
    "claim": "c1",
}
PENDING = ENDED | {"completion": "pending", "on_complete": "jobs.done"}
MINE = {"completion_claim": "h1", "completion_tries": 2}
STATES: dict[str, dict[str, Any] | None] = {
    "absent": None,
    "expired": ENDED | {"expires_at": NOW // 1000},
    "enqueued": {"kind": "enqueued"},
    "scheduled": {"kind": "scheduled"},
    "rescheduled": {"kind": "scheduled", "due": NEXT, "claim": "c1", "retries": 1},
    "created anew": {"kind": "enqueued", "due": NEXT, "enqueued_at": NOW - 1},
    "running": RUNNING,
    "asked to cancel": RUNNING | {"cancel_requested": True},
    "claimed by other": RUNNING | {"claim": "c2"},
    "claim lost": RUNNING | {"claim": "c2", "due": NEXT, "retries": 1},
    "completed": ENDED,
    "canceled": {"kind": "canceled", "result": "canceled", "finished_at": 5},
    "to complete": PENDING,
    "held": PENDING | MINE | {"completion_lease": NOW + 1},
    "held by other": PENDING | {"completion_claim": "h2", "completion_lease": NOW + 1},
    "hold over": PENDING | {"completion_claim": "h2", "completion_lease": NOW},
    "done": PENDING | MINE | {"completion": "done", "expires_at": EXPIRES},
    "done by other": PENDING | {"completion": "done", "completion_claim": "h2"},
    "parked": PENDING | MINE | {"completion": "parked"},
    "parked by other": PENDING | {"completion": "parked", "completion_claim": "h2"},
}

# + the write happens, - Refused with the run that stands there, = nothing is written: the run
# stands as this very write leaves it, or (create) the run that stands there is the answer.
# Columns: create, claim, finish with success, failure, cancel, reschedule, cancel, ask to cancel,
# lease the completion, complete it, retry it, return its try, park it.
TABLE = """
state            create claim success failed canceled resched cancel ask lease complete retry return park
absent             +      -      -      -       -        -      -     -    -      -       -     -     -
expired            +      -      -      -       -        -      -     -    -      -       -     -     -
enqueued           =      +      -      -       -        -      +     -    -      -       -     -     -
scheduled          =      +      -      -       -        -      +     -    -      -       -     -     -
rescheduled        =      -      -      -       -        -      +     -    -      -       -     -     -
created_anew       =      -      -      -       -        -      -     -    -      -       -     -     -
running            =      -      +      +       +        +      -     +    -      -       -     -     -
asked_to_cancel    =      -      +      -       +        -      -     +    -      -       -     -     -
claimed_by_other   =      -      -      -       -        -      -     -    -      -       -     -     -
claim_lost         =      -      -      -       -        -      -     -    -      -       -     -     -
completed          =      -      -      -       -        -      -     -    -      -       -     -     -
canceled           =      -      -      -       -        -      -     -    -      -       -     -     -
to_complete        =      -      -      -       -        -      -     -    +      -       -     -     -
held               =      -      -      -       -        -      -     -    -      +       +     +     +
held_by_other      =      -      -      -       -        -      -     -    -      -       -     -     -
hold_over          =      -      -      -       -        -      -     -    +      -       -     -     -
done               =      -      -      -       -        -      -     -    -      =       -     -     -
done_by_other      =      -      -      -       -        -      -     -    -      -       -     -     -
parked             =      -      -      -       -        -      -     -    -      -       -     -     =
parked_by_other    =      -      -      -       -        -      -     -    -      -       -     -     -
"""  # noqa: E501
SUCCESS = Finish(result="success", return_value=Payload('"v"'))
FAILED = Finish(result="failed", error="boom")
CANCELED = Finish(result="canceled")


def _finish(run: Run, finish: Finish) -> Run:
    return store.finish(run, finish, finished_at=FINISHED, expires_at=EXPIRES)


TRANSITIONS: dict[str, Callable[[Run], Run]] = {
    "create": store.create,
    "claim": lambda run: store.claim(run, claim="c9", lease=LEASE),
    "success": lambda run: _finish(run, SUCCESS),
    "failed": lambda run: _finish(run, FAILED),
    "canceled": lambda run: _finish(run, CANCELED),
    "resched": lambda run: store.reschedule(
        run, Reschedule(due=NEXT, error="boom"), execution="r1-1-1"
    ),
    "cancel": lambda run: store.cancel(run, finished_at=FINISHED, expires_at=EXPIRES),
    "ask": store.ask_to_cancel,
    "lease": lambda run: store.lease_completion(run, claim="h9", now_ms=NOW, lease=LEASE),
    "complete": lambda run: store.complete(run, expires_at=EXPIRES, writes=[]),
    "retry": lambda run: store.retry_completion(run, at_ms=NEXT, error="bang"),
    "return": lambda run: store.return_try(run, at_ms=NEXT),
    "park": lambda run: store.park_completion(run, error="bang"),
}

# What each transition changes, for a run without an onComplete where it matters.
OVER = {"finished_at": FINISHED, "expires_at": EXPIRES, "lease": None, "open": None}
CHANGES: dict[str, dict[str, Any]] = {
    "claim": {"kind": "running", "claim": "c9", "lease": LEASE, "started_at": NOW},
    "success": {"kind": "completed", "result": "success", "return_value": Payload('"v"')} | OVER,
    "failed": {"kind": "completed", "result": "failed", "error": "boom"} | OVER,
    "canceled": {"kind": "canceled", "result": "canceled"} | OVER,
    "resched": {
        "kind": "scheduled",
        "retries": 1,
        "due": NEXT,
        "execution": "r1-1-1",
        "lease": None,
    },
    "cancel": {"kind": "canceled", "result": "canceled"} | OVER,
    "ask": {"cancel_requested": True},
    "lease": {"completion_claim": "h9", "completion_lease": LEASE, "completion_tries": 1},
    "complete": {
        "completion": "done",
        "expires_at": EXPIRES,
        "completion_lease": None,
        "open": None,
    },
    "retry": {"completion_lease": NEXT, "completion_error": "bang"},
    "return": {"completion_lease": NEXT, "completion_tries": 1},
    "park": {
        "completion": "parked",
        "completion_lease": None,
        "completion_error": "bang",
        "open": open_partition("default", "r1", parked=True),
    },
}

COLUMNS = TABLE.split("\n")[1].split()[1:]
CELLS = [
    (line.split()[0].replace("_", " "), transition, cell)
    for line in TABLE.strip().split("\n")[1:]
    for transition, cell in zip(COLUMNS, line.split()[1:], strict=True)
]


def believed(world, transition: str) -> Run:  # type: ignore[no-untyped-def]
    """The run as the writer read it."""
    fields: dict[str, Any] = {"due": DUE}
    if transition in ("success", "failed", "canceled", "resched", "ask"):
        fields |= RUNNING
    if transition == "lease":
        fields |= PENDING
    if transition in ("complete", "retry", "return", "park"):
        fields |= PENDING | MINE
    if transition == "create":
        fields |= {"args": Payload('{"n":1}')}
    return world.a_run(**fields)


@pytest.mark.parametrize(("state", "transition", "cell"), CELLS)
def test_a_transition_happens_from_its_states_alone(
    world, state: str, transition: str, cell: str
) -> None:
    world.now_ms = NOW
    fields = STATES[state]
    before = None if fields is None else world.put(world.a_run(**({"due": DUE} | fields)))
    writer = believed(world, transition)
    if cell == "-":
        with pytest.raises(store.Refused) as refused:
            TRANSITIONS[transition](writer)
        assert refused.value.run == before
        assert world.item() == (before and before.to_item())
    elif cell == "=":
        assert TRANSITIONS[transition](writer) == before
        assert world.item() == (before and before.to_item())
    else:
        after = writer if transition == "create" else replace(before, **CHANGES[transition])
        assert TRANSITIONS[transition](writer) == after
        assert world.item() == after.to_item()


def test_the_table_covers_every_state_and_every_transition() -> None:
    assert {cell[0] for cell in CELLS} == STATES.keys()
    assert TRANSITIONS.keys() == set(COLUMNS)


@pytest.mark.parametrize(
    ("state", "transition"), [(state, it) for state, it, cell in CELLS if cell == "+"]
)
def test_a_write_whose_answer_is_lost_counts_once_as_its_own_success(
    world, state: str, transition: str
) -> None:
    world.now_ms = NOW
    fields = STATES[state]
    before = None if fields is None else world.put(world.a_run(**({"due": DUE} | fields)))
    writer = believed(world, transition)
    world.lose_answer("put_item" if transition == "create" else "update_item")
    after = writer if transition == "create" else replace(before, **CHANGES[transition])
    assert TRANSITIONS[transition](writer) == after
    assert world.item() == after.to_item()


@pytest.fixture
def sdk_repeats(world) -> Iterator[Callable[[str], list[int]]]:
    """Has botocore itself send the requests of an operation twice, as after a lost answer."""
    hooks = world.client("dynamodb").meta.events
    names: list[str] = []
    sent: list[int] = []

    def again(attempts: int, **_: Any) -> float | None:
        sent.append(attempts)
        return 0 if attempts == 1 else None

    def repeat(operation: str) -> list[int]:
        names.append(f"needs-retry.dynamodb.{operation}")
        hooks.register(names[-1], again)
        return sent

    yield repeat
    for name in names:
        hooks.unregister(name, again)


def test_a_claim_that_the_sdk_sends_twice_is_one_claim(world, sdk_repeats) -> None:
    world.now_ms = NOW
    before = world.put(world.a_run(due=DUE))
    sent = sdk_repeats("UpdateItem")
    assert TRANSITIONS["claim"](before) == replace(before, **CHANGES["claim"])
    assert sent == [1, 2]


def test_a_creation_that_the_sdk_sends_twice_is_one_creation(world, sdk_repeats) -> None:
    sent = sdk_repeats("PutItem")
    run = world.a_run(request="d1", creation="c0")
    assert store.create(run) == run
    assert sent == [1, 2]


def test_a_transaction_that_the_sdk_sends_twice_is_one_transaction(world, sdk_repeats) -> None:
    before = world.put(world.a_run(**(PENDING | MINE)))
    sent = sdk_repeats("TransactWriteItems")
    store.complete(before, expires_at=EXPIRES, writes=[write_of_a_handler()])
    assert world.item() == replace(before, **CHANGES["complete"]).to_item()
    assert sent == [1, 2]


# What another writer may have left behind that only looks like one's own write.
LEFT: dict[str, dict[str, Any]] = {
    transition: {"due": DUE, "claim": "c1"} | changes for transition, changes in CHANGES.items()
}
LEFT["ask"] |= RUNNING
for _name in ("lease", "complete", "retry", "return", "park"):
    LEFT[_name] = PENDING | MINE | CHANGES[_name]


@pytest.mark.parametrize(
    ("transition", "difference"),
    [
        ("claim", {"claim": "c8"}),
        (
            "claim",
            {"kind": "scheduled", "due": NEXT},
        ),  # claimed, the answer lost, then declared lost
        ("claim", {"kind": "completed", "result": "success"}),
        ("success", {"claim": "c2"}),
        ("success", {"kind": "scheduled"}),
        ("success", {"result": "failed"}),
        ("success", {"finished_at": FINISHED + 1}),
        ("success", {"return_value": Payload('"w"')}),
        ("success", {"error": "boom"}),
        ("failed", {"claim": "c2"}),
        ("failed", {"error": "bang"}),
        ("failed", {"return_value": Payload('"v"')}),
        ("canceled", {"claim": "c2"}),
        ("canceled", {"result": "success"}),
        ("resched", {"claim": "c2"}),
        ("resched", {"kind": "running", "claim": "c2", "lease": NEXT}),
        ("resched", {"kind": "canceled", "result": "canceled"}),
        ("resched", {"retries": 2}),
        ("resched", {"due": NEXT + 1000}),
        ("resched", {"execution": "r1-1-2"}),
        ("resched", {"execution": None}),
        ("cancel", {"finished_at": FINISHED + 1}),
        ("cancel", {"kind": "completed", "result": "success"}),
        ("ask", {"claim": "c2", "cancel_requested": False}),
        ("ask", {"kind": "completed", "result": "success"}),
        ("lease", {"completion_claim": "h8"}),
        ("lease", {"completion": "done"}),
        ("complete", {"completion_claim": "h2"}),
        ("retry", {"completion_claim": "h2"}),
        ("retry", {"completion_lease": NEXT + 1, "completion_claim": "h2"}),
        ("retry", {"completion_error": "boom", "completion_claim": "h2"}),
        ("return", {"completion_claim": "h2"}),
        ("return", {"completion_lease": NEXT + 1, "completion_claim": "h2"}),
        ("return", {"completion_tries": 2, "completion_claim": "h2"}),
        ("park", {"completion_claim": "h2"}),
        ("park", {"completion": "done"}),
    ],
)
def test_what_another_wrote_is_not_taken_for_ones_own_write(
    world, transition: str, difference: dict[str, Any]
) -> None:
    world.now_ms = NOW
    standing = world.put(world.a_run(**(LEFT[transition] | difference)))
    with pytest.raises(store.Refused) as refused:
        TRANSITIONS[transition](believed(world, transition))
    assert refused.value.run == standing
    assert world.item() == standing.to_item()


@pytest.mark.parametrize("transition", ["success", "failed", "canceled", "cancel"])
def test_a_run_that_ends_with_a_completion_to_call_stays_open_and_does_not_expire(
    world, transition: str
) -> None:
    kind = {"kind": "enqueued"} if transition == "cancel" else RUNNING
    before = world.put(world.a_run(due=DUE, on_complete="jobs.done", **kind))
    after = TRANSITIONS[transition](before)
    assert (after.completion, after.open, after.expires_at) == ("pending", "default#3", None)
    assert world.item() == after.to_item()


def test_a_run_rescheduled_without_an_execution_leaves_none_on_the_item(world) -> None:
    before = world.put(world.a_run(due=DUE, execution="r1-1-0", **RUNNING))
    after = store.reschedule(before, Reschedule(due=NEXT, error="boom"), execution=None)
    assert after == replace(
        before, kind="scheduled", retries=1, due=NEXT, execution=None, lease=None
    )
    assert world.item() == after.to_item()


@pytest.mark.parametrize("execution", [None, "r1-1-1"])
def test_a_run_that_ends_names_the_execution_that_is_answered_and_no_other(
    world, execution: str | None
) -> None:
    before = world.put(world.a_run(due=DUE, execution="r1-1-0", **RUNNING))
    after = store.finish(
        before, SUCCESS, finished_at=FINISHED, expires_at=EXPIRES, execution=execution
    )
    assert after.execution == execution
    assert world.item() == after.to_item()


def test_an_attempt_without_an_execution_takes_its_lost_answer_for_its_own_write(world) -> None:
    before = world.put(world.a_run(due=DUE, execution="r1-1-0", **RUNNING))
    world.lose_answer("update_item")
    after = store.reschedule(before, Reschedule(due=NEXT, error="boom"), execution=None)
    assert (after.kind, after.due, after.execution) == ("scheduled", NEXT, None)


def test_a_run_that_was_asked_to_cancel_by_another_counts_as_asked(world) -> None:
    standing = world.put(
        world.a_run(due=NEXT, cancel_requested=True, **(RUNNING | {"claim": "c2"}))
    )
    assert store.ask_to_cancel(world.a_run(due=DUE, **RUNNING)) == standing


def test_each_further_lease_of_a_completion_counts_a_try(world) -> None:
    held = world.put(world.a_run(**(PENDING | MINE)))
    again = store.lease_completion(held, claim="h3", now_ms=NOW, lease=LEASE)
    assert (again.completion_tries, again.completion_claim) == (3, "h3")


WAITS = {"kind": "scheduled", "due": DUE}
HINTED = {"hints": 1, "hinted_at": NOW}


@pytest.mark.parametrize(
    ("read", "standing"),
    [
        (WAITS, None),
        (WAITS, WAITS | {"due": NEXT, "retries": 1}),
        (WAITS, RUNNING | {"due": DUE}),
        (WAITS, WAITS | HINTED),
        (WAITS | HINTED, WAITS | HINTED | {"hinted_at": NOW + 1}),
        (WAITS | HINTED, WAITS | HINTED | {"due": NEXT, "retries": 1}),
        (WAITS | HINTED, ENDED | HINTED | {"due": DUE}),
    ],
)
def test_a_hint_is_noted_on_no_run_that_changed_since_it_was_read(
    world, read: dict[str, Any], standing: dict[str, Any] | None
) -> None:
    before = standing and world.put(world.a_run(**standing))
    with pytest.raises(store.Refused) as refused:
        store.note_hint(world.a_run(**read), now_ms=NOW + 5, hints=2)
    assert refused.value.run == before
    assert world.item() == (before and before.to_item())


@pytest.mark.parametrize("state", [WAITS, WAITS | HINTED, ENDED | {"completion": "pending"}])
def test_a_hint_is_noted_on_the_run_as_it_was_read(world, state: dict[str, Any]) -> None:
    before = world.put(world.a_run(**state))
    after = store.note_hint(before, now_ms=NOW + 5, hints=2)
    assert after == replace(before, hints=2, hinted_at=NOW + 5)
    assert world.item() == after.to_item()


def write_of_a_handler(condition: str | None = None) -> dict[str, Any]:
    put: dict[str, Any] = {"TableName": "runs", "Item": {"run": {"S": "an order"}}}
    return {"Put": put | ({"ConditionExpression": condition} if condition else {})}


def test_completion_and_the_handlers_writes_are_one_transaction(world) -> None:
    before = world.put(world.a_run(**(PENDING | MINE)))
    store.complete(before, expires_at=EXPIRES, writes=[write_of_a_handler()])
    assert world.item("an order") == {"run": {"S": "an order"}}
    assert world.item() == replace(before, **CHANGES["complete"]).to_item()


def test_a_transaction_whose_answer_is_lost_counts_once(world) -> None:
    before = world.put(world.a_run(**(PENDING | MINE)))
    world.lose_answer("transact_write_items")
    store.complete(before, expires_at=EXPIRES, writes=[write_of_a_handler()])
    assert world.item() == replace(before, **CHANGES["complete"]).to_item()


@pytest.mark.parametrize("state", ["held by other", "done by other", "parked"])
def test_without_the_lease_no_write_of_the_handler_happens(world, state: str) -> None:
    standing = world.put(world.a_run(**(STATES[state] or {})))
    writer = world.a_run(**(PENDING | MINE))
    with pytest.raises(store.Refused) as refused:
        store.complete(writer, expires_at=EXPIRES, writes=[write_of_a_handler()])
    assert refused.value.run == standing
    assert world.item("an order") is None


@pytest.mark.parametrize(
    "writes",
    [
        pytest.param([write_of_a_handler("attribute_exists(none)")], id="condition refused"),
        pytest.param([{"Post": {}}], id="no operation"),
        pytest.param([{"Put": {"TableName": "nowhere", "Item": {}}}], id="no table"),
        pytest.param(["text"], id="no entry"),
    ],
)
def test_writes_that_dynamodb_refuses_are_the_handlers_fault(world, writes: list[Any]) -> None:
    before = world.put(world.a_run(**(PENDING | MINE)))
    with pytest.raises(store.HandlerWritesRefused):
        store.complete(before, expires_at=EXPIRES, writes=writes)
    assert world.item() == before.to_item()


def test_an_error_that_is_no_refused_condition_is_raised_as_it_is(world) -> None:
    before = world.put(world.a_run(due=DUE))
    for operation in ("update_item", "put_item"):
        world.refuse(operation, "ProvisionedThroughputExceededException")
    for transition in ("claim", "create"):
        with pytest.raises(Exception, match="ProvisionedThroughputExceeded"):
            TRANSITIONS[transition](before)
    assert world.item() == before.to_item()


def test_a_run_is_read_until_its_expiry(world) -> None:
    run = world.put(world.a_run(**(ENDED | {"expires_at": NOW // 1000 + 1})))
    world.now_ms = NOW
    assert store.read("default#r1") == run
    world.tick(1)
    assert store.read("default#r1") is None
    assert store.read("default#nobody") is None


@pytest.mark.parametrize(
    ("state", "transition"), [(state, it) for state, it, cell in CELLS if cell == "+"]
)
def test_a_write_that_meets_a_running_transaction_is_repeated(
    world, state: str, transition: str
) -> None:
    """A caller's own transaction may hold the run's item: UpdateItem and PutItem are refused then,
    and the SDK does not repeat them."""
    world.now_ms = NOW
    fields = STATES[state]
    if fields is not None:
        world.put(world.a_run(**({"due": DUE} | fields)))
    writer = believed(world, transition)
    operation = "put_item" if transition == "create" else "update_item"
    world.refuse(operation, "TransactionConflictException", times=5)
    assert TRANSITIONS[transition](writer) == world.run("default#r1")
    assert world.made(operation) == 6


def test_a_write_that_meets_transactions_for_long_is_refused_as_it_is(world) -> None:
    run = world.put(world.a_run(due=DUE))
    world.refuse("update_item", "TransactionConflictException", times=99)
    with pytest.raises(ClientError, match="TransactionConflictException"):
        store.claim(run, claim="c9", lease=LEASE)
    assert world.made("update_item") == 6
    assert world.now_ms - START_MS < 3000
