"""The pool's functions in a world that fails: real verbs and handlers, but tables, queues, timers
and a bus in memory, and a clock to move. It watches every write and notes each broken promise.

`Ixx` in a note is the invariant of docs/guarantees.md. Each check is where a promise would be
broken: at the write of an item, when an action or a handler starts, when an invocation ends.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from handlers import relay, sweeper
from tests.model.process import Plan, Process
from tests.model.table import Item, Tables
from tests.support import environment, mappings
from tests.support.failures import Call, Intercepted
from tests.support.invocations import (
    Context,
    context_until,
    context_with,
    handed_back,
    queue_event,
    stream_record,
)
from tests.support.mappings import COMPLETIONS, LETTERS, READERS, WORK
from tests.support.services import Bus, Queues, Sent, Steps, declared
from workpool.aws import logs, store
from workpool.core import request
from workpool.core import run as run_module
from workpool.core.clock import timestamp
from workpool.core.run import Run
from workpool.errors import IdempotencyConflict, NonRetryableError
from workpool.verbs import attempt, complete, control, orphans, patience, stats, watchdog
from workpool.verbs import redrive as redrive_verb
from workpool.verbs import relay as relay_verb
from workpool.verbs import submit as submit_verb
from workpool.verbs.cancel import cancel

START_MS = environment.START_MS + 123
"""Not at a whole second: what is rounded shows."""

POOL = environment.POOL | {"maxRetries": 3, "retentionSeconds": 120}
MAX_TRIES = 3
"""In place of complete.MAX_TRIES, so that parking is near."""

OVERDUE_SECONDS = 900
SECONDS = mappings.SECONDS | {"caller": mappings.SECONDS["submit"], "action": 900}
"""By kind of invocation: how long it may take."""


@dataclass
class Life:
    """One creation of a run, as the world saw it."""

    key: str
    number: int
    ok: bool
    """Whether its action succeeds once no test rule says otherwise; the same for its handler."""
    handler_ok: bool
    claims: dict[str, Process] = field(default_factory=dict)
    completion_claims: dict[str, Process] = field(default_factory=dict)
    values: set[str] = field(default_factory=set)
    errors: set[str] = field(default_factory=set)
    effects: int = 0
    calls: int = 0
    calls_since_redrive: int = 0
    uncounted: int = 0
    canceled: bool = False
    """Whether somebody canceled it; who asked while it was forgotten may meet the next life."""
    skewed: bool = False
    """Whether a clock that is wrong had a say in it."""
    over: bool = False
    """Nothing is left to do."""
    hinted: dict[Any, list[int]] = field(default_factory=dict)


class World:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
        self.now = START_MS
        self.broken: list[str] = []
        self.trace: list[str] = []
        """Every call, for whoever has to understand a failure."""
        self.lost: list[str] = []
        """Hints that a rule took away: only then a sweep may be needed."""
        self.lives: dict[str, Life] = {}
        self.current: Process | None = None
        self.processes: list[Process] = []
        """Those that stand still."""
        self.stream: list[dict[str, Any]] = []
        self.replay: list[dict[str, Any]] = []
        self.jitter = 1.0
        self._numbers = count(1)
        self._read: dict[str, tuple[Item, Run]] = {}
        self._life = {"ok": True, "handler_ok": True}
        self._changes = declared("relay", "CHANGES")
        self.tables = Tables(self._changed)
        self.queues = Queues(lambda: self.now)
        self.steps = Steps(lambda: self.now, lambda pool, body: self.queues.put(WORK, body))
        self.bus = Bus(lambda detail: self.queues.put(COMPLETIONS, detail))
        self.services = {
            "dynamodb": self.tables,
            "sqs": self.queues,
            "stepfunctions": self.steps,
            "events": self.bus,
        }
        _deploy(self, monkeypatch, source)

    def wrong(self, what: str) -> None:
        self.broken.append(what)

    # Processes

    def invoke(
        self,
        kind: str,
        work: Callable[[], Any],
        *,
        plan: Plan | None = None,
        skew: int = 0,
        ended: Callable[[Process], None] = lambda process: None,
        **notes: Any,
    ) -> Process:
        """Run a function until it ends or stands still; then, `ended` sees it."""
        self.tick_to(self.now + 1)  # No two invocations start in the same millisecond.
        deadline = self.now + SECONDS[kind] * 1000
        process = Process(kind, work, deadline=deadline, skew=skew, plan=plan or {})
        process.notes = {"ended": ended, "since": self.now + skew, "logged": set(), **notes}
        self._step(process, process.run)
        return process

    def resume(self, process: Process, plan: Plan) -> None:
        self.processes.remove(process)
        self._step(process, lambda: process.resume(plan))

    def kill(self, process: Process) -> None:
        self.processes.remove(process)
        self._step(process, process.kill)

    def _step(self, process: Process, step: Callable[[], None]) -> None:
        self.current = process
        step()
        self.current = None
        if process.state == "still":
            self.processes.append(process)
            return
        if process.state == "raised" and not process.disturbed:
            self.wrong(f"{process.kind} raised {process.error!r}")
        if process.state == "ended":
            self._check_left(process)
        process.notes["ended"](process)

    def called(self, operation: str, call: Call, parameters: dict[str, Any]) -> Any:
        """A call that the library makes."""
        if operation == "transact_write_items":
            parameters = {"ClientRequestToken": f"call-{next(self._numbers)}"} | parameters
        process = self.current
        if process is None:
            return call(**parameters)
        self.trace.append(f"{self.now - START_MS:>10} {process} {operation} {_brief(parameters)}")
        partly = None
        if operation == "send_message_batch":
            refused, *taken = parameters["Entries"]

            def partly() -> dict[str, Any]:
                if taken:
                    call(**parameters | {"Entries": taken})
                return {"Failed": [{"Id": refused["Id"], "Code": "InternalError"}]}

        elif operation == "put_events":
            _, *put = parameters["Entries"]

            def partly() -> dict[str, Any]:
                done = call(**parameters | {"Entries": put})["Entries"] if put else []
                return {"Entries": [{"ErrorCode": "InternalFailure"}, *done]}

        self._note_hints(process, operation, parameters)
        if operation == "send_task_failure":
            self._check_told(process, parameters)
        try:
            return process.at(operation, lambda: call(**parameters), partly=partly)
        finally:  # It read the run, or was told what stood in the way of its write.
            process.notes["saw"] = self.lives.get(process.notes.get("cancels", ""))

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1000)

    def clock(self) -> int:
        return self.now + (self.current.skew if self.current else 0)

    # What invokes the functions

    def deliver(
        self,
        queue: str,
        sents: list[Sent],
        *,
        plan: Plan | None = None,
        skew: int = 0,
        **notes: Any,
    ) -> Process:
        """Messages to the function that reads the queue, hidden for its visibility timeout."""
        function, handler = READERS[queue].function, READERS[queue].handler
        for sent in sents:
            self.queues.receive(sent, seconds=SECONDS[function])
        event = queue_event(queue, [sent.received() for sent in sents])

        def ended(process: Process) -> None:
            if process.state != "ended":
                return
            kept = handed_back(process.result)
            for sent in sents:
                if str(sent.number) in kept:
                    self._check_kept(process, queue, sent)
                else:
                    self.queues.on(queue).pop(sent.number, None)
                    self._check_acknowledged(process, queue, sent)

        return self.invoke(
            function,
            lambda: handler(event, self._context()),
            plan=plan,
            skew=skew,
            ended=ended,
            **notes,
        )

    def _context(self) -> Context:
        process = self.current
        assert process is not None
        return context_until(process.deadline, lambda: self.now)

    @property
    def relaying(self) -> bool:
        """A shard has one reader at a time."""
        return any(process.notes.get("relays") for process in self.processes)

    def relay(self, records: int, *, plan: Plan | None = None) -> None:
        batch = self.stream[:records]

        def ended(process: Process) -> None:
            if process.state == "ended":
                self.replay = batch
                del self.stream[: len(batch)]

        self._relay(batch, plan, ended)

    def relay_again(self, *, plan: Plan | None = None) -> None:
        """The last batch, whose checkpoint was lost."""
        self._relay(self.replay, plan, lambda process: None)

    def _relay(self, batch: list[Any], plan: Plan | None, ended: Callable[[Process], None]) -> None:
        event = {"Records": batch}
        self.invoke(
            "relay", lambda: relay.handler(event, None), plan=plan, ended=ended, relays=True
        )

    def sweep(self, *, plan: Plan | None = None, skew: int = 0, seconds: int = 240) -> None:
        def work() -> Any:
            context = context_with(seconds * 1000)
            return sweeper.handler({"overdueSeconds": OVERDUE_SECONDS}, context)

        self.invoke("sweeper", work, plan=plan, skew=skew)

    def submit(
        self,
        body: dict[str, Any],
        *,
        ok: bool,
        handler_ok: bool,
        plan: Plan | None = None,
        skew: int = 0,
    ) -> None:
        """As a caller does. A life begins with the put, whether or not its answer arrives."""

        def ended(process: Process) -> None:
            if isinstance(process.error, IdempotencyConflict):
                process.error = None
            if process.state != "ended":
                return
            key = f"default#{process.result['runId']}"
            if key not in self.lives:
                self.wrong(f"I1 {key} was accepted and is not there")
            created = process.notes.get("created")
            standing = self.run(key)
            if created is None and standing is not None and standing.expired(began + skew):
                self.wrong(f"I1 {key} was answered, though it was forgotten")
            if process.result.get("existing", False) is (created == key):
                self.wrong(f"{key}: {process.result}, though created {created}")

        def work() -> Any:
            try:
                return submit_verb.submit(body)
            except IdempotencyConflict as conflict:
                process = self.current
                assert process is not None
                process.disturbed = True
                if process.notes.get("created"):
                    self.wrong(f"created, and yet: {conflict}")
                raise

        self._life = {"ok": ok, "handler_ok": handler_ok}
        began = self.now
        self.invoke(
            "caller",
            work,
            plan=plan,
            skew=skew,
            ended=ended,
            life={"ok": ok, "handler_ok": handler_ok},
        )

    def cancel(
        self, life: Life, *, by: str = "caller", plan: Plan | None = None, skew: int = 0
    ) -> Process:
        """`by` an action it may stand still for longer."""
        pool, _, run_id = life.key.partition("#")
        number = life.number

        def ended(process: Process) -> None:
            if process.state != "ended" or self.lives[life.key].number != number:
                return
            run = self.run(life.key)
            if run and not run.ended and not run.cancel_requested:
                self.wrong(f"{life.key} was canceled, and does not know it")

        return self.invoke(
            by,
            lambda: cancel(pool, run_id),
            plan=plan,
            skew=skew,
            ended=ended,
            cancels=life.key,
        )

    def submit_many(
        self, bodies: list[dict[str, Any]], *, ok: bool, plan: Plan | None = None, skew: int = 0
    ) -> None:
        """As a caller does, in one request."""

        def ended(process: Process) -> None:
            if process.state == "ended":
                for answer in process.result["results"]:
                    if "runId" in answer and f"default#{answer['runId']}" not in self.lives:
                        self.wrong(f"I1 {answer} was accepted and is not there")

        self.invoke(
            "caller",
            lambda: submit_verb.submit({"runs": bodies}),
            plan=plan,
            skew=skew,
            ended=ended,
            life={"ok": ok, "handler_ok": True},
        )

    def redrive(self, life: Life, *, plan: Plan | None = None) -> None:
        """As an operator does, for one run."""
        ids = [life.key.partition("#")[2]]
        self.invoke("caller", lambda: redrive_verb.redrive("default", ids), plan=plan)

    # Time

    def tick_to(self, moment: int) -> None:
        """Let time pass. What stands still past its time is ended: by its watchdog, or outright."""
        while True:
            due = [(self._time_is_up(it), it) for it in self.processes]
            at, process = min(due, key=lambda it: it[0], default=(moment + 1, None))
            if process is None or at > moment:
                break
            self.now = max(self.now, at)
            if process.watchdog is not None and self.now < process.deadline:
                self.processes.remove(process)
                self._step(process, process.overrun)
            else:
                self.kill(process)
        self.now = max(self.now, moment)
        self.lost += [f"{it.body} expired" for it in self.queues.expire()]
        self.lost += [f"{it.name} timed out" for it in self.steps.expire()]

    def _time_is_up(self, process: Process) -> int:
        acting = process.watchdog is not None and not process.notes.get("frozen")
        if acting:
            assert process.watchdog is not None
            return min(process.watchdog[0], process.deadline)
        return process.deadline

    def next_event(self) -> int | None:
        """When something happens by itself."""
        times = [self._time_is_up(it) for it in self.processes]
        times += [it.wakes_at for it in self.steps.open() if it.state == "Backoff"]
        runs = [self.run(key) for key in self.lives]
        times += [it.expires_at * 1000 for it in runs if it is not None and it.expires_at]
        times += [sent.visible_at for queue in READERS for sent in self.queues.on(queue).values()]
        return min((it for it in times if it > self.now), default=None)

    def expired(self) -> list[Life]:
        """What time to live may delete."""
        return [
            life
            for life in self.lives.values()
            if (run := self.run(life.key)) is not None and run.expired(self.now)
        ]

    def forget(self, life: Life) -> None:
        self.tables.forget("runs", (life.key,))

    # Reading

    def run(self, key: str) -> Run | None:
        item = self.tables.tables["runs"].get((key,))
        if item is None:
            return None
        if self._read.get(key, (None, None))[0] is not item:  # An item is replaced, never changed.
            self._read[key] = (item, Run.from_item(item))
        return self._read[key][1]

    def unfinished(self) -> list[str]:
        """Lives with something left to do; a parked completion is not."""
        return [
            f"{life.key} is {run.kind}, completion {run.completion}"
            for life in self.lives.values()
            if (run := self.run(life.key)) is not None
            and not (run.ended and run.completion in (None, "done", "parked"))
        ]

    # Watching

    def _changed(self, table: str, old: Item | None, new: Item | None) -> None:
        if table == "effects" and new is not None:
            life = self.lives[new["run"]["S"]]
            life.effects += 1
            if life.effects > 1:
                self.wrong(f"I2 {life.key}: the completion's writes were done {life.effects} times")
        if table != "runs":
            return
        before, after = (Run.from_item(item) if item else None for item in (old, new))
        self._stream_gets(old, new)
        if after is None:
            assert before is not None
            if not self.lives[before.key].over:
                self.wrong(f"{before.key} was forgotten though something was left to do")
            return
        created = before is None or (before.enqueued_at, before.creation) != (
            after.enqueued_at,
            after.creation,
        )
        if created:
            self._created(before, after)
        else:
            assert before is not None
            self._moved(before, after)

    def _stream_gets(self, old: Item | None, new: Item | None) -> None:
        record = stream_record(old, new, at_ms=self.now)
        if any(_fits(change, record) for change in self._changes):
            self.stream.append(record)

    def _created(self, before: Run | None, after: Run) -> None:
        if before is not None and not self.lives[before.key].over:
            self.wrong(f"I1 {before.key} was overwritten as {before.kind}")
        life = self._life
        if self.current is not None:
            self.current.notes["created"] = after.key
            life = self.current.notes.get("life", life)
        self.lives[after.key] = Life(after.key, next(self._numbers), **life)
        self._shape(after)

    def _moved(self, was: Run, run: Run) -> None:
        life, process = self.lives[run.key], self.current
        key = run.key
        self._shape(run)
        life.skewed |= process is not None and bool(process.skew)
        if run.cancel_requested and not was.cancel_requested and run.kind != "running":
            self.wrong(f"{key} was asked to cancel as {run.kind}, which ends nothing")
        if was.ended:
            fields = ("kind", "result", "return_value", "error", "finished_at", "retries", "due")
            for name in fields:
                if getattr(was, name) != getattr(run, name):
                    self.wrong(f"I6 {key} ended, and its {name} changed")
            self._completion_moved(life, was, run)
            return
        if process is None:
            return
        asks = process.notes.get("cancels") == key
        life.canceled |= asks
        if asks and process.notes["saw"] is not life:
            self.wrong(f"{key} was canceled by who had asked for the run that was forgotten")
        if was.cancel_requested and not run.cancel_requested:
            self.wrong(f"{key}: the request to cancel is gone")
        stood = ("kind", "claim", "due", "retries", "lease")
        if all(getattr(was, name) == getattr(run, name) for name in stood):
            return  # A note on it: its hint, or a request to cancel.
        if was.kind == "running" and (run.kind != "running" or run.claim != was.claim):
            holder = life.claims.get(was.claim or "")
            if holder is not process and self.clock() < (was.lease or 0):
                self.wrong(f"{key} was taken from its claim before the lease was over")
            if holder is not None and holder is not process and holder.alive and not life.skewed:
                self.wrong(f"{key}: a living worker was declared lost")
        if run.kind == "running":
            if was.kind == "running":
                if run.claim != was.claim:
                    self.wrong(f"I4 {key} was claimed while it ran")
                return
            if run.due != was.due:
                self.wrong(f"{key}: a claim moved its due")
            life.claims[run.claim or ""] = process
            allowed = (run.max_retries if run.max_retries is not None else 3) + 1
            if len(life.claims) > allowed:
                self.wrong(f"I4 {key}: attempt {len(life.claims)} of {allowed}")
            if self.now + max(0, process.skew) < run.due:
                self.wrong(f"I5 {key} was claimed {run.due - self.now} ms early")
        elif run.kind == "scheduled":
            self._rescheduled(was, run)
        elif run.ended:
            self._ended(life, was, run)
        else:
            self.wrong(f"{key} went from {was.kind} to {run.kind}")

    def _rescheduled(self, was: Run, run: Run) -> None:
        if was.kind != "running" or run.retries != was.retries + 1:
            self.wrong(f"{run.key} went to {run.kind} {run.retries} from {was.kind} {was.retries}")
        if was.cancel_requested:
            self.wrong(f"{run.key} is tried again though it was asked to cancel")
        backoff = (run.initial_backoff_ms or 250) * 2 ** (run.retries - 1)
        process = self.current
        assert process is not None
        earliest = max(process.notes["since"] + backoff * self.jitter - 1, was.due + 1)
        if run.due < earliest or run.due % 1000:
            self.wrong(f"I5 {run.key} is due {earliest - run.due} ms early")

    def _ended(self, life: Life, was: Run, run: Run) -> None:
        allowed = run.max_retries if run.max_retries is not None else 3
        if run.result == "success":
            if was.kind != "running" or returned(run) not in life.values:
                self.wrong(f"{run.key} succeeded with {returned(run)} from {was.kind}")
        elif run.result == "failed":
            known = run.error in life.errors or (run.error or "").startswith(
                ("worker lost", "the action ran longer", "the return value is not JSON")
            )
            at_once = (run.error or "").startswith(("never", "the return value"))
            if was.kind != "running" or not known or was.cancel_requested:
                self.wrong(f"{run.key} failed with {run.error} from {was.kind}")
            if was.retries < allowed and not at_once:
                self.wrong(f"{run.key} failed after {was.retries} of {allowed} retries")
        elif not life.canceled:
            self.wrong(f"{run.key} was canceled and nobody asked")
        life.over = run.completion is None

    def _completion_moved(self, life: Life, was: Run, run: Run) -> None:
        moves = {
            ("pending", "pending"),
            ("pending", "done"),
            ("pending", "parked"),
            ("parked", "pending"),
            ("parked", "parked"),
        }
        if (was.completion, run.completion) not in moves and was.completion != run.completion:
            self.wrong(f"I2 {run.key}: its completion went from {was.completion}: {run.completion}")
        life.over = run.completion in (None, "done")
        if (was.completion, run.completion) == ("parked", "pending"):
            life.calls_since_redrive = 0
            return
        process = self.current
        if process is None:
            return
        claim = run.completion_claim
        if claim != was.completion_claim:
            life.completion_claims[claim or ""] = process
            # Known: a lease upon an old reading counts the tries anew from there.
            life.uncounted += run.completion_tries != was.completion_tries + 1
            if was.completion_lease is not None and self.clock() < was.completion_lease:
                self.wrong(f"I2 {run.key}: its completion was taken under another's lease")
        elif (
            run.completion_lease != was.completion_lease or run.completion != was.completion
        ) and life.completion_claims.get(claim or "") is not process:
            self.wrong(f"I2 {run.key}: its completion was marked without the lease")
        elif run.completion_tries != was.completion_tries:  # AWS did not take the mark.
            life.uncounted += 1
            if run.completion_tries != was.completion_tries - 1 or not process.disturbed:
                self.wrong(f"{run.key}: {was.completion_tries} tries are {run.completion_tries}")

    def _shape(self, run: Run) -> None:
        """What belongs together on every item."""
        over = run.ended and run.completion in (None, "done")
        if (run.open is None) is not over:
            self.wrong(f"I8 {run.key}: in the open index is {run.open}, and it is over: {over}")
        if (run.expires_at is not None) is not over:
            self.wrong(f"{run.key}: expires at {run.expires_at}, and it is over: {over}")
        if run.ended and (run.completion is None) is not (run.on_complete is None):
            self.wrong(f"I2 {run.key} ended, its completion is {run.completion}")
        if run.completion in (None, "done", "parked") and run.completion_lease is not None:
            self.wrong(f"I2 {run.key}: its completion is {run.completion} and leased")
        if (run.lease is not None) is not (run.kind == "running"):
            self.wrong(f"{run.key} is {run.kind}, its lease {run.lease}")

    def _check_left(self, process: Process) -> None:
        """What an invocation that ended by itself may leave: nothing half done."""
        if process.disturbed:
            return
        for life in self.lives.values():
            run = self.run(life.key)
            if run is None:
                continue
            if run.kind == "running" and life.claims.get(run.claim or "") is process:
                self.wrong(f"{run.key}: {process.kind} ended and left its claim running")
            if process.notes.get("succeeded") == (life.key, life.number):
                value = process.notes["value"]
                if returned(run) != value and not life.skewed:
                    self.wrong(f"{run.key}: a success was not kept, it is {run.kind}")

    def _check_acknowledged(self, process: Process, queue: str, sent: Sent) -> None:
        """No token waits whose message is gone: its execution would wait for two weeks."""
        if queue not in (WORK, LETTERS):
            return
        body = json.loads(sent.body)
        if queue == WORK:
            self._check_dropped(process, body)
        waits = any(it.token == body.get("token", "") for it in self.steps.waiting())
        again = any(it.body == sent.body for it in self.queues.on(WORK).values())
        if waits and not again:
            self.wrong(f"{body['run']}: its message was acknowledged, its token waits")

    def _check_told(self, process: Process, parameters: dict[str, Any]) -> None:
        """An execution is told to retry for a run that waits for that due."""
        execution = next(
            (it for it in self.steps.waiting() if it.token == parameters["taskToken"]), None
        )
        if execution is None or not process.at_one_go:
            return
        run = self.run(execution.data["run"])
        if run is None or run.kind != "scheduled" or timestamp(run.due) != parameters["cause"]:
            self.wrong(f"{execution.data['run']}: its execution is told to retry, and it is {run}")

    def _check_kept(self, process: Process, queue: str, sent: Sent) -> None:
        """The run's own timer is the proof that it is due, whatever a clock says."""
        body = json.loads(sent.body)
        if queue != WORK or process.disturbed or not process.at_one_go or "token" not in body:
            return
        run = self.run(body["run"])
        if run and run.kind == "scheduled" and timestamp(run.due) == body["due"]:
            self.wrong(f"I5 {run.key}: its timer was held up")

    def _check_dropped(self, process: Process, body: dict[str, Any]) -> None:
        """What is dropped as late, and holds no token, is logged as that."""
        run = self.run(body["run"])
        if run is None or run.ended or process.disturbed or not process.at_one_go:
            return
        late = "token" not in body and timestamp(run.due) != body["due"]
        attempted = process in self.lives[run.key].claims.values()
        if late and not attempted and not process.notes["logged"] & {"message-stale", "job-retry"}:
            self.wrong(f"{run.key}: a late message was dropped, and nobody knows")

    def _note_hints(self, process: Process, operation: str, parameters: dict[str, Any]) -> None:
        """A hint that the sweeper repeats is not repeated again too soon."""
        if process.kind != "sweeper":
            return
        if operation == "send_message_batch":
            keys = [json.loads(it["MessageBody"])["run"] for it in parameters["Entries"]]
        elif operation == "put_events":
            keys = [json.loads(it["Detail"])["run"] for it in parameters["Entries"]]
        elif operation == "start_execution":
            keys = [json.loads(parameters["input"])["run"]]
        else:
            return
        for key in keys:
            life, run = self.lives[key], self.run(key)
            assert run is not None
            wait = (life.number, run.kind, run.due, run.completion_tries)
            times = life.hinted.setdefault(wait, [])
            gap = OVERDUE_SECONDS * 1000 * 2 ** (len(times) - 1)
            if times and self.now - times[-1] < gap and not process.skew:
                self.wrong(f"{key}: its hint was repeated after {self.now - times[-1]} ms")
            if not process.skew:
                times.append(self.now)

    # User code

    def act(self, ctx: Any, args: Any) -> Any:
        """The action: it does what this delivery, or else its run's fate, says."""
        process, key = self.current, f"{ctx.pool}#{ctx.run_id}"
        assert process is not None
        life, run = self.lives[key], self.run(key)
        if run is None or run.kind != "running" or life.claims.get(run.claim or "") is not process:
            self.wrong(f"I4 {key}: an action starts without a claim")
        for other in self.processes:
            if other.notes.get("acts") == key and other.alive and not life.skewed:
                self.wrong(f"I4 {key}: two attempts at once")
        process.notes["acts"] = key
        try:
            process.at("action", lambda: None, call=False)
        finally:
            process.notes |= {"acts": None, "since": self.clock()}
        does = process.notes.get("does") or ("ok" if life.ok else "raises")
        number = next(self._numbers)
        if does == "raises":
            life.errors.add(f"boom {number}")
            raise ValueError(f"boom {number}")
        if does == "never":
            life.errors.add(f"never {number}")
            raise NonRetryableError(f"never {number}")
        if does == "no JSON":
            return object()
        life.values.add(str(number))
        process.notes |= {"succeeded": (key, life.number), "value": str(number)}
        return number

    def handle(self, ctx: Any, context: Any, result: Any) -> Any:
        """The completion handler."""
        process, key = self.current, f"{ctx.pool}#{ctx.run_id}"
        assert process is not None
        life, run = self.lives[key], self.run(key)
        if run is None or not run.ended or run.completion != "pending":
            self.wrong(f"I2 {key}: the handler is called, the completion is {run}")
        elif life.completion_claims.get(run.completion_claim or "") is not process:
            self.wrong(f"I2 {key}: the handler is called without a lease")
        elif result["type"] != run.result or str(result.get("returnValue")) != str(returned(run)):
            self.wrong(f"{key}: the handler is told {result}")
        for other in self.processes:
            if other.notes.get("handles") == key and other.alive and not life.skewed:
                self.wrong(f"I2 {key}: two handlers at once")
        life.calls += 1
        life.calls_since_redrive += 1
        if life.calls_since_redrive > MAX_TRIES + life.uncounted:
            self.wrong(f"{key}: the handler is called {life.calls_since_redrive} times")
        process.notes["handles"] = key
        try:
            process.at("handler", lambda: None, call=False)
        finally:
            process.notes["handles"] = None
        does = process.notes.get("does") or ("writes" if life.handler_ok else "raises")
        number = next(self._numbers)
        put = {"TableName": "effects", "Item": {"id": {"S": str(number)}, "run": {"S": key}}}
        if does in ("raises", "never"):
            raise ValueError(f"boom {number}")
        if does == "no JSON":  # Its own condition is refused.
            condition = {
                "ConditionExpression": "attribute_exists(#id)",
                "ExpressionAttributeNames": {"#id": "id"},
            }
            return [{"Put": put | condition}]
        return None if does == "none" else [{"Put": put}]

    def logged(self, event: str, run: Run | None = None, **fields: Any) -> None:
        """What is logged at INFO."""
        if self.current is not None:
            self.current.notes["logged"].add(event)

    def failed(self, event: str, error: BaseException, **fields: Any) -> None:
        """What a handler caught and logged: a fault of the test's, or a defect."""
        process = self.current
        code = getattr(error, "response", {}).get("Error", {}).get("Code")
        if code in ("InvalidParameterValue", "MessageNotInflight"):
            return
        if process is None or not process.disturbed:
            self.wrong(f"{event}: {error!r}")


class _InTurn:
    """A thread pool whose work is done in turn."""

    def __init__(self, workers: int) -> None:
        pass

    def __enter__(self) -> "_InTurn":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    map = staticmethod(map)


def _brief(parameters: dict[str, Any]) -> str:
    """What tells a call from another."""
    shown = dict(parameters)
    for name in ("TableName", "ExpressionAttributeNames", "stateMachineArn", "ConsistentRead"):
        shown.pop(name, None)
    return json.dumps(shown)[:400]


def _fits(change: dict[str, Any], record: dict[str, Any]) -> bool:
    """Lambda's filter: a list holds what may stand there, an object goes deeper."""
    for name, wanted in change.items():
        found = record.get(name)
        if isinstance(wanted, list):
            if found not in wanted:
                return False
        elif not isinstance(found, dict) or not _fits(wanted, found):
            return False
    return True


def returned(run: Run) -> str | None:
    """The return value that the item holds: large ones are not part of this world."""
    return run.return_value.text if run.return_value else None


def _deploy(world: World, monkeypatch: pytest.MonkeyPatch, source: Path) -> None:
    """Let the library live in this world."""
    environment.install(
        monkeypatch,
        source,
        now_ms=world.clock,
        sleep=world.sleep,
        client=lambda service: Intercepted(world.services[service], world.called),
    )
    environment.set_action(world.act)
    environment.set_handler(world.handle)

    # The pool's settings and the bucket (payloads are small here) have tests of their own; here
    # they are more calls only.
    monkeypatch.setattr(orphans, "collect_or_log", lambda in_time, older_than_seconds: None)
    monkeypatch.setattr(control, "repair", lambda pool: False)
    monkeypatch.setattr(sweeper, "carry_out_cancel_all", lambda pool, in_time: None)

    def timer(seconds: float, function: Callable[[], None]) -> Any:
        process = world.current
        assert process is not None

        def start() -> None:
            process.watchdog = (world.now + round(seconds * 1000), function)

        def cancel() -> None:
            process.watchdog = None

        return SimpleNamespace(daemon=True, start=start, cancel=cancel)

    def leave(code: int = 0) -> None:
        process = world.current
        assert process is not None
        process.exit()

    def identity() -> Any:
        return SimpleNamespace(hex=f"{next(world._numbers):032x}")

    def jitter() -> Any:
        return SimpleNamespace(uniform=lambda low, high: world.jitter)

    replaced: list[tuple[Any, str, Any]] = [
        (logs, "log_error", world.failed),
        (logs, "log", world.logged),
        (complete, "MAX_TRIES", MAX_TRIES),
        (complete, "uuid4", identity),
        (attempt, "uuid4", identity),
        *((module, "SystemRandom", jitter) for module in (attempt, complete, patience, store)),
        (watchdog, "os", SimpleNamespace(_exit=leave)),
        (
            watchdog,
            "threading",
            SimpleNamespace(
                Timer=timer, Lock=threading.Lock, Event=lambda: SimpleNamespace(wait=leave)
            ),
        ),
        (request, "uuid4", identity),
        (run_module, "attribute", cache(run_module.attribute)),  # Half of the time, else.
        (relay_verb, "ThreadPoolExecutor", _InTurn),
        (redrive_verb, "ThreadPoolExecutor", _InTurn),
        (submit_verb, "ThreadPoolExecutor", _InTurn),
        (stats, "recount", lambda pool, pending: None),  # Their counters are queried.
        (stats, "measure_due", lambda pool, oldest_due_ms: {}),
    ]
    for module, name, value in replaced:
        monkeypatch.setattr(module, name, value)
