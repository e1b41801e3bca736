"""The cases that the original component's and its successor's own tests name, each under its name.

Thin on purpose: what else is true of each is tested beside its module.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from handlers import sweeper
from workpool import NonRetryableError, errors
from workpool.aws import open_runs
from workpool.core.changes import Change
from workpool.core.message import Message, parse
from workpool.core.run import Payload, Run, open_partition
from workpool.verbs import control, relay
from workpool.verbs.attempt import attempt
from workpool.verbs.cancel import cancel, cancel_all
from workpool.verbs.complete import complete
from workpool.verbs.status import status
from workpool.verbs.submit import submit

NOW = 1_790_000_000_000
SECONDS_70 = 70_000


@pytest.fixture
def do(world, no_jitter) -> Callable[..., Run]:
    """One attempt of a run at its due, by a message as the relay sends it."""

    def of(run: Run, work: Callable[..., Any] = lambda ctx, args: None) -> Run:
        world.action(work)
        world.now_ms = max(world.now_ms, run.due)
        attempt(Message(run=run.key, due=run.due), remaining_ms=lambda: SECONDS_70)
        return world.run(run.key)

    return of


def fails(ctx: Any, args: Any) -> None:
    raise ValueError("no luck")


def running(world: Any, **fields: Any) -> Run:
    first = {"kind": "running", "claim": "c1", "lease": NOW + SECONDS_70, "started_at": NOW}
    run: Run = world.put(world.a_run(**(first | fields)))
    return run


# Submit and status


@pytest.mark.promise("Cases of the original and its successor", "A new run is enqueued")
def test_new_run_pends(world) -> None:
    world.deploy_jobs()
    run_id = submit({"action": "jobs.work"})["runId"]
    assert status("default", run_id)["kind"] == "enqueued"
    assert [run_id for _, run_id in open_runs.list_open_keys("default", limit=9)] == [run_id]


@pytest.mark.promise(
    "Cases of the original and its successor", "A parallelism out of bounds is refused"
)
@pytest.mark.parametrize("limit", [-1, 0, 1001, 2.5])
def test_parallelism_out_of_bounds_is_refused(world, limit: float) -> None:
    with pytest.raises(errors.InvalidRequest, match="maxParallelism must be an integer from 1 to"):
        control.change("default", {"maxParallelism": limit})


@pytest.mark.promise(
    "Cases of the original and its successor", "The status of a missing run is `unknown`"
)
def test_status_of_missing(world) -> None:
    assert status("default", "r1") == {"runId": "r1", "kind": "unknown"}


@pytest.mark.promise(
    "Cases of the original and its successor", "The status of a new run is `enqueued`"
)
def test_status_of_new(world) -> None:
    world.put(world.a_run())
    assert status("default", "r1")["kind"] == "enqueued"


@pytest.mark.promise(
    "Cases of the original and its successor", "The status of a started run is `running`"
)
def test_status_of_started(world, do) -> None:
    seen = []
    do(world.put(world.a_run()), lambda ctx, args: seen.append(status("default", "r1")))
    assert (seen[0]["kind"], seen[0]["retries"]) == ("running", 0)


@pytest.mark.promise(
    "Cases of the original and its successor",
    "The status of a failed run that waits for its retry is `scheduled`",
)
def test_status_of_failed_awaiting_retry(world, do) -> None:
    do(world.put(world.a_run()), fails)
    shape = status("default", "r1")
    assert (shape["kind"], shape["retries"], shape["nextRun"]) == ("scheduled", 1, NOW + 1000)


@pytest.mark.promise(
    "Cases of the original and its successor",
    "The status of a run that is asked to cancel while it runs is `running`",
)
def test_status_of_canceling(world) -> None:
    running(world)
    assert cancel("default", "r1")["kind"] == "running"
    assert status("default", "r1")["kind"] == "running"


# Ends


@pytest.mark.promise("Cases of the original and its successor", "A success ends the run")
def test_success_ends_it(world, do) -> None:
    run = do(world.put(world.a_run()), lambda ctx, args: 42)
    assert status("default", run.run_id)["result"] == {"type": "success", "returnValue": 42}
    assert run.kind == "completed"


@pytest.mark.promise(
    "Cases of the original and its successor", "Without retries, a failure ends the run"
)
def test_failure_without_retries_is_terminal(world, do) -> None:
    run = do(world.put(world.a_run(max_retries=0)), fails)
    assert (run.kind, run.result, run.error) == ("completed", "failed", "no luck")


@pytest.mark.promise(
    "Cases of the original and its successor",
    "A failed run with retries left waits for its next attempt",
)
def test_failed_with_retries_left_pends_again(world, do) -> None:
    run = do(world.put(world.a_run(max_retries=1)), fails)
    assert (run.kind, run.retries) == ("scheduled", 1)
    assert do(run).result == "success"


@pytest.mark.promise(
    "Cases of the original and its successor",
    "A NonRetryableError ends the run although retries remain",
)
def test_non_retryable_overrides_remaining_retries(world, do) -> None:
    def refuses(ctx: Any, args: Any) -> None:
        raise NonRetryableError("a bad card")

    run = do(world.put(world.a_run(max_retries=9)), refuses)
    assert (run.kind, run.result, run.error) == ("completed", "failed", "a bad card")


@pytest.mark.promise(
    "Cases of the original and its successor", "Two failures in a row are both retried"
)
def test_two_failures_before_a_pass_are_both_retried(world, do) -> None:
    run = do(do(world.put(world.a_run()), fails), fails)
    assert (run.kind, run.retries) == ("scheduled", 2)
    assert do(run).result == "success"


@pytest.mark.promise(
    "Cases of the original and its successor", "A run with a long backoff does not start early"
)
def test_long_backoff_does_not_start_early(world, do) -> None:
    run = do(world.put(world.a_run(initial_backoff_ms=3_600_000)), fails)
    assert run.due == NOW + 3_600_000
    world.now_ms = run.due - 1
    message = Message(run=run.key, due=run.due)
    assert attempt(message, remaining_ms=lambda: SECONDS_70) == 1  # It comes back in a second.
    assert world.run(run.key) == run


@pytest.mark.promise(
    "Cases of the original and its successor", "`onComplete` gets the context and the return value"
)
def test_on_complete_gets_context_and_value(world, do) -> None:
    calls = []
    world.handler(lambda ctx, context, result: calls.append((context, result)))
    run = do(
        world.put(world.a_run(on_complete="jobs.done", context=Payload('{"n":1}'))), lambda c, a: 42
    )
    complete(run.key, remaining_ms=lambda: SECONDS_70)
    assert calls == [({"n": 1}, {"type": "success", "returnValue": 42})]


# Cancel


@pytest.mark.promise(
    "Cases of the original and its successor", "Two cancels have the same effect as one"
)
def test_cancel_twice_equals_once(world) -> None:
    world.put(world.a_run(on_complete="jobs.done"))
    first = cancel("default", "r1")
    after = world.run("default#r1")
    world.tick(5)
    assert cancel("default", "r1") == first
    assert world.run("default#r1") == after


@pytest.mark.promise(
    "Cases of the original and its successor", "A cancel of an ended run changes nothing"
)
@pytest.mark.parametrize("result", ["success", "failed"])
def test_cancel_of_ended_work_changes_nothing(world, result: str) -> None:
    run = world.put(
        world.a_run(kind="completed", result=result, return_value=Payload("1"), error="e")
    )
    assert cancel("default", "r1")["result"]["type"] == result
    assert world.run(run.key) == run


@pytest.mark.promise(
    "Cases of the original and its successor", "cancelAll works over more than one page"
)
def test_cancel_all_over_more_than_one_page(world, monkeypatch) -> None:
    monkeypatch.setattr("workpool.verbs.cancel.CANCEL_PAGE", 10)
    runs = [
        world.a_run(run_id=f"r{n}", enqueued_at=NOW - n, open=open_partition("default", f"r{n}"))
        for n in range(1, 26)
    ]
    world.put_many(runs)
    cancel_all("default")
    sweeper.carry_out_cancel_all(sweeper.pools.pool("default"), in_time=lambda: True)
    assert {world.run(run.key).kind for run in runs} == {"canceled"}


@pytest.mark.promise(
    "Cases of the original and its successor",
    "A run that is canceled before it starts never starts",
)
def test_cancel_before_start(world, do) -> None:
    started = []
    run = world.put(world.a_run())
    cancel("default", "r1")
    run = do(run, lambda ctx, args: started.append(1))
    assert (started, run.kind) == ([], "canceled")


@pytest.mark.promise(
    "Cases of the original and its successor",
    "A run that is canceled before its retry is never retried",
)
def test_canceled_before_its_retry_is_never_retried(world, do) -> None:
    started = []
    run = do(world.put(world.a_run()), fails)
    cancel("default", "r1")
    run = do(run, lambda ctx, args: started.append(1))
    assert (started, run.kind) == ([], "canceled")


@pytest.mark.promise(
    "Cases of the original and its successor", "A cancel wins over a pending retry"
)
def test_cancel_beats_pending_retry(world, do) -> None:
    def canceled_meanwhile(ctx: Any, args: Any) -> None:
        cancel("default", "r1")
        raise ValueError("no luck")

    run = do(world.put(world.a_run()), canceled_meanwhile)
    assert (run.kind, run.result) == ("canceled", "canceled")


@pytest.mark.promise(
    "Cases of the original and its successor",
    "If a cancel and a success come together, the run is a success",
)
def test_cancel_and_success_together_is_success(world, do) -> None:
    run = do(world.put(world.a_run()), lambda ctx, args: cancel("default", "r1")["kind"])
    assert (run.kind, run.result, run.return_value.text) == ("completed", "success", '"running"')


# Lost workers, late reports


@pytest.mark.promise(
    "Cases of the original and its successor", "A run whose worker is silent is recovered"
)
def test_silent_worker_is_recovered(world, do) -> None:
    run = running(world, lease=NOW)
    world.tick(15 * 60)
    found = sweeper.sweep(remaining_ms=lambda: 240_000).repeated
    (hint,) = world.bodies("default-work")
    assert (dict(found), hint["run"]) == ({"default": 1}, run.key)
    recovered = do(run)
    assert (recovered.kind, recovered.retries) == ("scheduled", 1)
    assert do(recovered).result == "success"


@pytest.mark.promise(
    "Cases of the original and its successor", "Several lost runs are recovered at the same time"
)
def test_several_recoveries_at_once(world, do) -> None:
    runs = [running(world, run_id=f"r{n}", lease=NOW) for n in range(3)]
    message = Message(run=runs[0].key, due=NOW)
    world.meanwhile(
        "update_item", lambda: attempt(message, remaining_ms=lambda: SECONDS_70)
    )  # Another consumer finds the first of them lost, at the same moment.
    after = [do(run) for run in runs]
    assert [(run.kind, run.retries) for run in after] == [("scheduled", 1)] * 3


@pytest.mark.promise(
    "Cases of the original and its successor",
    "A stale or duplicate report is ignored, and the first report is kept",
)
def test_stale_or_duplicate_report_is_ignored_first_kept(world, do) -> None:
    def twice(ctx: Any, args: Any) -> str:
        """While it runs it is taken for lost, and its retry is the first to report."""
        if ctx.retries == 0:
            world.tick(71)
            lost = world.run("default#r1")
            attempt(Message(run=lost.key, due=lost.due), remaining_ms=lambda: SECONDS_70)
            retried = world.run("default#r1")
            world.now_ms = retried.due
            attempt(Message(run=lost.key, due=retried.due), remaining_ms=lambda: SECONDS_70)
        return f"attempt {ctx.retries}"

    run = world.put(world.a_run())
    world.action(twice)
    attempt(Message(run=run.key, due=run.due), remaining_ms=lambda: SECONDS_70)
    assert world.run(run.key).return_value.text == '"attempt 1"'
    assert do(run).return_value.text == '"attempt 1"'


STEPS = ["claim", "finish", "lease of the completion", "completion done"]


@pytest.mark.promise(
    "Cases of the original and its successor", "A crash between any two steps is recovered"
)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_crash_between_any_two_steps_recovers(world, no_jitter, step: str, when: str) -> None:
    world.action(lambda ctx, args: 42)
    world.handler(lambda *given: None)
    run = world.put(world.a_run(on_complete="jobs.done"))
    world.pass_by("update_item", times=STEPS.index(step))
    (world.die_before if when == "before" else world.die_after)("update_item")
    for _ in range(10):
        now = world.run(run.key)
        with suppress(world.Died):
            if now.ended:
                complete(run.key, remaining_ms=lambda: SECONDS_70)
            else:
                attempt(Message(run=run.key, due=now.due), remaining_ms=lambda: SECONDS_70)
        world.tick(71)
    after = world.run(run.key)
    assert (after.result, after.return_value.text, after.completion) == ("success", "42", "done")


# Slots


class Slots:
    """A pool's side of Lambda: a message is taken when reserved concurrency has room for it."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.waiting: list[Message] = []
        self.gates: dict[str, threading.Event] = {}
        self.threads: dict[str, threading.Thread] = {}
        self.started: queue.Queue[str] = queue.Queue()
        world.action(self._work)

    def _work(self, ctx: Any, args: Any) -> None:
        self.started.put(ctx.run_id)
        assert self.gates[ctx.run_id].wait(10)

    def submit(self, number: int) -> None:
        for at in range(number):
            run = self.world.put(self.world.a_run(run_id=f"r{at}"))
            relay.relay([Change(old=None, new=run)])
        records = self.world.deliver("default-work")["Records"]
        self.waiting += [parse(record["body"], pool="default") for record in records]

    def take(self) -> int:
        """Start what may start. Answers how many run."""
        while self.waiting and len(self.threads) < self.world.lambdas.limits()[0]:
            message = self.waiting.pop(0)
            run_id = message.run.partition("#")[2]
            self.gates[run_id] = threading.Event()
            thread = threading.Thread(
                target=attempt, args=[message], kwargs={"remaining_ms": lambda: SECONDS_70}
            )
            self.threads[run_id] = thread
            thread.start()
            assert self.started.get(timeout=10) == run_id
        return len(self.threads)

    def end(self, number: int) -> None:
        for run_id in list(self.threads)[:number]:
            self.gates[run_id].set()
            self.threads.pop(run_id).join()

    def kinds(self) -> dict[str, int]:
        kinds = [item["kind"]["S"] for item in self.world.items()]
        return {kind: kinds.count(kind) for kind in kinds}


@pytest.fixture
def slots(world) -> Iterator[Slots]:
    slots = Slots(world)
    yield slots
    slots.end(len(slots.threads))


@pytest.mark.promise(
    "Cases of the original and its successor", "With a limit of 5, all of 3 runs start"
)
def test_three_runs_under_a_cap_of_five_all_run(slots) -> None:
    control.change("default", {"maxParallelism": 5})
    slots.submit(3)
    assert slots.take() == 3
    assert slots.kinds() == {"running": 3}


@pytest.mark.promise(
    "Cases of the original and its successor", "With a limit of 3, 3 of 7 runs start and 4 wait"
)
def test_seven_under_a_cap_of_three_three_run_four_wait(slots) -> None:
    control.change("default", {"maxParallelism": 3})
    slots.submit(7)
    assert slots.take() == 3
    assert slots.kinds() == {"running": 3, "enqueued": 4}


@pytest.mark.promise(
    "Cases of the original and its successor", "A slot that becomes free is filled again"
)
def test_a_freed_slot_is_refilled(slots) -> None:
    control.change("default", {"maxParallelism": 3})
    slots.submit(7)
    slots.take()
    slots.end(1)
    assert slots.take() == 3
    assert slots.kinds() == {"completed": 1, "running": 3, "enqueued": 3}


@pytest.mark.promise(
    "Cases of the original and its successor",
    "A limit that is lowered below what runs starts no new run and kills none",
)
def test_cap_lowered_below_what_runs_no_new_start_none_killed(slots) -> None:
    control.change("default", {"maxParallelism": 5})
    slots.submit(7)
    slots.take()
    control.change("default", {"maxParallelism": 2})
    assert slots.take() == 5
    slots.end(3)
    assert slots.take() == 2
    assert slots.kinds() == {"completed": 3, "running": 2, "enqueued": 2}
    slots.end(2)
    assert slots.take() == 2
    assert slots.kinds() == {"completed": 5, "running": 2}
