"""Counters and statistics: each change counted once, whatever is replayed; and what they add to."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers import counters as function
from handlers import stats as publisher
from handlers import sweeper
from tests.support.environment import write_pools
from tests.support.invocations import FIRST_SEQUENCE, stream_record
from workpool.aws import counters, logs, pools
from workpool.aws.counters import count
from workpool.aws.environment import environment
from workpool.core.changes import Change, deltas
from workpool.core.message import Message
from workpool.core.run import Payload, Run, open_partition
from workpool.verbs import cancel, stats, sweep
from workpool.verbs.attempt import attempt
from workpool.verbs.stats import recount

NOW = 1_790_000_000_000
MINUTE = 60_000
WINDOW = 300_000
SETTLED = {
    "kind": "completed",
    "result": "success",
    "return_value": Payload("1"),
    "finished_at": NOW,
}

# What one change counts

ENQUEUED: dict[str, Any] = {"kind": "enqueued"}
SCHEDULED: dict[str, Any] = {"kind": "scheduled", "due": NOW + 60_000}
RUNNING: dict[str, Any] = {"kind": "running", "claim": "c1"}
SUCCESS: dict[str, Any] = {"kind": "completed", "result": "success", "finished_at": NOW + 700}
FAILED: dict[str, Any] = {"kind": "completed", "result": "failed", "finished_at": NOW + 700}
CANCELED: dict[str, Any] = {"kind": "canceled", "result": "canceled", "finished_at": NOW + 700}
NOTHING: dict[str, int] = {}
ENDED = {"pending": -1, "ended": 1, "failed": 0, "duration_ms": 700}
TABLE: list[tuple[dict[str, Any] | None, dict[str, Any] | None, dict[str, int]]] = [
    (None, ENQUEUED, {"pending": 1}),
    (None, SCHEDULED, {"pending": 1}),
    (ENQUEUED, RUNNING, NOTHING),
    (SCHEDULED, RUNNING, NOTHING),
    (RUNNING, SCHEDULED, {"executions": 1, "errors": 1}),
    (RUNNING, SUCCESS, {"executions": 1, "errors": 0, **ENDED}),
    (RUNNING, FAILED, {"executions": 1, "errors": 1, **ENDED, "failed": 1}),
    (RUNNING, CANCELED, {"executions": 1, "errors": 1, **ENDED}),
    (ENQUEUED, CANCELED, ENDED),
    (SCHEDULED, CANCELED, ENDED),
    # A filter of the stream leaves claims out, but a shard may begin anywhere.
    (ENQUEUED, SCHEDULED, NOTHING),
    # Writes that change no state, and those to an ended run.
    (ENQUEUED, ENQUEUED, NOTHING),
    (SCHEDULED, SCHEDULED, NOTHING),
    (RUNNING, RUNNING | {"cancel_requested": True}, NOTHING),
    (SUCCESS, SUCCESS | {"completion": "done"}, NOTHING),
    (FAILED, FAILED | {"completion": "parked"}, NOTHING),
    (CANCELED, CANCELED | {"completion": "done"}, NOTHING),
    # Forgotten; and a key used again after that, whose put overwrites the expired item.
    (SUCCESS, None, NOTHING),
    (SUCCESS, ENQUEUED | {"enqueued_at": NOW + 1}, {"pending": 1}),
    (CANCELED, SCHEDULED | {"enqueued_at": NOW + 1}, {"pending": 1}),
]


@pytest.mark.promise("Cancel", "A canceled run is counted as canceled, never as failed")
@pytest.mark.promise(
    "Statistics",
    "`pending` counts the runs that have not ended, also those that run or wait for a retry",
)
@pytest.mark.parametrize(("old", "new", "counted"), TABLE)
def test_what_a_change_of_state_counts(world, old, new, counted) -> None:
    before = None if old is None else world.a_run(**old)
    after = None if new is None else world.a_run(**new)
    assert dict(deltas(Change(old=before, new=after))) == counted


# Counted once


def changes(world: Any, number: int, *, start: int = 0) -> list[Change]:
    """So many runs, created and ended in turn, with places in the stream."""
    found = []
    for at in range(start, start + number):
        run = world.a_run(run_id=f"r{at // 2}")
        ended = world.a_run(run_id=f"r{at // 2}", **CANCELED)
        old, new = (None, run) if at % 2 == 0 else (run, ended)
        found.append(Change(sequence=str(10**20 + at), at_ms=NOW, old=old, new=new))
    return found


SHARD = "shardId-00000001790000000000-a1b2c3d4"


def counted(world: Any, its: list[Change], *, shard: str = SHARD) -> None:
    count(its, shard=shard)


def totals() -> tuple[int, int]:
    """Pending, and runs that ended."""
    ended = counters.read_window(pools.pool("default"), NOW)["ended"]
    return counters.read_pending("default"), ended


def test_a_batch_writes_each_of_its_rows_once_and_needs_nothing_else(world) -> None:
    counted(world, changes(world, 5))
    assert totals() == (1, 2)
    assert [name for name, _ in world.calls if name != "query"] == ["update_item"] * 2


@pytest.mark.promise(
    "Statistics",
    "Each change of a run counts once, even if a batch is replayed, a "
    "process dies, or two processes count at the same time",
)
def test_a_replayed_batch_counts_nothing(world) -> None:
    for _ in range(3):
        counted(world, changes(world, 5))
    assert totals() == (1, 2)


@pytest.mark.promise(
    "Statistics",
    "Each change of a run counts once, even if a batch is replayed, a "
    "process dies, or two processes count at the same time",
)
def test_a_replay_with_more_behind_counts_what_is_new(world) -> None:
    counted(world, changes(world, 5))
    counted(world, changes(world, 9))
    counted(world, changes(world, 9))
    assert totals() == (1, 4)


@pytest.mark.promise(
    "Statistics",
    "Each change of a run counts once, even if a batch is replayed, a "
    "process dies, or two processes count at the same time",
)
def test_counted_batches_that_come_again_as_one_count_nothing(world) -> None:
    its = changes(world, 9)
    counted(world, its[:5])
    counted(world, its[5:])
    counted(world, its)
    assert totals() == (1, 4)


@pytest.mark.promise(
    "Statistics",
    "Each change of a run counts once, even if a batch is replayed, a "
    "process dies, or two processes count at the same time",
)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("rows", [0, 1])
def test_a_process_that_dies_at_a_count_has_it_counted_once_all_the_same(
    world, when: str, rows: int
) -> None:
    its = changes(world, 5)
    world.pass_by("update_item", times=rows)
    (world.die_before if when == "before" else world.die_after)("update_item")
    with pytest.raises(world.Died):
        counted(world, its)
    counted(world, its)
    assert totals() == (1, 2)


def test_an_answer_that_was_lost_counts_once(world) -> None:
    world.lose_answer("update_item")
    counted(world, changes(world, 5))
    assert totals() == (1, 2)


def test_runs_that_began_and_ended_in_one_batch_are_not_counted_by_a_later_half(world) -> None:
    its = changes(world, 4)
    counted(world, its)
    counted(world, its[1:])
    counted(world, its[3:])
    assert totals() == (0, 2)


@pytest.mark.parametrize("code", ["ThrottlingException", "TransactionConflictException"])
def test_a_row_that_is_refused_has_the_batch_come_again_and_keeps_no_other_from_counting(
    world, code: str
) -> None:
    its = [*changes(world, 5), *moved(changes(world, 1, start=10), "other")]
    world.refuse("update_item", code)
    with pytest.raises(ClientError):
        counted(world, its)
    assert totals() == (0, 2)
    assert counters.read_pending("other") == 1
    counted(world, its)
    assert totals() == (1, 2)
    assert counters.read_pending("other") == 1


@pytest.mark.promise(
    "Statistics",
    "Each change of a run counts once, even if a batch is replayed, a "
    "process dies, or two processes count at the same time",
)
def test_the_same_batch_counted_twice_at_once_counts_once(world) -> None:
    its = changes(world, 9)
    world.meanwhile("update_item", lambda: counted(world, its))
    counted(world, its)
    assert totals() == (1, 4)


@pytest.mark.promise(
    "Statistics",
    "Each change of a run counts once, even if a batch is replayed, a "
    "process dies, or two processes count at the same time",
)
def test_a_longer_replay_at_the_same_time_counts_once(world) -> None:
    world.meanwhile("update_item", lambda: counted(world, changes(world, 5)))
    counted(world, changes(world, 9))
    assert totals() == (1, 4)


def test_shards_count_apart_whatever_their_places_are(world) -> None:
    its = changes(world, 8)
    counted(world, its[4:], shard="one")
    counted(world, its[:3], shard="two")
    assert totals() == (1, 3)
    rows = {row["sk"]["S"].rpartition("#")[2] for row in rows_of(world)}
    assert rows == {"one", "two"}


def test_places_are_compared_as_numbers(world) -> None:
    first, second = changes(world, 2)
    counted(world, [replace(first, sequence="9")])
    counted(world, [replace(second, sequence="10")])
    assert totals() == (0, 1)


def moved(its: list[Change], pool: str) -> list[Change]:
    """The same changes, of another pool's runs."""
    return [
        replace(
            it, old=it.old and replace(it.old, pool=pool), new=it.new and replace(it.new, pool=pool)
        )
        for it in its
    ]


def rows_of(world: Any) -> list[Any]:
    return list(world.client("dynamodb").scan(TableName="stats")["Items"])


# Shards come and go


def later(its: list[Change], days: float) -> list[Change]:
    return [replace(it, at_ms=it.at_ms + round(days * 24 * 3600 * 1000)) for it in its]


def test_a_new_shard_sums_up_those_that_can_bring_nothing_any_more(world) -> None:
    counted(world, changes(world, 5), shard="old")
    counted(world, later(changes(world, 1, start=20), 1.5), shard="recent")
    counted(world, later(changes(world, 1, start=30), 2.1), shard="new")
    pending = {row["sk"]["S"]: row["pending"]["N"] for row in rows_of(world) if "pending" in row}
    assert pending == {"pending#sum": "1", "pending#recent": "1", "pending#new": "1"}
    counted(world, later(changes(world, 3, start=30), 2.1), shard="new")
    counted(world, later(changes(world, 1, start=40), 5), shard="newest")
    assert counters.read_pending("default") == 4
    assert len([row for row in rows_of(world) if row["sk"]["S"].startswith("pending")]) == 2


def test_two_that_sum_up_at_once_do_it_once(world) -> None:
    counted(world, changes(world, 5), shard="old")
    both = [later(changes(world, 1, start=20 + 10 * n), 3) for n in (0, 1)]
    world.meanwhile("transact_write_items", lambda: counted(world, both[0], shard="a"))
    counted(world, both[1], shard="b")
    assert counters.read_pending("default") == 3


def test_a_row_that_counts_while_it_is_summed_up_is_left_as_it_is(world) -> None:
    counted(world, changes(world, 5), shard="old")
    more = later(changes(world, 1, start=6), 3)
    world.meanwhile("transact_write_items", lambda: counted(world, more, shard="old"))
    counted(world, later(changes(world, 1, start=20), 3), shard="new")
    assert counters.read_pending("default") == 3


@pytest.mark.parametrize("operation", ["query", "transact_write_items"])
def test_counting_does_not_wait_for_the_sum(world, operation: str) -> None:
    counted(world, changes(world, 5), shard="old")
    world.refuse(operation, "ThrottlingException")
    counted(world, later(changes(world, 1, start=20), 3), shard="new")
    assert counters.read_pending("default") == 2


def test_runs_of_a_pool_that_is_deployed_no_more_are_passed_by(world) -> None:
    gone = world.a_run(pool="gone")
    counted(world, [Change(sequence="1", at_ms=NOW, old=None, new=gone)])
    assert counters.read_pending("gone") == 0


# Recounted


def test_what_two_recounts_in_a_row_find_wrong_is_put_right(world, logged) -> None:
    counted(world, changes(world, 5))
    recount("default", 3)
    assert totals() == (1, 2)
    recount("default", 3)
    recount("default", 3)
    assert totals() == (3, 2)
    [line] = logged("pending-corrected")
    assert (line["counted"], line["by"]) == (1, 2)


def test_a_recount_that_agrees_writes_nothing(world) -> None:
    counted(world, changes(world, 5))
    before = len(world.calls)
    recount("default", 1)
    assert [name for name, _ in world.calls[before:]] == ["query"]


def test_another_difference_or_a_change_in_between_is_only_noted(world, ended) -> None:
    counted(world, changes(world, 5))
    recount("default", 3)
    recount("default", 2)  # another difference
    ended(0)  # a run ended: pending is 0
    recount("default", 1)
    counted(world, changes(world, 2, start=10))  # one was created and ended
    recount("default", 1)
    assert counters.read_pending("default") == 0


def test_two_recounts_at_once_put_it_right_once(world) -> None:
    counted(world, changes(world, 5))
    recount("default", 3)
    world.meanwhile("transact_write_items", lambda: recount("default", 3))
    recount("default", 3)
    assert totals() == (3, 2)


def test_the_sweeper_recounts_the_pending_of_every_pool(world, lambda_context) -> None:
    world.put(world.a_run())
    world.put(world.a_run(run_id="r2", pool="other", open="other#1"))
    world.put(world.a_run(run_id="r3", **SETTLED, on_complete="a.b", completion="pending"))
    for _ in range(2):
        sweeper.handler({}, lambda_context())
    assert (counters.read_pending("default"), counters.read_pending("other")) == (1, 1)


def test_a_sweep_that_did_not_see_all_recounts_nothing(world, lambda_context, monkeypatch) -> None:
    monkeypatch.setattr(sweep, "PAGE", 2)
    world.put_many(world.a_run(run_id=f"r{n}") for n in range(5))
    for _ in range(6):
        sweeper.handler({}, lambda_context(1000))
    assert counters.read_pending("default") == 0


def test_counters_are_forgotten_but_for_the_pending(world) -> None:
    counted(world, changes(world, 5))
    rows = world.client("dynamodb").scan(TableName="stats")["Items"]
    kept = {row["sk"]["S"].partition("#")[0]: "expiresAt" in row for row in rows}
    assert kept == {"pending": False, "window": True}
    assert {row["expiresAt"]["N"] for row in rows if "expiresAt" in row} == {
        str(NOW // 1000 + 2 * 24 * 3600)
    }


@pytest.mark.promise(
    "Statistics",
    "Each change of a run counts once, even if a batch is replayed, a "
    "process dies, or two processes count at the same time",
)
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_whatever_the_stream_repeats_and_however_it_cuts_it_each_change_counts_once(
    world, data: st.DataObject
) -> None:
    """Two shards, each in order. A batch may fail at any of its rows, and then a shard goes on from
    any checkpoint that it ever had, in batches that are cut anew."""
    pool = f"p{len(world.pools)}"  # Of its own, since the examples share the table.
    world.pools[pool] = dict(world.pools["default"])
    write_pools(world.source, world.pools)
    world.calls.clear()
    of_shard = {shard: moved(changes(world, 8, start=8 * shard), pool) for shard in (0, 1)}
    position = {0: 0, 1: 0}
    for _ in range(data.draw(st.integers(2, 9))):
        shard = data.draw(st.sampled_from((0, 1)))
        begin = data.draw(st.integers(0, position[shard]))
        end = data.draw(st.integers(begin, 8))
        if data.draw(st.booleans()):
            world.pass_by("update_item", times=data.draw(st.integers(0, 1)))
            (world.die_before if data.draw(st.booleans()) else world.die_after)("update_item")
        with suppress(world.Died):
            count(of_shard[shard][begin:end], shard=f"shard-{shard}")
            position[shard] = max(position[shard], end)
        world.forget_faults()
    seen = [it for shard, its in of_shard.items() for it in its[: position[shard]]]
    for shard, its in of_shard.items():  # What a batch that failed left half counted comes again.
        count(its[: position[shard]], shard=f"shard-{shard}")
        more = its[position[shard] :]
        seen += more
        count(more, shard=f"shard-{shard}")
    added: Counter[str] = Counter()
    for change in seen:
        added.update(deltas(change))
    assert counters.read_pending(pool) == added["pending"]
    window = counters.read_window(pools.pool(pool), NOW)
    assert window == Counter({name: added[name] for name in window})


# The counters' function


def stream(world: Any, its: Iterable[tuple[Run | None, Run | None]], first: int) -> list[Any]:
    """Records of the table's stream, one after the other, made now."""
    return [
        stream_record(
            old and old.to_item(),
            new and new.to_item(),
            sequence=FIRST_SEQUENCE + first + number,
            at_ms=world.now_ms,
        )
        for number, (old, new) in enumerate(its)
    ]


def test_the_shard_of_a_batch_is_the_one_that_lambda_names(world, lambda_context) -> None:
    record = stream(world, [(None, world.a_run())], 0)
    for shard in ("shardId-1", "shardId-2"):
        event = {"Records": record, "shardId": shard, "state": {}, "window": {}}
        assert function.handler(event, lambda_context()) == {"state": {}}
    assert counters.read_pending("default") == 2


def test_the_end_of_a_tumbling_window_counts_nothing(world, lambda_context) -> None:
    event = {"Records": [], "shardId": "shardId-1", "isFinalInvokeForWindow": True}
    assert function.handler(event, lambda_context()) == {"state": {}}
    assert rows_of(world) == []


def test_an_unreadable_item_does_not_keep_others_from_being_counted(world, lambda_context) -> None:
    records = stream(world, [(None, world.a_run()), (None, world.a_run(run_id="r2"))], 0)
    records[0]["dynamodb"]["NewImage"]["v"] = {"N": "2"}
    function.handler({"Records": records}, lambda_context())
    assert counters.read_pending("default") == 1


def snapshot(run_key: str) -> Run | None:
    """The run as it stands, past all clients: three thousand of them must be quick."""
    from moto.dynamodb.models import dynamodb_backends

    item = dynamodb_backends["123456789012"]["us-east-1"].get_item("runs", {"run": {"S": run_key}})
    return None if item is None else Run.from_item(item.to_json()["Attributes"])


@pytest.mark.promise(
    "Statistics",
    "`pending` counts the runs that have not ended, also those that run or wait for a retry",
)
def test_after_many_random_runs_the_statistics_equal_a_recount(
    world, lambda_context, monkeypatch, no_jitter
) -> None:
    chance = random.Random(20)
    world.most_calls = 20_000
    for silenced in ("job_start", "job_retry", "job_end", "log"):
        monkeypatch.setattr(logs, silenced, lambda *given, **more: None)
    outcomes = {"error": 0, "attempts": 0}

    def work(ctx: Any, args: Any) -> None:
        outcomes["attempts"] += 1
        noted(f"default#{ctx.run_id}")
        world.tick(chance.choice([0.01, 0.05]))
        if chance.random() < 0.3:
            outcomes["error"] += 1
            raise ValueError("no luck")

    world.action(work)
    seen: dict[str, Run | None] = {}
    records: list[Any] = []

    def noted(key: str) -> Run:
        now = snapshot(key)
        assert now is not None
        records.extend(stream(world, [(seen.get(key), now)], len(records)))
        seen[key] = now
        return now

    created = []
    for number in range(250):
        retries = chance.choice([0, 1, 1])
        fields = {"run_id": f"r{number}", "max_retries": retries, "enqueued_at": world.now_ms}
        run = world.a_run(**fields, due=world.now_ms, open=open_partition("default", f"r{number}"))
        created.append(run)
        world.tick(0.001)
    world.put_many(created)
    for run in created:
        noted(run.key)
    for key in [*chance.sample(sorted(seen), 240), *chance.sample(sorted(seen), 40)]:
        if chance.random() < 0.1:
            cancel.cancel("default", key.partition("#")[2])
            noted(key)
        elif chance.random() < 0.9:
            message = Message(run=key, due=noted(key).due)
            attempt(message, remaining_ms=lambda: 70_000)
            noted(key)
    changed = [it for it in records if it["dynamodb"].get("OldImage") != it["dynamodb"]["NewImage"]]
    at = 0
    while at < len(changed):
        size = chance.randrange(1, 120)
        batch = changed[at : at + size]
        function.handler({"Records": batch}, lambda_context())
        if chance.random() < 0.3:
            more = changed[at : at + size + chance.randrange(0, 50)]
            function.handler({"Records": more}, lambda_context())
            size = len(more)
        at += size

    runs = [run for run in seen.values() if run is not None]
    ended = [run for run in runs if run.ended]
    pending = [run for run in runs if not run.ended]
    assert len(pending) > 50 < len(ended)
    found = stats.stats("default")
    assert found == {
        "pending": len(pending),
        "oldestPending": world.now_ms - min(run.enqueued_at for run in pending),
        "recentExecutions": outcomes["attempts"],
        "recentErrorRate": outcomes["error"] / outcomes["attempts"],
        "recentPermanentFailureRate": sum(it.result == "failed" for it in ended) / len(ended),
        "recentJobAverageMs": sum((it.finished_at or 0) - it.enqueued_at for it in ended)
        / len(ended),
        "statsWindowMs": WINDOW,
    }


# Statistics


@pytest.fixture
def ended(world) -> Callable[..., None]:
    """Count an attempt that ended its run, so many milliseconds ago."""
    number = Counter[str]()

    def of(ago_ms: int, **state: Any) -> None:
        number["n"] += 1
        now = world.a_run(**(SUCCESS | state))
        change = Change(
            sequence=str(number["n"]), at_ms=NOW - ago_ms, old=world.a_run(**RUNNING), new=now
        )
        counted(world, [change], shard="ended")

    return of


@pytest.mark.promise("Statistics", "A rate is 0 if there is nothing to divide by")
def test_statistics_of_an_idle_pool_divide_by_nothing(world) -> None:
    assert stats.stats("default") == {
        "pending": 0,
        "oldestPending": 0,
        "recentExecutions": 0,
        "recentErrorRate": 0,
        "recentPermanentFailureRate": 0,
        "recentJobAverageMs": 0,
        "statsWindowMs": WINDOW,
    }


@pytest.mark.promise("Statistics", "The bound of the statistics window is inclusive")
def test_the_windows_edge_is_inside(world, ended) -> None:
    ended(WINDOW)
    assert stats.stats("default")["recentExecutions"] == 1
    ended(WINDOW + 5000)
    assert stats.stats("default")["recentExecutions"] == 1
    world.tick(5)
    assert stats.stats("default")["recentExecutions"] == 0


@pytest.mark.promise("Cancel", "A canceled run is counted as canceled, never as failed")
@pytest.mark.promise(
    "Statistics",
    "`recentExecutions` and `recentErrorRate` are about attempts; "
    "`recentPermanentFailureRate` and `recentJobAverageMs` are about runs",
)
def test_rates_are_of_attempts_and_of_runs(world, ended) -> None:
    ended(0)
    ended(0, **FAILED, pool="default")
    ended(0, **CANCELED, pool="default")
    retry = [
        Change(sequence="9", at_ms=NOW, old=world.a_run(**RUNNING), new=world.a_run(**SCHEDULED))
    ]
    counted(world, retry)
    found = stats.stats("default")
    assert found["recentExecutions"] == 4
    assert found["recentErrorRate"] == 3 / 4
    assert found["recentPermanentFailureRate"] == 1 / 3
    assert found["recentJobAverageMs"] == 700


@pytest.mark.parametrize(("window", "width"), [(1000, 1000), (300_000, 5000), (3_600_000, 60_000)])
def test_a_window_is_cut_into_sixty_rows_of_at_least_a_second(window: int, width: int) -> None:
    assert counters.row_width_ms(window) == width


def test_a_pool_counts_its_own_runs_alone(world, ended) -> None:
    ended(0)
    assert stats.stats("other")["recentExecutions"] == 0


@pytest.mark.promise(
    "Statistics", "`oldestPending` is the age of the oldest pending run, and 0 if there is none"
)
@pytest.mark.promise("Statistics", "Ended and parked runs do not count for `oldestPending`")
def test_the_oldest_pending_is_no_ended_and_no_parked_run(world) -> None:
    settled = SETTLED | {"on_complete": "jobs.done"}
    parked = open_partition("default", "r0", parked=True)
    world.put(
        world.a_run(
            run_id="r0", **settled, completion="parked", open=parked, enqueued_at=NOW - 9000
        )
    )
    world.put(world.a_run(run_id="r1", **settled, completion="pending", enqueued_at=NOW - 8000))
    assert stats.stats("default")["oldestPending"] == 0
    world.put(world.a_run(run_id="r2", enqueued_at=NOW - 3000, open="default#1"))
    world.put(world.a_run(run_id="r3", enqueued_at=NOW - 5000, open="default#7"))
    assert stats.stats("default")["oldestPending"] == 5000


@pytest.mark.parametrize(("ended", "oldest"), [(26, 3000), (299, 3000), (300, 9000)])
def test_the_oldest_pending_is_found_behind_many_runs_whose_completion_is_due(
    world, ended: int, oldest: int
) -> None:
    """Behind more than are looked at, it is said to be at most as old as the last of those."""
    settled = SETTLED | {"on_complete": "jobs.done", "completion": "pending"}
    world.put_many(
        world.a_run(run_id=f"r{n}", **settled, enqueued_at=NOW - 9000 - n) for n in range(ended)
    )
    world.put(world.a_run(run_id="waits", enqueued_at=NOW - 3000))
    assert stats.stats("default")["oldestPending"] == oldest


@pytest.mark.parametrize(("scheduled", "oldest"), [(299, 3000), (300, 0)])
def test_a_due_run_is_found_behind_many_that_are_scheduled_for_later(
    world, scheduled: int, oldest: int
) -> None:
    """Behind any number it is the sweeper that finds it."""
    later = {"kind": "scheduled", "due": NOW + 24 * 60 * MINUTE, "enqueued_at": NOW - 9000}
    world.put_many(world.a_run(run_id=f"r{n}", **later) for n in range(scheduled))
    world.put(world.a_run(run_id="waits", enqueued_at=NOW - 3000, due=NOW - 3000))
    assert stats.read_oldest_due_ms("default") == oldest


@pytest.mark.promise(
    "Statistics", "Reading the statistics takes the same number of requests for any number of runs"
)
def test_reading_them_takes_no_more_requests_for_more_runs(world) -> None:
    world.put(world.a_run())
    stats.stats("default")
    few = len(world.calls)
    world.put_many(
        world.a_run(run_id=f"r{n}", open=open_partition("default", f"r{n}")) for n in range(60)
    )
    stats.stats("default")
    assert len(world.calls) == 2 * few


@pytest.mark.promise("Log events", "`stats` is logged at every level")
@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARN", "ERROR"])
def test_logged_statistics_are_one_event_at_any_level(world, logged, monkeypatch, level) -> None:
    monkeypatch.setenv("IDEMPOTENT_WORKPOOL_LOG_LEVEL", level)
    environment.cache_clear()
    found = stats.log_stats("default")
    (line,) = logged("stats")
    assert line["pool"] == "default"
    assert {name: line[name] for name in found} == found == stats.stats("default")


# Published


@pytest.fixture
def published(lambda_context, capsys) -> Callable[[], dict[str, dict[str, Any]]]:
    """What the schedule publishes now: metrics by pool, in the form that CloudWatch reads."""

    def now() -> dict[str, dict[str, Any]]:
        capsys.readouterr()
        publisher.handler({}, lambda_context())
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        found = {}
        for line in lines:
            if "_aws" in line:
                (told,) = line["_aws"]["CloudWatchMetrics"]
                assert (told["Namespace"], told["Dimensions"]) == ("Workpool", [["Pool"]])
                found[line["Pool"]] = {it["Name"]: line[it["Name"]] for it in told["Metrics"]}
        assert len([line for line in lines if line.get("event") == "stats"]) == len(found)
        return {
            pool: {
                name: value[0] if isinstance(value, list) else value for name, value in it.items()
            }
            for pool, it in found.items()
        }

    return now


IDLE = {
    "Pending": 0,
    "OldestPending": 0,
    "OldestDue": 0,
    "Executions": 0,
    "ErrorRate": 0,
    "PermanentFailureRate": 0,
    "JobAverageMs": 0,
    "Wedged": 0,
    "Parked": 0,
}


@pytest.mark.promise(
    "Statistics", "Ten metrics are published in the namespace `Workpool`, with the dimension `Pool`"
)
def test_every_pool_publishes_every_metric_under_its_name_alone(world, published) -> None:
    assert published() == {"default": IDLE, "other": IDLE}


@pytest.mark.promise(
    "Statistics", "Ten metrics are published in the namespace `Workpool`, with the dimension `Pool`"
)
def test_what_is_published_is_what_the_statistics_say(world, published, ended) -> None:
    world.put(world.a_run(enqueued_at=NOW - 4000, due=NOW - 4000))
    counted(world, [Change(sequence="77", at_ms=NOW, old=None, new=world.a_run())])
    ended(0, **FAILED)
    assert published()["default"] == {
        "Pending": 0,
        "OldestPending": 4000,
        "OldestDue": 4000,
        "Executions": 1,
        "ErrorRate": 1,
        "PermanentFailureRate": 1,
        "JobAverageMs": 700,
        "Wedged": 0,
        "Parked": 0,
    }


@pytest.mark.promise(
    "Statistics", "A pool is `Wedged` if a run has been due for long and no run ends"
)
def test_a_pool_is_wedged_when_something_is_due_for_long_and_nothing_ends(
    world, published, ended
) -> None:
    world.put(world.a_run())
    world.tick(15 * 60)
    assert published()["default"]["Wedged"] == 0
    world.tick(1)
    assert published()["default"] == IDLE | {
        "Wedged": 1,
        "OldestPending": 901_000,
        "OldestDue": 901_000,
    }
    ended(-901_000)
    assert published()["default"]["Wedged"] == 0


@pytest.mark.promise("Statistics", "A paused pool is not `Wedged`")
def test_a_paused_pool_is_not_wedged_and_has_nothing_due(world, published) -> None:
    from workpool.aws import overrides

    world.put(world.a_run())
    world.tick(60 * 60)
    overrides.update("default", paused=True)
    metrics = published()["default"]
    assert (metrics["Wedged"], metrics["OldestDue"]) == (0, 0)
    assert metrics["OldestPending"] == 60 * MINUTE


@pytest.mark.promise("Statistics", "A run that starts later or already runs is not due")
def test_what_starts_later_or_runs_is_not_due(world, published) -> None:
    world.put(world.a_run(run_id="r1", kind="scheduled", due=NOW + 24 * 60 * MINUTE))
    lease = NOW + 24 * 60 * MINUTE
    world.put(world.a_run(run_id="r2", kind="running", claim="c1", lease=lease))
    world.tick(60 * 60)
    metrics = published()["default"]
    assert (metrics["Wedged"], metrics["OldestDue"], metrics["OldestPending"]) == (0, 0, 3_600_000)


@pytest.mark.promise(
    "Alarms, dashboard, tracing", "Runs that failed for good and parked completions raise alarms"
)
def test_parked_completions_are_counted_until_they_are_redriven(world, published) -> None:
    from workpool.aws import store
    from workpool.verbs.redrive import redrive

    for name in ("r1", "r2"):
        run = world.a_run(
            run_id=name,
            kind="completed",
            result="success",
            finished_at=NOW,
            on_complete="jobs.done",
            completion="pending",
            completion_claim="c",
        )
        store.park_completion(world.put(run), error="no such account")
    metrics = published()
    assert (metrics["default"]["Parked"], metrics["other"]["Parked"]) == (2, 0)
    redrive("default", ["r1"])
    assert published()["default"]["Parked"] == 1
