"""Many at once: submits, each checked by itself, and statuses; and what a status includes."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from handlers import submit as function
from workpool import errors
from workpool.core.run import Payload, Run
from workpool.verbs.attempt import attempt
from workpool.verbs.status import status, status_many
from workpool.verbs.submit import submit

NOW = 1_790_000_000_000
WORK = {"action": "jobs.work"}


@pytest.fixture(autouse=True)
def deployed(world, monkeypatch) -> None:
    world.deploy_jobs()
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def results(*runs: Any, **given: Any) -> list[dict[str, Any]]:
    answer = submit({"runs": list(runs)}, **given)
    assert list(answer) == ["results"]
    return list(answer["results"])


def keyed(key: str, **request: Any) -> dict[str, Any]:
    return WORK | {"options": {"idempotencyKey": key}} | request


def codes(found: list[dict[str, Any]]) -> list[str]:
    return [it["error"]["code"] if "error" in it else "ok" for it in found]


# Submit


@pytest.mark.promise(
    "HTTP API",
    "`POST /pools/{pool}/runs` also accepts a batch: it checks "
    "each run on its own and answers in order",
)
def test_a_batch_is_answered_in_order_and_stored(world) -> None:
    found = results(*(WORK | {"args": {"n": n}} for n in range(30)))
    stored = [json.loads(world.run(f"default#{it['runId']}").args.text)["n"] for it in found]
    assert stored == list(range(30))
    assert len(world.items()) == 30


@pytest.mark.promise(
    "HTTP API",
    "`POST /pools/{pool}/runs` also accepts a batch: it checks "
    "each run on its own and answers in order",
)
def test_each_request_of_a_batch_is_checked_by_itself(world) -> None:
    found = results(
        WORK,
        {"action": "jobs.nothing"},
        WORK | {"options": {"base": 0.9}},
        WORK | {"pool": "ghost"},
        WORK | {"options": {"onComplete": "a.b"}},
        WORK | {"args": {"a": "x" * 1_000_000}},
        None,
        "jobs.work",
        WORK | {"pool": "other"},
    )
    assert codes(found) == [
        "ok",
        "UnknownAction",
        "InvalidRequest",
        "UnknownPool",
        "UnknownCompletion",
        "PayloadTooLarge",
        "InvalidRequest",
        "InvalidRequest",
        "ok",
    ]
    assert found[2]["error"]["message"] == "options.base must be >= 1, got 0.9"
    assert {item["run"]["S"] for item in world.items()} == {
        f"default#{found[0]['runId']}",
        f"other#{found[8]['runId']}",
    }


@pytest.mark.promise("HTTP API", "A batch with a bad envelope is refused as a whole")
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"runs": []}, "runs must be a list of 1 to 1000 requests, got 0"),
        ({"runs": [WORK] * 1001}, "runs must be a list of 1 to 1000 requests, got 1001"),
        ({"runs": None}, "runs must be a list of 1 to 1000 requests, got NoneType"),
        ({"runs": WORK}, "runs must be a list of 1 to 1000 requests, got dict"),
        (
            {"runs": [WORK], "pool": "default"},
            "runs must be the only field: each run has its own pool",
        ),
    ],
)
def test_a_bad_envelope_is_an_error_for_all(world, body: Any, message: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        submit(body)
    assert str(caught.value) == message
    assert world.items() == []


def test_in_a_batch_of_a_path_no_run_names_its_own_pool(world) -> None:
    found = results(WORK, WORK | {"pool": "default"}, pool="other")
    assert codes(found) == ["ok", "InvalidRequest"]
    assert world.run(f"other#{found[0]['runId']}").pool == "other"


@pytest.mark.promise(
    "The submit function", "Each run of a batch is put by itself, under its own condition"
)
def test_a_thousand_are_a_thousand_runs(world) -> None:
    found = results(*[WORK] * 1000)
    assert len({it["runId"] for it in found}) == 1000
    assert world.made("put_item") == 1000 == len(world.calls)
    assert len(world.items()) == 1000


@pytest.mark.promise(
    "The submit function", "A put that the SDK repeats does not start the run again"
)
def test_a_put_that_the_sdk_repeats_after_the_run_ended_begins_nothing_anew(world) -> None:
    """A batch whose answer was lost, FAULTS 31: the second put meets what became of the first."""

    def answer_is_lost(call: Callable[..., Any], given: dict[str, Any]) -> Any:
        call(**given)
        run = world.run(given["Item"]["run"]["S"])
        world.put(replace(run, kind="completed", result="success", finished_at=NOW))
        return call(**given)

    world.on("put_item", answer_is_lost)
    [one, two] = results(WORK, WORK)
    assert {world.run(f"default#{it['runId']}").kind for it in (one, two)} == {
        "completed",
        "enqueued",
    }
    assert len(world.items()) == 2


@pytest.mark.promise(
    "The submit function",
    "If the table refuses a put, only that run gets an error: `Throttled` if the load is too high",
)
@pytest.mark.parametrize(
    ("refusal", "code"),
    [("ThrottlingException", "Throttled"), ("AccessDeniedException", "Internal")],
)
def test_a_put_that_the_table_refuses_is_the_error_of_its_run_alone(
    world, refusal: str, code: str
) -> None:
    world.refuse("put_item", refusal)
    found = codes(results(*[WORK] * 26))
    assert sorted(found) == sorted([code, *["ok"] * 25])
    assert len(world.items()) == 25


@pytest.mark.promise(
    "The submit function",
    "The same idempotency key with the same request answers the same run, marked `existing`",
)
@pytest.mark.promise(
    "The submit function", "The same idempotency key with another request is a conflict"
)
def test_runs_with_a_key_are_put_under_their_condition(world) -> None:
    first = results(keyed("o1"), keyed("o2"), WORK)
    again = results(keyed("o1"), keyed("o2", args={"n": 2}), WORK)
    assert again[0] == first[0] | {"existing": True}
    assert codes(again) == ["ok", "IdempotencyConflict", "ok"]
    assert len(world.items()) == 4


@pytest.mark.promise(
    "The submit function",
    "The same idempotency key with the same request answers the same run, marked `existing`",
)
@pytest.mark.promise(
    "The submit function", "The same idempotency key with another request is a conflict"
)
def test_the_same_key_twice_in_one_batch_is_one_run(world) -> None:
    one, two = results(keyed("o1"), keyed("o1"))
    assert one["runId"] == two["runId"]
    assert sorted(it.get("existing", False) for it in (one, two)) == [False, True]
    found = results(keyed("o2", args={"n": 1}), keyed("o2", args={"n": 2}))
    assert sorted(codes(found)) == ["IdempotencyConflict", "ok"]
    assert len(world.items()) == 2


@pytest.mark.promise(
    "The submit function", "The submit function takes a batch as well as one request"
)
def test_the_submit_function_takes_a_batch_as_it_takes_one(world, lambda_context) -> None:
    answer = function.handler({"runs": [WORK, {}]}, lambda_context())
    assert codes(answer["results"]) == ["ok", "InvalidRequest"]
    with pytest.raises(errors.InvalidRequest, match=r"^InvalidRequest: runs must be a list"):
        function.handler({"runs": []}, lambda_context())


# Statuses


@pytest.mark.promise(
    "HTTP API", "`POST /pools/{pool}/status` answers up to 100 statuses, in the order of the ids"
)
def test_statuses_come_in_order_doubled_where_asked_twice(world) -> None:
    for run_id in ("r1", "r2", "r3"):
        world.put(world.a_run(run_id=run_id))
    asked = ["r3", "r1", "ghost", "r3", "a b", "", "x" * 500, "r1#", "r2"]
    found = status_many("default", asked)
    assert [it["runId"] for it in found] == asked
    assert [it["kind"] for it in found] == [
        "enqueued" if run_id in ("r1", "r2", "r3") else "unknown" for run_id in asked
    ]
    assert world.made("batch_get_item") == 1


def test_ids_that_can_be_none_cost_no_request(world) -> None:
    assert status_many("default", ["a b"]) == [{"runId": "a b", "kind": "unknown"}]
    assert world.calls == []


def test_a_status_of_many_is_the_status_of_one_and_a_forgotten_run_is_unknown(world) -> None:
    world.put(world.a_run(annotation="o1"))
    world.put(world.a_run(run_id="r2", expires_at=NOW // 1000))
    assert status_many("default", ["r1", "r2"]) == [
        status("default", "r1"),
        status("default", "r2"),
    ]


@pytest.mark.promise("HTTP API", "A bad list of run ids is refused")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "runIds must be a list of 1 to 100 ids, got 0"),
        (["r1"] * 101, "runIds must be a list of 1 to 100 ids, got 101"),
        ("r1", "runIds must be a list of 1 to 100 ids, got str"),
        (["r1", 1], "runIds must hold strings, got 1"),
        ([None], "runIds must hold strings, got null"),
    ],
)
def test_a_bad_list_of_ids_is_refused(given: Any, message: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        status_many("default", given)
    assert str(caught.value) == message


# What a status includes


@pytest.mark.promise(
    "HTTP API",
    "With `?include=args,context,attempts`, a status shows what "
    "the query asks for and nothing else",
)
def test_a_status_includes_what_is_asked_for_and_nothing_else(world) -> None:
    world.put(world.a_run(args=Payload('{"n":1}'), context=Payload("[2]")))
    world.put(world.a_run(run_id="r2"))
    plain = status("default", "r1")
    assert not plain.keys() & {"args", "context", "attempts"}
    whole = status("default", "r1", include=["args", "context", "attempts"])
    assert whole == plain | {"args": {"n": 1}, "context": [2], "attempts": []}
    assert status("default", "r2", include=["context"])["context"] is None
    assert status("default", "ghost", include=["args"]) == {"runId": "ghost", "kind": "unknown"}


def test_what_cannot_be_included_is_refused(world) -> None:
    with pytest.raises(
        errors.InvalidRequest, match="include must be one of args, context, attempts"
    ):
        status("default", "r1", include=["args", "secrets"])


@pytest.fixture
def attempted(world, message, no_jitter) -> Callable[..., Run]:
    """One attempt of a run, which takes two seconds; when it is due."""

    def of(run: Run, error: Exception | None = None) -> Run:
        def work(ctx: Any, args: Any) -> None:
            world.tick(2)
            if error is not None:
                raise error

        world.action(work)
        world.now_ms = max(world.now_ms, run.due)
        attempt(message(run), remaining_ms=lambda: 70_000)
        return world.run(run.key)

    return of


@pytest.mark.promise(
    "HTTP API", "The attempts in a status show when each started, how long it took and how it ended"
)
def test_the_attempts_say_when_how_long_and_how_they_ended(world, attempted) -> None:
    run = attempted(world.put(world.a_run()), ValueError("no luck"))
    run = attempted(run)
    assert status("default", "r1", include=["attempts"])["attempts"] == [
        {"retries": 0, "startedAt": NOW, "ms": 2000, "ended": "failed", "error": "no luck"},
        {"retries": 1, "startedAt": NOW + 3000, "ms": 2000, "ended": "success"},
    ]


@pytest.mark.promise(
    "HTTP API", "A run keeps its last ten attempts, each error cut at 100 characters"
)
def test_the_last_ten_attempts_are_kept_their_errors_cut(world, attempted) -> None:
    run = world.put(world.a_run(max_retries=12))
    while not run.ended:
        run = attempted(run, ValueError("x" * 5000))
    history = status("default", "r1", include=["attempts"])["attempts"]
    assert [it["retries"] for it in history] == list(range(3, 13))
    assert {len(it["error"]) for it in history} == {100}
    assert run.error is not None and len(run.error) == 4096


@pytest.mark.promise("Status", "The history of attempts needs no writes of its own")
def test_the_history_takes_no_writes_of_its_own(world, attempted) -> None:
    run = world.put(world.a_run())
    attempted(attempted(run, ValueError("no luck")))
    writes = [name for name, _ in world.calls if name.startswith(("put", "update"))]
    assert writes == ["update_item"] * 4  # claim and reschedule, claim and finish
