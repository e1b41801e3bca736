"""The list of a pool's runs: oldest first, page by page, whatever ends meanwhile."""

import base64
import json
from typing import Any

import pytest

from tests.support.runs import SETTLED
from workpool import errors
from workpool.aws import store
from workpool.core.run import Run, open_partition
from workpool.verbs import listing
from workpool.verbs.listing import list_runs

NOW = 1_790_000_000_000


def listed(**given: Any) -> tuple[list[str], str | None]:
    page = list_runs("default", **({"kind": None, "limit": None, "cursor": None} | given))
    return [it["runId"] for it in page["runs"]], page.get("cursor")


def an_open_run(world: Any, number: int, **state: Any) -> Run:
    run_id = f"r{number:04}"
    first: dict[str, Any] = {
        "run_id": run_id,
        "enqueued_at": NOW + number,
        "due": NOW + number,
        "open": open_partition("default", run_id, parked=state.get("completion") == "parked"),
    }
    run: Run = world.a_run(**(first | state))
    return run


@pytest.fixture
def many(world) -> list[str]:
    """Ids of 110 open runs over all partitions, oldest first, stored in another order."""
    runs = [an_open_run(world, number) for number in range(110)]
    world.put_many(sorted(runs, key=lambda run: run.run_id[::-1]))
    return [run.run_id for run in runs]


def test_an_empty_pool_lists_nothing(world) -> None:
    assert list_runs("default", kind=None, limit=None, cursor=None) == {"runs": []}


@pytest.mark.promise(
    "HTTP API",
    "`GET /pools/{pool}/runs` lists the open runs, oldest first, "
    "in pages without loss or repetition",
)
def test_the_oldest_comes_first_over_all_partitions(many) -> None:
    assert listed(limit="20")[0] == many[:20]


def test_a_run_is_listed_as_its_status(world) -> None:
    world.put(an_open_run(world, 1, annotation="o1"))
    (shape,) = list_runs("default", kind=None, limit=None, cursor=None)["runs"]
    assert shape == {
        "runId": "r0001",
        "pool": "default",
        "action": "jobs.work",
        "kind": "enqueued",
        "enqueuedAt": NOW + 1,
        "annotation": "o1",
    }


@pytest.mark.promise(
    "HTTP API",
    "`GET /pools/{pool}/runs` lists the open runs, oldest first, "
    "in pages without loss or repetition",
)
@pytest.mark.parametrize("limit", ["30", "100", None])
def test_pages_follow_each_other_without_loss_or_repetition(many, limit: str | None) -> None:
    found, cursor = listed(limit=limit)
    while cursor is not None:
        page, cursor = listed(limit=limit, cursor=cursor)
        found += page
    assert found == many


def test_what_ends_meanwhile_costs_no_other_run_its_place(world, many) -> None:
    found, cursor = listed(limit="50")
    ended = {many[number] for number in range(0, 110, 5)}
    for run_id in ended:
        store.cancel(world.run(f"default#{run_id}"), finished_at=NOW, expires_at=NOW)
    world.put(an_open_run(world, 999))
    while cursor is not None:
        page, cursor = listed(limit="50", cursor=cursor)
        found += page
    assert found == many[:50] + [it for it in many[50:] if it not in ended] + ["r0999"]


def test_runs_of_the_same_millisecond_are_all_listed(world) -> None:
    runs = [an_open_run(world, number, enqueued_at=NOW, due=NOW) for number in range(90)]
    world.put_many(runs)
    found, cursor = listed(limit="40")
    while cursor is not None:
        page, cursor = listed(limit="40", cursor=cursor)
        found += page
    assert sorted(found) == [run.run_id for run in runs]


def test_other_pools_runs_are_not_listed(world) -> None:
    world.put(world.a_run(pool="other", open="other#3"))
    assert listed() == ([], None)


STATES: dict[str, dict[str, Any]] = {
    "enqueued": {},
    "scheduled": {"kind": "scheduled", "due": NOW + 60_000},
    "running": {"kind": "running", "claim": "c1", "lease": NOW + 60_000},
    "pending": {**SETTLED, "completion": "pending", "finished_at": NOW},
    "parked": {**SETTLED, "completion": "parked", "finished_at": NOW},
}


@pytest.mark.promise(
    "HTTP API",
    "The query `kind` selects which runs are listed; ended runs are listed only with `kind=parked`",
)
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (None, ["enqueued", "scheduled", "running"]),
        ("enqueued", ["enqueued"]),
        ("scheduled", ["scheduled"]),
        ("running", ["running"]),
        ("parked", ["parked"]),
    ],
)
def test_a_kind_picks_its_runs_and_an_ended_run_is_only_listed_parked(
    world, kind: str | None, names: list[str]
) -> None:
    numbers = {}
    for number, (name, state) in enumerate(STATES.items()):
        numbers[name] = world.put(an_open_run(world, number, **state)).run_id
    assert listed(kind=kind) == ([numbers[name] for name in names], None)


def test_a_parked_run_shows_why(world) -> None:
    world.put(an_open_run(world, 1, **STATES["parked"], completion_error="no luck"))
    (shape,) = list_runs("default", kind="parked", limit=None, cursor=None)["runs"]
    assert (shape["completion"], shape["completionError"]) == ("parked", "no luck")
    assert shape["result"] == {"type": "success", "returnValue": 1}


def test_a_rare_kind_among_many_may_take_more_than_one_request(world, many, monkeypatch) -> None:
    world.put(an_open_run(world, 1200, **STATES["running"]))
    monkeypatch.setattr(listing, "MAX_PAGES", 1)
    found, cursor = listed(kind="running")
    assert found == []
    assert cursor is not None
    assert listed(kind="running", cursor=cursor)[0] == ["r1200"]


def cursor_of(shape: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(shape).encode()).decode()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "completed"}, "kind must be one of enqueued, scheduled, running, parked, got"),
        ({"kind": ""}, "kind must be one of enqueued, scheduled, running, parked, got ''"),
        ({"limit": "0"}, "limit must be an integer from 1 to 100, got '0'"),
        ({"limit": "101"}, "limit must be an integer from 1 to 100, got '101'"),
        ({"limit": "ten"}, "limit must be an integer from 1 to 100, got 'ten'"),
        ({"limit": "-1"}, "limit must be an integer from 1 to 100, got '-1'"),
        ({"cursor": ""}, "cursor must be the cursor of an earlier answer"),
        ({"cursor": "ü"}, "cursor must be the cursor of an earlier answer"),
        ({"cursor": "bm9wZQ=="}, "cursor must be the cursor of an earlier answer"),
        ({"cursor": cursor_of(["1", "r1"])}, "cursor must be the cursor of an earlier answer"),
        ({"cursor": cursor_of([-1, "r1"])}, "cursor must be the cursor of an earlier answer"),
        ({"cursor": cursor_of([1, 2])}, "cursor must be the cursor of an earlier answer"),
        ({"cursor": cursor_of(None)}, "cursor must be the cursor of an earlier answer"),
        ({"cursor": cursor_of([10**60, "r1"])}, "cursor must be the cursor of an earlier answer"),
    ],
)
def test_what_is_out_of_bounds_is_refused(world, given: dict[str, str], message: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        listed(**given)
    assert str(caught.value).startswith(message)
