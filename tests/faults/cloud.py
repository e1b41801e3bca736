"""What is between the functions: the stream, queues that hide and redeliver, timers, the bus, the
dead-letter queues. So a fault can be caused anywhere, and a run carried to its end.

The tables are moto's; the rest is in memory, on the world's clock. It notes every version of an
item and every call of user code, and says in the end which invariant was broken.
"""

from collections import Counter
from collections.abc import Callable
from itertools import count, pairwise
from typing import Any

import pytest
from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.models.dynamo_type import DynamoType

from handlers import counters, relay, sweeper
from tests.support.environment import ACCOUNT, REGION
from tests.support.failures import Call, Died, Intercepted, refusal
from tests.support.invocations import (
    FIRST_SEQUENCE,
    context_until,
    handed_back,
    queue_event,
    stream_record,
)
from tests.support.mappings import (
    COMPLETIONS,
    DEAD_LETTERS,
    MOST_RECEIVES,
    READERS,
    SECONDS,
)
from tests.support.services import Bus, Queues, Sent, Steps
from workpool.aws import pools
from workpool.core import clock
from workpool.core.run import Item, Run
from workpool.errors import UnknownShape
from workpool.verbs import submit

MOST_STEPS = 3000
HOUR = 3600

EFFECT = {"pk": {"S": "effects"}}


class Cloud:
    """Carries runs to their end. Faults are the world's, and what is `away` or `down` here."""

    def __init__(self, world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.queues = Queues(lambda: world.now_ms)
        self.steps = Steps(lambda: world.now_ms, self._send_attempt)
        self.bus = Bus(lambda detail: self.queues.put(COMPLETIONS, detail))
        self.stream: list[tuple[Item | None, Item | None]] = []
        self.uncounted: list[dict[str, Any]] = []
        """Records of the stream that the relay has read, and the counters have not."""
        self.down: set[str] = set()
        """Functions that are not invoked: throttled, or their mapping is disabled."""
        self.away: dict[str, str] = {}
        """Operations that are refused, each with the error's code."""
        self.skew_seconds: dict[str, float] = {}
        """How far a function's clock is ahead."""
        self.attempts: list[tuple[str, int, int]] = []
        """Run id, retries and time of each call of the action."""
        self.handled: list[tuple[str, dict[str, Any]]] = []
        """Run id and result of each call of the completion handler."""
        self.failures = 0
        """How many attempts of a run fail before one succeeds."""
        self.handler_raises = False
        self.during: list[Callable[[], Any]] = []
        """What happens in the middle of the action's next calls, one each."""
        self.in_handler: list[Callable[[], Any]] = []
        """What happens in the middle of the handler's next calls, one each."""
        self.versions: dict[str, list[Run]] = {}
        self._seen: dict[str, Item] = {}
        self._early: list[str] = []
        self._function = ""
        self._dynamodb = world.client("dynamodb")
        self._sequence = count(FIRST_SEQUENCE)
        services = {
            "dynamodb": Intercepted(self._dynamodb, self._called_on_tables),
            "sqs": Intercepted(self.queues, self._called),
            "stepfunctions": Intercepted(self.steps, self._called),
            "events": Intercepted(self.bus, self._called),
        }
        moto = world.client

        def client(service: str) -> Any:
            if service == "s3" and service not in services:  # Most tests need none.
                services[service] = Intercepted(moto(service), self._called)
            return services[service]

        world.client = client
        monkeypatch.setattr(clock, "now_ms", self._clock)
        world.action(self._work)
        world.handler(self._done)

    # Callers

    def submit(self, **options: Any) -> str:
        """Submit a run of the action with the completion handler. Answers its key."""
        request = {"action": "jobs.work", "options": {"onComplete": "jobs.done", **options}}
        answer = self._invoke("submit", lambda event, _: submit.submit(event), request)
        return f"default#{answer['runId']}"

    def put(self, **fields: Any) -> Run:
        """A run in any state, of which the relay has seen all changes until now."""
        run: Run = self.world.a_run(**{"on_complete": "jobs.done"} | fields)
        self._seen[run.key] = run.to_item()
        self._dynamodb.put_item(TableName="runs", Item=run.to_item())
        return run

    def run(self, key: str) -> Run:
        run: Run = self.world.run(key)
        return run

    # What was seen

    def calls(self, key: str) -> list[int]:
        """The retries with which the run's action was called, in order."""
        return [retries for run_id, retries, _ in self.attempts if key.endswith(f"#{run_id}")]

    def results(self, key: str) -> list[str]:
        """The kinds of result with which the run's handler was called, in order."""
        return [result["type"] for run_id, result in self.handled if key.endswith(f"#{run_id}")]

    def effects(self, key: str) -> int:
        """How often the writes that the handler returned took effect."""
        answer = self._dynamodb.get_item(
            TableName="stats", Key=EFFECT | {"sk": {"S": key.partition("#")[2]}}
        )
        return int(answer.get("Item", {}).get("count", {"N": "0"})["N"])

    def ended(self, key: str, result: str, *, retries: int = 0) -> Run:
        """The run, found at rest with that result and one completion of that kind."""
        run = self.run(key)
        assert (run.result, run.retries) == (result, retries)
        assert (run.completion, self.effects(key)) == ("done", 1)
        assert set(self.results(key)) == {result}
        return run

    def bodies(self, queue: str) -> list[str]:
        return [it.body for it in self.queues.on(queue).values()]

    def broken(self) -> list[str]:
        """Which invariants were ever broken, by any write or call until now."""
        wrong = [*self.steps.faults, *self._early]
        for key, versions in self.versions.items():
            claims = {(it.enqueued_at, it.claim) for it in versions if it.claim}
            created = Counter(enqueued_at for enqueued_at, _ in claims)
            most = max((pools.policy(it).max_retries for it in versions), default=0) + 1
            if any(count > most for count in created.values()):
                wrong.append(f"I4: {created} attempts of {key}, allowed are {most}")
            for before, after in pairwise(versions):
                same = before.enqueued_at == after.enqueued_at
                ends = [(it.kind, it.reported_result(), it.finished_at) for it in (before, after)]
                if same and before.ended and ends[0] != ends[1]:
                    wrong.append(f"I6: {key} was {ends[0]}, is {ends[1]}")
            if self.effects(key) > max(1, len(created)):
                wrong.append(f"I2: {self.effects(key)} effects for {key}")
        return wrong

    def at_rest(self) -> None:
        """Nothing is left to do: all ended, all queues empty, every execution closed."""
        assert self.broken() == []
        runs = [Run.from_item(it) for it in self.world.items() if "kind" in it]
        assert [it.key for it in runs if not it.ended] == []
        assert [it.key for it in runs if it.completion == "pending"] == []
        assert [it.key for it in runs if it.open and it.completion != "parked"] == []
        assert {it: self.bodies(it) for it in READERS if self.bodies(it)} == {}
        assert [it.name for it in self.steps.open()] == []

    # Time

    def rest(self, *, hours: float = 48) -> None:
        """Let everything happen that is due, the clock moving on to what comes next, until
        nothing is left, or for so long."""
        until = self.world.now_ms + round(hours * HOUR * 1000)
        for _ in range(MOST_STEPS):
            if self.step():
                continue
            later = [it.visible_at for it in self._messages()]
            later += [it.wakes_at for it in self.steps.open() if it.state == "Backoff"]
            following = min((at for at in later if at > self.world.now_ms), default=None)
            if following is None or following > until:
                return
            self.world.now_ms = following
        raise AssertionError("it does not come to rest")

    def until(self, here: Callable[[], Any]) -> None:
        """Let things happen one by one, as time goes by, until it is so."""
        for _ in range(MOST_STEPS):
            if here():
                return
            if not self.step():
                self.world.tick(1)
        raise AssertionError("it never is so")

    def pass_time(self, *, minutes: float) -> None:
        """As `rest`, and then exactly so much time has passed."""
        until = self.world.now_ms + round(minutes * 60_000)
        self.rest(hours=minutes / 60)
        self.world.now_ms = until

    def step(self) -> bool:
        """Do one thing that is due. False: nothing is."""
        if self.stream and "relay" not in self.down:
            self.relay()
            return True
        for execution in self.steps.woken():
            if "retrier" not in self.down:
                self.steps.attempt(execution)
                return True
        for queue in READERS:
            for sent in self.queues.visible(queue):
                self.deliver(queue, sent)
                return True
        return False

    # What invokes the functions

    def relay(self) -> None:
        """A batch of the stream; it comes again if the function fails."""
        batch = list(self.stream)
        records = [stream_record(*it, sequence=next(self._sequence)) for it in batch]
        self._invoke("relay", relay.handler, {"Records": records})
        self.uncounted += records
        del self.stream[: len(batch)]

    def count(self, batch: int = 1000) -> None:
        """The counters read what the relay has read, in batches of this size."""
        while self.uncounted:
            records = self.uncounted[:batch]
            self._invoke("counters", counters.handler, {"Records": records, "shardId": "shard-1"})
            del self.uncounted[:batch]

    def deliver(self, queue: str, sent: Sent | None = None) -> bool:
        """A message to the function that reads the queue. Whether it was acknowledged."""
        function, handler = READERS[queue].function, READERS[queue].handler
        if sent is None:
            sent = self.queues.visible(queue)[0]
        if queue in DEAD_LETTERS and sent.receives >= MOST_RECEIVES[queue]:
            del self.queues.on(queue)[sent.number]
            self.queues.put(DEAD_LETTERS[queue], sent.body)
            return False
        self.queues.receive(sent, seconds=SECONDS[function])
        if function in self.down:
            return False
        try:
            answer = self._invoke(function, handler, queue_event(queue, [sent.received()]))
        except Died:
            return False
        if handed_back(answer):
            return False
        self.queues.on(queue).pop(sent.number, None)
        return True

    def deliver_all(self, queue: str) -> int:
        """All visible messages of a queue in one batch. How many were acknowledged."""
        function, handler = READERS[queue]
        batch = self.queues.visible(queue)
        for sent in batch:
            self.queues.receive(sent, seconds=SECONDS[function])
        event = queue_event(queue, [sent.received() for sent in batch])
        back = handed_back(self._invoke(function, handler, event))
        done = [sent for sent in batch if str(sent.number) not in back]
        for sent in done:
            del self.queues.on(queue)[sent.number]
        return len(done)

    def sweep(self, overdue_seconds: int = 900) -> int:
        """How many hints it repeated."""
        event = {"overdueSeconds": overdue_seconds}
        return sum(self._invoke("sweeper", sweeper.handler, event).values())

    def sweep_until_rest(self, *, hours: int = 24) -> None:
        """Rest, and sweep every five minutes, for some hours."""
        for _ in range(hours * 12):
            self.pass_time(minutes=5)
            self.sweep()
            if not self._messages() and not self.steps.open() and not self.stream:
                runs = [Run.from_item(it) for it in self.world.items() if "kind" in it]
                if all(it.open is None or it.completion == "parked" for it in runs):
                    break
        self.rest()

    def forget(self, key: str) -> None:
        """What DynamoDB does when a run has expired."""
        self._dynamodb.delete_item(TableName="runs", Key={"run": {"S": key}})
        self.stream.append((self._seen.pop(key), None))

    def lose_messages(self) -> int:
        """Every message of every queue is gone. How many those were."""
        lost = len(self._messages())
        self.queues.queues.clear()
        return lost

    def changed(self, key: str) -> None:
        """The run's item may be another: note it, and tell the stream."""
        table = dynamodb_backends[ACCOUNT][REGION].tables["runs"]
        standing = table.items.get(DynamoType({"S": key}))
        if standing is None:  # The write was refused.
            return
        old, new = self._seen.get(key), standing.to_json()["Attributes"]
        if old == new:
            return
        self.stream.append((old, new))
        self._seen[key] = new
        try:
            run = Run.from_item(new)
        except UnknownShape:  # A test's own.
            return
        self.versions.setdefault(key, []).append(run)
        earliest = run.due - 1000 * max(map(abs, self.skew_seconds.values()), default=0)
        if run.kind == "running" and self.world.now_ms < earliest:
            self._early.append(f"I5: {key} runs {earliest - self.world.now_ms} ms early")

    def _messages(self) -> list[Sent]:
        return [it for queue in READERS for it in self.queues.on(queue).values()]

    def _send_attempt(self, pool: str, body: str) -> None:
        self.queues.put(f"Test-{pool}-work", body)

    def _invoke(self, function: str, handler: Any, event: Any) -> Any:
        deadline_ms = self.world.now_ms + SECONDS[function] * 1000
        context = context_until(deadline_ms, lambda: self.world.now_ms)
        caller, self._function = self._function, function
        try:
            return handler(event, context)
        finally:
            self._function = caller

    def _clock(self) -> int:
        return int(self.world.now_ms + self.skew_seconds.get(self._function, 0) * 1000)

    # The library's clients

    def _called(self, operation: str, call: Call, parameters: dict[str, Any]) -> Any:
        """A call that a function makes is refused while its operation is away."""
        if self._function and operation in self.away:
            raise refusal(self.away[operation], operation)
        return call(**parameters)

    def _called_on_tables(self, operation: str, call: Call, parameters: dict[str, Any]) -> Any:
        """The same, and the stream sees each write that changes a run."""
        entries = [next(iter(it.values())) for it in parameters.get("TransactItems", [])]
        try:
            return self._called(operation, call, parameters)
        finally:
            for entry in [parameters, *entries]:
                key = entry.get("Item", entry.get("Key", {})).get("run")
                if key is not None and operation != "get_item":
                    self.changed(key["S"])

    # User code

    def _work(self, ctx: Any, args: Any) -> str:
        self.attempts.append((ctx.run_id, ctx.retries, self.world.now_ms))
        if self.during:
            self.during.pop(0)()
        if ctx.retries < self.failures:
            raise ValueError("boom")
        return "done"

    def _done(self, ctx: Any, context: Any, result: dict[str, Any]) -> list[dict[str, Any]]:
        self.handled.append((ctx.run_id, result))
        if self.in_handler:
            self.in_handler.pop(0)()
        if self.handler_raises:
            raise ValueError("bang")
        update = {
            "TableName": "stats",
            "Key": EFFECT | {"sk": {"S": ctx.idempotency_key}},
            "UpdateExpression": "ADD #count :one",
            "ExpressionAttributeNames": {"#count": "count"},
            "ExpressionAttributeValues": {":one": {"N": "1"}},
        }
        return [{"Update": update}]
