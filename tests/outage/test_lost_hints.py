"""Hints taken away on the deployed stack: messages deleted, events that no rule saw, a relay and
consumers that were off. Each run ends all the same, its completion's effect once.

The numbers are those of docs/guarantees.md. The sweeper is invoked by hand, with a second in place
of its fifteen minutes.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.outage.conftest import POOLS
from workpool import IdempotentWorkpool
from workpool.core.message import Message

pytestmark = pytest.mark.e2e

RUNS = 500
POOL = "lost"
SLOW = int(POOLS["slow"]["maxParallelism"])
"""How many runs the pool of that name runs at once."""
SETTLED = {"onComplete": "probe.settled"}


class Outage:
    """The deployed stack's parts, to be switched off and on, and its queues, to be emptied."""

    def __init__(self, stack: Any, ledger: Any) -> None:
        self.stack = stack
        self.ledger = ledger

    def client(self, service: str) -> Any:
        return self.stack.client(service)

    def function(self, part: str) -> str:
        return f"{self.stack.name}-{part}"

    def queue(self, part: str) -> str:
        return str(self.client("sqs").get_queue_url(QueueName=self.function(part))["QueueUrl"])

    def submit(self, **request: Any) -> str:
        request = {"pool": POOL, "action": "probe.work", "options": SETTLED} | request
        return str(self.stack.submit(request)["runId"])

    def depth(self, part: str) -> int:
        """All messages, hidden ones too."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.client("sqs").get_queue_attributes(
            QueueUrl=self.queue(part), AttributeNames=names
        )
        return sum(int(answer["Attributes"][name]) for name in names)

    def purge(self, part: str) -> None:
        self.client("sqs").purge_queue(QueueUrl=self.queue(part))

    def send(self, part: str, body: str) -> None:
        self.client("sqs").send_message(QueueUrl=self.queue(part), MessageBody=body)

    def swept_until(self, good: Callable[[], bool], timeout: float = 40) -> None:
        """Sweep every second until it is so."""
        deadline = time.monotonic() + timeout
        while not good():
            assert time.monotonic() < deadline, "not within the time"
            self.stack.sweep()
            time.sleep(1)

    def done(self, run_id: str, pool: str = POOL) -> bool:
        return self.stack.status(pool, run_id).get("completion") == "done"

    def ended(self, run_id: str, *, retries: int = 0, starts: int = 1, pool: str = POOL) -> None:
        """It succeeded, with so many calls of its action and one effect of its completion."""
        status = self.stack.status(pool, run_id)
        told = (status["result"]["type"], status["retries"])
        assert told == ("success", retries), self.retried(run_id, pool)
        assert len(self.ledger.times(run_id, "start")) == starts
        assert self.ledger.completions(run_id) == 1

    def retried(self, run_id: str, pool: str) -> list[str]:
        """Why its attempts failed, as its consumer logged it."""
        lines = self.stack.logs(self.function(f"{pool}-consumer"))
        mine = [it for it in lines if it.get("runId") == run_id]
        return [it["error"] for it in mine if it.get("event") == "job-retry"]

    @contextmanager
    def off(self, part: str) -> Iterator[None]:
        """The mapping of a function is disabled."""
        functions = self.client("lambda")
        [mapping] = functions.list_event_source_mappings(FunctionName=self.function(part))[
            "EventSourceMappings"
        ]
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        time.sleep(0.5)  # What was being delivered is.
        try:
            yield
        finally:
            functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)

    def reserve(self, most: int, pool: str = POOL) -> None:
        self.client("lambda").put_function_concurrency(
            FunctionName=self.function(f"{pool}-consumer"), ReservedConcurrentExecutions=most
        )


@pytest.fixture(scope="module")
def outage(stack: Any, ledger: Any) -> Outage:
    return Outage(stack, ledger)


@pytest.fixture(scope="module", autouse=True)
def live_letter(outage: Outage) -> str:
    """A run whose message also lies in the dead-letter queue while it runs: the letter is kept
    for a minute, in which the other tests go on."""
    run_id = outage.submit(pool="slow", args={"seconds": 6})
    outage.stack.wait("slow", run_id, until=lambda it: it["kind"] == "running")
    due = int(outage.stack.item("slow", run_id)["due"]["N"])
    outage.send("slow-dead-letters", Message(run=f"slow#{run_id}", due=due).body())
    return run_id


def test_fault_07_a_consumer_without_concurrency_fails_no_run(outage: Outage) -> None:
    """In a pool whose actions have time, so that an attempt too many can only be a lost one."""
    outage.reserve(0, pool="slow")
    try:
        run_ids = [outage.submit(pool="slow") for _ in range(5)]
        time.sleep(3)
        kinds = [outage.stack.status("slow", it)["kind"] for it in run_ids]
        assert kinds == ["enqueued"] * 5
    finally:
        outage.reserve(SLOW, pool="slow")
    outage.swept_until(lambda: all(outage.done(it, "slow") for it in run_ids), timeout=90)
    for run_id in run_ids:
        outage.ended(run_id, pool="slow")


def test_fault_07_a_consumer_whose_mapping_was_off_works_through_its_backlog(
    outage: Outage,
) -> None:
    with outage.off(f"{POOL}-consumer"):
        run_ids = [outage.submit() for _ in range(5)]
        outage.stack.until(lambda: outage.depth(f"{POOL}-work"), lambda depth: depth >= 5)
    for run_id in run_ids:
        outage.stack.wait(POOL, run_id, until=lambda it: it.get("completion") == "done")
        outage.ended(run_id)


def test_fault_09_a_letter_of_an_open_run_becomes_its_message(outage: Outage) -> None:
    with outage.off(f"{POOL}-consumer"):
        run_id = outage.submit()
        outage.stack.until(lambda: outage.depth(f"{POOL}-work"), bool)
        outage.purge(f"{POOL}-work")
        due = int(outage.stack.item(POOL, run_id)["due"]["N"])
        letter = Message(run=f"{POOL}#{run_id}", due=due).body()
        outage.send(f"{POOL}-dead-letters", letter)
        outage.stack.until(lambda: outage.depth(f"{POOL}-work"), bool)
    outage.stack.wait(POOL, run_id, until=lambda it: it.get("completion") == "done")
    outage.ended(run_id)


def test_fault_09_a_letter_of_an_ended_run_or_an_earlier_attempt_is_dropped(outage: Outage) -> None:
    ended = outage.submit()
    outage.stack.wait(POOL, ended, until=lambda it: it.get("completion") == "done")
    before = outage.stack.item(POOL, ended)
    again = outage.submit(
        args={"failures": 1}, options={**SETTLED, "initialBackoffMs": 4000, "maxRetries": 1}
    )
    outage.stack.wait(POOL, again, until=lambda it: it["kind"] == "scheduled")
    for run_id in (ended, again):
        due = int(outage.stack.item(POOL, run_id)["enqueuedAt"]["N"])
        letter = Message(run=f"{POOL}#{run_id}", due=due).body()
        outage.send(f"{POOL}-dead-letters", letter)
    outage.stack.until(lambda: outage.depth(f"{POOL}-dead-letters"), lambda depth: depth == 0)
    assert outage.depth(f"{POOL}-work") == 0
    outage.stack.wait(POOL, again, until=lambda it: it.get("completion") == "done")
    outage.ended(again, retries=1, starts=2)
    assert outage.stack.item(POOL, ended) == before


def test_fault_10_a_first_message_that_is_lost_is_repeated(outage: Outage) -> None:
    with outage.off(f"{POOL}-consumer"):
        run_id = outage.submit()
        outage.stack.until(lambda: outage.depth(f"{POOL}-work"), bool)
        outage.purge(f"{POOL}-work")
    outage.swept_until(lambda: outage.done(run_id))
    outage.ended(run_id)


def test_fault_10_a_retriers_message_that_is_lost_is_repeated_and_its_execution_ends(
    outage: Outage,
) -> None:
    run_id = outage.submit(args={"failures": 1}, options={**SETTLED, "initialBackoffMs": 3000})
    outage.stack.wait(POOL, run_id, until=lambda it: it["kind"] == "scheduled")
    with outage.off(f"{POOL}-consumer"):
        outage.stack.until(lambda: outage.depth(f"{POOL}-work"), bool)
        outage.purge(f"{POOL}-work")
    outage.swept_until(lambda: outage.done(run_id))
    outage.ended(run_id, retries=1, starts=2)
    executions = outage.client("stepfunctions")

    def states() -> list[str]:
        machine = outage.stack.outputs["LostRetrierArn"]
        listed = executions.list_executions(stateMachineArn=machine)["executions"]
        return [it["status"] for it in listed if it["name"].startswith(run_id)]

    outage.stack.until(states, lambda them: them == ["ABORTED"])


def test_fault_12_an_ended_event_that_no_rule_saw_is_announced_again(outage: Outage) -> None:
    events, bus = outage.client("events"), outage.stack.outputs["EventBusName"]
    [rule] = events.list_rules(EventBusName=bus)["Rules"]
    events.disable_rule(Name=rule["Name"], EventBusName=bus)
    try:
        run_id = outage.submit()
        outage.stack.wait(POOL, run_id)
        time.sleep(2)
        assert outage.stack.status(POOL, run_id)["completion"] == "pending"
    finally:
        events.enable_rule(Name=rule["Name"], EventBusName=bus)
    outage.swept_until(lambda: outage.done(run_id))
    outage.ended(run_id)


def test_fault_12_a_lost_message_of_the_completion_queue_is_announced_again(
    outage: Outage,
) -> None:
    with outage.off("completion"):
        run_id = outage.submit()
        outage.stack.until(lambda: outage.depth("completions"), bool)
        outage.purge("completions")
    outage.swept_until(lambda: outage.done(run_id))
    outage.ended(run_id)


def test_fault_25_a_pool_made_smaller_under_load_paused_and_resumed_loses_nothing(
    outage: Outage,
) -> None:
    """In a pool whose actions have time: a machine that is busy with other things must not end
    them. All processes stand before the pool is made smaller: one that Lambda has let start
    and that is still being loaded may call its action later."""

    def change(**settings: int | bool) -> None:
        assert outage.stack.http("PATCH", "/pools/slow", settings)[0] == 200

    def seen() -> int:
        return sum(bool(outage.ledger.times(run_id, "start")) for run_id in run_ids)

    for run_id in [outage.submit(pool="slow", args={"seconds": 3}) for _ in range(SLOW)]:
        outage.stack.wait("slow", run_id)
    run_ids = [outage.submit(pool="slow", args={"seconds": 0.7}) for _ in range(40)]
    outage.stack.until(seen, lambda started: started > SLOW)
    change(maxParallelism=2)
    smaller = time.time() * 1000 + 1000
    time.sleep(3)
    change(paused=True)
    paused = time.time() * 1000 + 500
    time.sleep(3)
    resumed = time.time() * 1000
    change(paused=False, maxParallelism=SLOW)
    outage.swept_until(lambda: all(outage.done(it, "slow") for it in run_ids), timeout=90)
    spans = []
    for run_id in run_ids:
        outage.ended(run_id, pool="slow")  # No one was killed: one start each.
        spans += [(*outage.ledger.times(run_id, "start"), *outage.ledger.times(run_id, "end"))]
    assert outage.ledger.most_at_once([it for it in spans if smaller <= it[0] < paused]) <= 2
    assert [it for it in spans if paused <= it[0] < resumed] == []
    assert outage.ledger.most_at_once(spans) <= SLOW
    assert outage.depth("slow-dead-letters") in (0, 1)  # live_letter's


def test_fault_28_a_relay_that_was_off_works_through_the_stream_that_waited(
    outage: Outage,
) -> None:
    with outage.off("relay"):
        run_ids = [outage.submit() for _ in range(5)]
        time.sleep(2)
        assert [outage.stack.status(POOL, it)["kind"] for it in run_ids] == ["enqueued"] * 5
    for run_id in run_ids:
        outage.stack.wait(POOL, run_id, until=lambda it: it.get("completion") == "done")
        outage.ended(run_id)


def test_fault_33_a_completion_that_was_off_is_done_later(outage: Outage) -> None:
    with outage.off("completion"):
        run_id = outage.submit()
        outage.stack.wait(POOL, run_id)
        time.sleep(2)
        assert "expiresAt" not in outage.stack.item(POOL, run_id)
    outage.stack.wait(POOL, run_id, until=lambda it: it.get("completion") == "done")
    outage.ended(run_id)
    assert "expiresAt" in outage.stack.item(POOL, run_id)


def test_fault_10_five_hundred_runs_whose_every_message_is_deleted_in_the_middle_all_end(
    outage: Outage, pool: type[IdempotentWorkpool]
) -> None:
    lost = pool(POOL)
    runs = [lost.transact_item("probe.gently", on_complete="probe.settled") for _ in range(RUNS)]
    for start in range(0, RUNS, 100):
        entries = [entry for _, entry in runs[start : start + 100]]
        outage.client("dynamodb").transact_write_items(TransactItems=entries)
    run_ids = {run_id for run_id, _ in runs}
    done: set[str] = set()

    def settled() -> int:
        pages = (
            outage.client("dynamodb")
            .get_paginator("scan")
            .paginate(
                TableName=outage.stack.outputs["RunsTableName"],
                FilterExpression="completion = :done AND begins_with(#run, :pool)",
                ExpressionAttributeNames={"#run": "run"},
                ExpressionAttributeValues={":done": {"S": "done"}, ":pool": {"S": f"{POOL}#"}},
            )
        )
        keys = [it["run"]["S"] for page in pages for it in page["Items"]]
        done.update({it.partition("#")[2] for it in keys} & run_ids)
        return len(done)

    outage.stack.until(settled, lambda many: many > 100, timeout=60)
    for part in (f"{POOL}-work", "completions", "relay-retry"):
        outage.purge(part)
    outage.swept_until(lambda: settled() == RUNS, timeout=80)
    items = [outage.stack.item(POOL, run_id) for run_id in run_ids]
    assert {(it["result"]["S"], it["retries"]["N"]) for it in items} == {("success", "0")}
    assert {outage.ledger.completions(run_id) for run_id in run_ids} == {1}


def test_fault_09_a_letter_of_a_live_run_disturbed_nothing_and_in_the_end_all_is_at_rest(
    outage: Outage, live_letter: str
) -> None:
    """No queue holds anything, no run is open but a parked one."""
    outage.stack.wait("slow", live_letter, until=lambda it: it.get("completion") == "done")
    outage.ended(live_letter, pool="slow")
    parts = ["slow-dead-letters", "slow-work", f"{POOL}-dead-letters", f"{POOL}-work"]
    parts += [f"{POOL}-parked", "completions", "relay-retry", "relay-failures"]
    parts += [f"dead-letters-{it}" for it in ("completions", "relay-retry", "rule")]
    outage.stack.until(
        lambda: {part: depth for part in parts if (depth := outage.depth(part))},
        lambda left: left == {},
        timeout=120,
    )
    items = outage.client("dynamodb").scan(
        TableName=outage.stack.outputs["RunsTableName"], IndexName="open"
    )["Items"]
    open_runs = [it["run"]["S"] for it in items if it["run"]["S"].startswith(f"{POOL}#")]
    assert open_runs == []
