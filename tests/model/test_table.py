"""The model's table is DynamoDB as moto knows it: every transition, upon every state."""

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.model.table import KEYS, Tables
from tests.support.environment import set_variables
from workpool.aws import clients, store
from workpool.aws.environment import environment
from workpool.core.retry import Finish, Reschedule
from workpool.core.run import Payload, Run

NOW = 1_790_000_000_000
ELSEWHERE = "eu-central-2"
"""A region of its own: whatever tests are run beside these share moto with them."""

PARTS: dict[str, Any] = {
    "pool": "default",
    "run_id": "r1",
    "action": "jobs.work",
    "args": Payload("{}"),
    "enqueued_at": NOW,
}
OPEN = PARTS | {"open": "default#1", "due": NOW + 1000, "on_complete": "jobs.done"}
RUNNING = OPEN | {"kind": "running", "claim": "c1", "lease": NOW + 9}
ENDED = OPEN | {"kind": "completed", "result": "success", "claim": "c1", "finished_at": NOW}
PENDING = ENDED | {"completion": "pending", "completion_claim": "h1", "completion_tries": 1}
STATES: dict[str, Run | None] = {
    "absent": None,
    "enqueued": Run(**OPEN, kind="enqueued"),
    "scheduled": Run(**OPEN, kind="scheduled", claim="c1", retries=1, execution="r1-1-1"),
    "due later": Run(**OPEN | {"due": NOW + 5000}, kind="scheduled", claim="c1"),
    "running": Run(**RUNNING),
    "asked to cancel": Run(**RUNNING, cancel_requested=True),
    "claimed by another": Run(**RUNNING | {"claim": "c2"}),
    "hinted": Run(**OPEN, kind="enqueued", hints=1, hinted_at=NOW),
    "pending": Run(**ENDED, completion="pending"),
    "leased": Run(**PENDING, completion_lease=NOW + 1),
    "lapsed": Run(**PENDING, completion_lease=NOW),
    "leased by another": Run(**PENDING | {"completion_claim": "h2"}, completion_lease=NOW + 1),
    "parked": Run(**PENDING | {"completion": "parked"}),
    "done": Run(**PENDING | {"completion": "done", "open": None}, expires_at=NOW // 1000 + 1),
    "forgotten": Run(**PENDING | {"completion": "done", "open": None}, expires_at=NOW // 1000),
}
SEEN = Run(**RUNNING, completion_claim="h1")
PUT = {"TableName": "effects", "Item": {"id": {"S": "1"}}}
NEVER = {
    "TableName": "effects",
    "Item": {"id": {"S": "2"}},
    "ConditionExpression": "attribute_exists(#id)",
    "ExpressionAttributeNames": {"#id": "id"},
}


def finish(result: Any) -> Callable[[], Run]:
    how = Finish(result=result, error="boom" if result == "failed" else None)
    return lambda: store.finish(SEEN, how, finished_at=NOW, expires_at=1, execution=None)


TRANSITIONS: dict[str, Callable[[], Run]] = {
    "create": lambda: store.create(Run(**OPEN, kind="enqueued", creation="1")),
    "claim": lambda: store.claim(SEEN, claim="c9", lease=NOW),
    "finish with success": finish("success"),
    "finish with failure": finish("failed"),
    "finish canceled": finish("canceled"),
    "reschedule": lambda: store.reschedule(SEEN, Reschedule(due=NOW + 9, error=""), execution=None),
    "cancel": lambda: store.cancel(SEEN, finished_at=NOW, expires_at=1),
    "ask to cancel": lambda: store.ask_to_cancel(SEEN),
    "lease completion": lambda: store.lease_completion(SEEN, claim="h9", now_ms=NOW, lease=NOW),
    "complete": lambda: store.complete(SEEN, expires_at=1, writes=[]),
    "complete with writes": lambda: store.complete(SEEN, expires_at=1, writes=[{"Put": PUT}]),
    "complete, refused": lambda: store.complete(SEEN, expires_at=1, writes=[{"Put": NEVER}]),
    "retry completion": lambda: store.retry_completion(SEEN, at_ms=NOW, error="boom"),
    "return a try": lambda: store.return_try(SEEN, at_ms=NOW),
    "park completion": lambda: store.park_completion(SEEN, error="boom"),
    "note the first hint": lambda: store.note_hint(
        Run(**OPEN, kind="enqueued"), now_ms=NOW, hints=1
    ),
    "note a hint": lambda: store.note_hint(
        Run(**OPEN, kind="enqueued", hinted_at=NOW), now_ms=NOW + 1, hints=2
    ),
}


@pytest.fixture(scope="module")
def moto() -> Iterator[Any]:
    with mock_aws():
        dynamodb = boto3.client("dynamodb", region_name=ELSEWHERE)
        for name, key in KEYS.items():
            dynamodb.create_table(
                TableName=name,
                KeySchema=[
                    {"AttributeName": part, "KeyType": kind}
                    for part, kind in zip(key, ("HASH", "RANGE"), strict=False)
                ],
                AttributeDefinitions=[
                    {"AttributeName": part, "AttributeType": "S"} for part in key
                ],
                BillingMode="PAY_PER_REQUEST",
            )
        yield dynamodb
        for name in KEYS:
            dynamodb.delete_table(TableName=name)


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_a_transition_means_the_same_to_the_models_table_and_to_moto(
    moto: Any, transition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch)
    monkeypatch.setattr(store.clock, "now_ms", lambda: NOW)
    environment.cache_clear()
    differences = {}
    for state, run in STATES.items():
        tables = Tables(lambda table, old, new: None)
        here, there = (
            upon(client, run, TRANSITIONS[transition], monkeypatch) for client in (tables, moto)
        )
        if here != there:
            differences[state] = (here, there)
    environment.cache_clear()
    assert not differences


def upon(
    client: Any, run: Run | None, transition: Callable[[], Run], monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, ...]:
    """What the transition answers or raises upon this state, and what stands there then."""
    monkeypatch.setattr(clients, "client", lambda service: client)
    monkeypatch.setattr(clients, "without_retries", lambda service, _: client)
    key = {"run": {"S": "default#r1"}}
    if run is not None:
        client.put_item(TableName="runs", Item=run.to_item())
    elif not isinstance(client, Tables):
        client.delete_item(TableName="runs", Key=key)
    answer: Any
    try:
        answer = transition()
    except store.Refused as refused:
        answer = ("refused", refused.run)
    except store.HandlerWritesRefused:
        answer = "the handler's writes were refused"
    standing = client.get_item(TableName="runs", Key=key, ConsistentRead=True)
    return answer, standing.get("Item")
