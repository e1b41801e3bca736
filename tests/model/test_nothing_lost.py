"""Nothing is lost, nothing is done twice: the real functions in every order that hypothesis finds.

A few runs; each rule is one thing that may happen in AWS, at any time, to any of them: an
invocation that dies or stands still between two calls, a message that comes twice, late or not
at all, a clock that is wrong. What may never be is checked as it happens (`world`). In the end
everything heals, and every run must come to its end: without the sweeper, unless a hint was
taken away.

`HYPOTHESIS_PROFILE=long` looks for minutes and at random; alone it takes the same way each time.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.model.process import (
    DIE_AFTER,
    FAULTS,
    NO_ANSWER,
    PAUSE,
    REPEAT_LATER,
    STANDS_STILL,
    Plan,
    Process,
)
from tests.model.world import (
    OVERDUE_SECONDS,
    POOL,
    Life,
    World,
)
from tests.support import environment
from tests.support.mappings import COMPLETIONS, DEAD_LETTERS, READERS, RETRY, WORK
from tests.support.services import Execution, Sent
from workpool.core.message import Message
from workpool.verbs import sweep

SOURCE: list[Path] = []
"""Where the user code of the tests' runs is."""

points = st.integers(1, 6)
nothing: st.SearchStrategy[Plan] = st.just({})
plans = nothing | st.dictionaries(points, st.sampled_from(FAULTS), min_size=1, max_size=2)
SKEW = 287_123
KEYED = "default#" + sha256(b"default\0k1").hexdigest()[:32]
"""The run of the key k1."""

BEFORE_OUTCOME, OUTCOME = 3, 4
"""An attempt's points: it has read the run and claimed it; it has called the action."""
LEASE, MARK = 2, 4
"""A completion's points: it has read the run; it was given the lease and has called the handler."""
skews = st.sampled_from([0, 0, 0, 0, SKEW, -SKEW])
picks = st.integers(0, 20)
outcomes = st.sampled_from(["ok", "raises", "raises", "raises", "never", "no JSON", "none"])
MEANWHILE = ["work"] * 4 + ["complete"] * 3 + ["cancel", "sweep", "keyed"]
MEANWHILE += ["flow"] * 4 + ["time"] * 3 + ["a while"]
ticks = st.sampled_from([0.3, 1, 4, 31, 71, 101, 131, 400, 901, 1801, 7200, 90_000])


def pick(from_: list[Any], number: int) -> Any:
    return from_[number % len(from_)]


class NothingLost(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.patches = pytest.MonkeyPatch()
        self.world = World(self.patches, SOURCE[0])
        self.resumes = True
        self.loses = False
        self.left: Counter[str] = Counter(
            submit=2, many=1, repeated=2, keyed=4, cancel=3, sweep=4, dead_letter=2
        )

    @initialize(
        emulator=st.booleans(),
        loses=st.sampled_from([False, False, True]),
        jitter=st.sampled_from([0.5, 1.4999]),
        resumes=st.booleans(),
        page=st.sampled_from([1, 2, 100]),
        retries=st.sampled_from([0, 1, 1, 2, 3]),
        delay=st.sampled_from([None, None, 700]),
        completes=st.booleans(),
    )
    def deployed(
        self,
        emulator: bool,
        loses: bool,
        jitter: float,
        resumes: bool,
        page: int,
        retries: int,
        delay: int | None,
        completes: bool,
    ) -> None:
        """What is the same all the time: `loses`, whether hints may be taken away."""
        self.world.steps.emulator = emulator
        self.world.jitter = jitter
        self.patches.setattr(sweep, "PAGE", page)
        self.resumes = resumes
        self.loses = loses
        self.submit(retries, 2_500, delay, completes, ok=True, handler_ok=True, plan={}, skew=0)

    def _may(self, what: str) -> bool:
        """Whether it was done less often than it may be, so that other things happen too."""
        return self.left[what] > 0

    # Callers

    @precondition(lambda self: self._may("submit"))
    @rule(
        retries=st.integers(0, 3),
        backoff=st.sampled_from([25, 2_500, 100_000]),
        delay=st.sampled_from([None, None, None, 700, 50_000]),
        completes=st.booleans(),
        ok=st.booleans(),
        handler_ok=st.sampled_from([True, True, False]),
        plan=plans,
        skew=skews,
    )
    def submit(
        self,
        retries: int,
        backoff: int,
        delay: int | None,
        completes: bool,
        ok: bool,
        handler_ok: bool,
        plan: Plan,
        skew: int,
    ) -> None:
        self.left["submit"] -= 1
        options: dict[str, Any] = {"maxRetries": retries, "initialBackoffMs": backoff}
        options |= {"runAfterMs": delay} if delay else {}
        self._submit(options, completes, ok=ok, handler_ok=handler_ok, plan=plan, skew=skew)

    @precondition(lambda self: self._may("many"))
    @rule(completes=st.booleans(), ok=st.booleans(), plan=plans, skew=skews)
    def submit_many(self, completes: bool, ok: bool, plan: Plan, skew: int) -> None:
        """Two plain runs in one request; its writes may be repeated like any other."""
        self.left["many"] -= 1
        done = {"onComplete": "jobs.done"} if completes else {}
        asked = {"action": "jobs.work", "options": {"maxRetries": 1} | done}
        self.world.submit_many([asked, asked], ok=ok, plan=plan, skew=skew)

    @precondition(lambda self: self._may("keyed"))
    @rule(
        key=st.sampled_from(["k1", "k1", "k2"]),
        other=st.sampled_from([False, False, False, True]),
        ok=st.booleans(),
        plan=plans,
        skew=skews,
    )
    def submit_keyed(self, key: str, other: bool, ok: bool, plan: Plan, skew: int) -> None:
        """The same key and request again and again, now and then another request."""
        self.left["keyed"] -= 1
        options = {"k1": {"maxRetries": 1, "initialBackoffMs": 2_500}, "k2": {"runAfterMs": 50_000}}
        asked = options[key] | {"idempotencyKey": key} | ({"base": 2.5} if other else {})
        self._submit(asked, key == "k1", ok=ok, handler_ok=True, plan=plan, skew=skew)

    def _submit(self, options: dict[str, Any], completes: bool, **how: Any) -> None:
        options |= {"onComplete": "jobs.done", "context": 1} if completes else {}
        self.world.submit({"action": "jobs.work", "options": options}, **how)

    @precondition(lambda self: self.world.lives and self._may("cancel"))
    @rule(which=picks, plan=plans, skew=skews)
    def cancel(self, which: int, plan: Plan, skew: int) -> None:
        self.left["cancel"] -= 1
        self.world.cancel(self._life(which), plan=plan, skew=skew)

    # The stream

    @precondition(lambda self: self.world.stream and not self.world.relaying)
    @rule(records=st.sampled_from([1, 1, 2, 100]), plan=plans)
    def relay(self, records: int, plan: Plan) -> None:
        self.world.relay(records, plan=plan)

    @precondition(lambda self: self.world.replay and not self.world.relaying)
    @rule(plan=plans)
    def relay_again(self, plan: Plan) -> None:
        self.world.relay_again(plan=plan)

    # The queues

    @precondition(lambda self: self.world.queues.visible(WORK))
    @rule(which=picks, plan=plans, skew=skews, does=outcomes)
    def work(self, which: int, plan: Plan, skew: int, does: str) -> None:
        """A message of the work queue is delivered: one attempt, perhaps."""
        sent = pick(self.world.queues.visible(WORK), which)
        self.world.deliver(WORK, [sent], plan=plan, skew=skew, does=does)

    @precondition(lambda self: self.world.queues.visible(WORK))
    @rule(
        which=picks,
        point=points,
        fault=st.sampled_from(FAULTS),
        skew=skews,
        does=st.sampled_from(["ok", "raises"]),
    )
    def work_and_fail(self, which: int, point: int, fault: str, skew: int, does: str) -> None:
        """The same, and something goes wrong in it."""
        sent = pick(self.world.queues.visible(WORK), which)
        self.world.deliver(WORK, [sent], plan={point: fault}, skew=skew, does=does)

    @precondition(lambda self: self.world.queues.in_flight(WORK))
    @rule(which=picks, plan=plans, skew=skews, does=outcomes)
    def work_twice(self, which: int, plan: Plan, skew: int, does: str) -> None:
        """A message that is in flight is delivered once more."""
        sent = pick(self.world.queues.in_flight(WORK), which)
        self.world.deliver(WORK, [sent], plan=plan, skew=skew, does=does)

    @precondition(lambda self: self.world.queues.on(COMPLETIONS))
    @rule(number=st.integers(1, 3), twice=st.booleans(), plan=plans, skew=skews, does=outcomes)
    def complete(self, number: int, twice: bool, plan: Plan, skew: int, does: str) -> None:
        """Events of ended runs are delivered, perhaps though they are in flight already."""
        queues = self.world.queues
        sents = queues.visible(COMPLETIONS)
        if twice or not sents:
            sents = list(queues.on(COMPLETIONS).values())
        self.world.deliver(COMPLETIONS, sents[:number], plan=plan, skew=skew, does=does)

    @precondition(lambda self: self._read_by_others())
    @rule(which=picks, plan=plans)
    def look(self, which: int, plan: Plan) -> None:
        """A message of the relay's retry queue or of a dead-letter queue is delivered."""
        queue, sent = pick(self._read_by_others(), which)
        self.world.deliver(queue, [sent], plan=plan)

    @precondition(lambda self: self.loses and self._queued())
    @rule(which=picks)
    def lose_message(self, which: int) -> None:
        queue, sent = pick(self._queued(), which)
        self._lose(queue, sent)
        self.world.lost.append(sent.body)

    @precondition(lambda self: self._queued() and self._may("dead_letter"))
    @rule(which=picks)
    def dead_letter(self, which: int) -> None:
        """A message was received too often. Its receives decide nothing about a run."""
        queue, sent = pick(self._queued(), which)
        self.left["dead_letter"] -= 1
        self._lose(queue, sent)
        self.world.queues.put(DEAD_LETTERS[queue], sent.body)

    def _lose(self, queue: str, sent: Sent) -> None:
        del self.world.queues.on(queue)[sent.number]

    # The Retrier

    @precondition(lambda self: self.world.steps.woken())
    @rule(which=picks)
    def wake(self, which: int) -> None:
        self.world.steps.attempt(pick(self.world.steps.woken(), which))

    @precondition(lambda self: self.world.steps.waiting())
    @rule(which=picks)
    def send_again(self, which: int) -> None:
        """SQS took the message and its answer was lost: another message, with a token anew."""
        self.world.steps.attempt(pick(self.world.steps.waiting(), which))

    @precondition(lambda self: self.loses and self.world.steps.open())
    @rule(which=picks)
    def stop_execution(self, which: int) -> None:
        """An operator stops it."""
        execution = pick(self.world.steps.open(), which)
        self.world.steps.close(execution, "ABORTED")
        self.world.lost.append(execution.name)

    # All that happens by itself

    @rule(steps=st.integers(1, 8), does=outcomes)
    def flow(self, steps: int, does: str) -> None:
        """A few things happen without a fault; the actions and handlers do the same each time."""
        for _ in range(steps):
            if not self._happens(does=does):
                break

    # Two at once

    @rule(
        who=st.sampled_from(["work"] * 4 + ["complete"] * 3 + ["cancel", "sweep", "keyed", "many"]),
        which=picks,
        point=st.integers(1, 5),
        fault=st.sampled_from(STANDS_STILL),
        does=outcomes,
        skew=skews,
        meanwhile=st.lists(st.tuples(st.sampled_from(MEANWHILE), outcomes), min_size=1, max_size=4),
        plan=plans,
    )
    def meanwhile(
        self,
        who: str,
        which: int,
        point: int,
        fault: str,
        does: str,
        skew: int,
        meanwhile: list[tuple[str, str]],
        plan: Plan,
    ) -> None:
        """One stands still, others go on, then that one does."""
        before = list(self.world.processes)
        queue = {"work": WORK, "complete": COMPLETIONS}.get(who)
        for _ in range(8):  # Until there is something to be done twice.
            if queue is None or self.world.queues.on(queue) or not self._happens(does=does):
                break
        self._begin(who, which, {point: fault}, skew, does)
        for what, how in meanwhile:
            if what == "time":
                moment = self.world.next_event()
                self.world.tick_to(moment or self.world.now)
            elif what == "a while":
                self.world.tick_to(self.world.now + 71_001)
            else:
                self._begin(what, which, {}, 0, how)
        for process in self.world.processes:
            if process not in before:
                self.world.resume(process, plan)
                break

    @rule(
        queue=st.sampled_from([WORK, COMPLETIONS]),
        which=picks,
        point=st.integers(1, 5),
        fault=st.sampled_from(STANDS_STILL),
        does=st.tuples(outcomes, outcomes),
        skew=skews,
        later=st.sampled_from(["at once", "at once", "time", "flow", "flow twice"]),
    )
    def twice_at_once(
        self,
        queue: str,
        which: int,
        point: int,
        fault: str,
        does: tuple[str, str],
        skew: int,
        later: str,
    ) -> None:
        """A message is delivered twice; the second delivery overtakes the first."""
        sents = self._something_on(queue)
        if not sents:
            return
        sent = pick(sents, which)
        first = self.world.deliver(queue, [sent], plan={point: fault}, does=does[0])
        self.world.deliver(queue, [sent], skew=skew, does=does[1])
        if later == "time":
            self.world.tick_to(self.world.next_event() or self.world.now)
        for _ in range({"flow": 4, "flow twice": 8}.get(later, 0)):
            self._happens(does=does[1])
        if first in self.world.processes:
            self.world.resume(first, {})

    @rule(
        at=st.sampled_from([(LEASE, PAUSE), (MARK, PAUSE), (MARK, NO_ANSWER)]),
        slow=st.booleans(),
        does=st.tuples(outcomes, outcomes),
    )
    def completion_overtaken(self, at: tuple[int, str], slow: bool, does: tuple[str, str]) -> None:
        """A call stands still before its lease or before its mark, or never hears of its mark; by a
        slow clock its lease is over. Another call does what it finds to do."""
        sents = self._something_on(COMPLETIONS)
        if not sents:
            return
        skew = -SKEW if slow else 0
        first = self.world.deliver(COMPLETIONS, sents[:1], plan=dict([at]), skew=skew, does=does[0])
        self.world.deliver(COMPLETIONS, sents[:1], does=does[1])
        self._resume(first)

    @precondition(lambda self: self.world.steps.waiting())
    @rule(which=picks, skew=st.sampled_from([0, SKEW, -SKEW]), does=outcomes)
    def timer_that_is_answered(self, which: int, skew: int, does: str) -> None:
        """The Retrier's message is delivered, to a clock that may say that it is early."""
        token = pick(self.world.steps.waiting(), which).token
        its = [it for it in self.world.queues.on(WORK).values() if f'"{token}"' in it.body]
        if its:
            self.world.deliver(WORK, its[:1], skew=skew, does=does)

    @precondition(lambda self: self.world.steps.waiting())
    @rule(which=picks)
    def token_left_behind(self, which: int) -> None:
        """An attempt dies between its outcome and its answer. A hint from elsewhere has the next
        one running before that message is back."""
        world = self.world
        execution = pick(world.steps.waiting(), which)
        its = [it for it in world.queues.on(WORK).values() if f'"{execution.token}"' in it.body]
        world.deliver(WORK, its[:1], plan={OUTCOME: DIE_AFTER}, does="raises")
        run = world.run(execution.data["run"])
        if run is None or run.kind != "scheduled":
            return
        world.tick_to(run.due + 1)
        world.queues.put(RETRY, json.dumps({"v": 1, "run": run.key}))
        world.deliver(RETRY, world.queues.visible(RETRY)[-1:])
        hint = Message(run=run.key, due=run.due).body()
        hints = [it for it in world.queues.on(WORK).values() if it.body == hint]
        first = world.deliver(WORK, hints[:1], plan={BEFORE_OUTCOME: PAUSE}, does="ok")
        world.deliver(WORK, [it for it in its[:1] if it.number in world.queues.on(WORK)])
        self._resume(first)

    @rule(
        point=st.integers(2, 4),
        does=st.tuples(outcomes, outcomes),
        steps=st.integers(0, 6),
        stands=st.sampled_from([None, 3, 4]),
        slow=st.booleans(),
    )
    def lost_while_alive(
        self, point: int, does: tuple[str, str], steps: int, stands: int | None, slow: bool
    ) -> None:
        """A living worker is taken for lost, as its clock is slow or the other's fast; it writes
        in the end, perhaps beside the next attempt."""
        sents = self._something_on(WORK)
        if not sents:
            return
        skew = -SKEW if slow else 0
        first = self.world.deliver(WORK, sents[:1], plan={point: PAUSE}, skew=skew, does=does[0])
        self.world.deliver(WORK, sents[:1], skew=skew + SKEW)
        for _ in range(steps):
            sents = self.world.queues.visible(WORK)
            if sents:
                plan: Plan = {stands: PAUSE} if stands else {}
                self.world.deliver(WORK, sents[:1], plan=plan, does=does[1])
                break
            if not self._happens():
                break
        if first in self.world.processes:
            self.world.resume(first, {})

    @precondition(lambda self: self._may("cancel"))
    @rule(
        cancel_first=st.booleans(),
        which=picks,
        point=st.integers(1, 5),
        fault=st.sampled_from(STANDS_STILL),
        does=outcomes,
        skew=skews,
    )
    def cancel_and_work(
        self, cancel_first: bool, which: int, point: int, fault: str, does: str, skew: int
    ) -> None:
        """A run is canceled while an attempt stands still, or attempted while the cancel does."""
        sents = self._something_on(WORK)
        if not sents:
            return
        self.left["cancel"] -= 1
        sent = pick(sents, which)
        life = self.world.lives[json.loads(sent.body)["run"]]
        before = list(self.world.processes)
        if cancel_first:
            self.world.cancel(life, plan={point: fault}, skew=skew)
            self.world.deliver(WORK, [sent], does=does)
        else:
            self.world.deliver(WORK, [sent], plan={point: fault}, skew=skew, does=does)
            self.world.cancel(life)
        for process in self.world.processes:
            if process not in before:
                self.world.resume(process, {})
                break

    @precondition(lambda self: self._may("cancel"))
    @rule(does=outcomes, steps=st.integers(0, 6))
    def cancel_that_comes_late(self, does: str, steps: int) -> None:
        """A run is running when a cancel reads it, and has gone on when it writes."""
        sents = self._something_on(WORK)
        if not sents:
            return
        self.left["cancel"] -= 1
        life = self.world.lives[json.loads(sents[0].body)["run"]]
        attempt = self.world.deliver(WORK, sents[:1], plan={BEFORE_OUTCOME: PAUSE}, does=does)
        cancel = self.world.cancel(life, plan={2: PAUSE})
        self._resume(attempt)
        for _ in range(steps):
            self._happens(does=does)
        self._resume(cancel)

    @precondition(lambda self: self._may("cancel") and self.left["keyed"] > 1)
    @rule(running=st.tuples(st.booleans(), st.booleans()), forgotten=st.booleans())
    def cancel_that_comes_too_late(self, running: tuple[bool, bool], forgotten: bool) -> None:
        """The run is over and forgotten when the cancel writes, and its key is another run's."""
        self.left["cancel"] -= 1
        cancel = None
        for runs in running:
            self.submit_keyed("k1", other=False, ok=True, plan={}, skew=0)
            life = self.world.lives[KEYED]
            attempt = None
            if runs and (sents := self._something_on(WORK)):
                attempt = self.world.deliver(WORK, sents[:1], plan={BEFORE_OUTCOME: PAUSE})
            if cancel is not None:
                self._resume(cancel)
                return
            cancel = self.world.cancel(life, by="action", plan={2: PAUSE})
            self._resume(attempt)
            for _ in range(40):
                if life in self.world.expired() or not self._happens(does="ok"):
                    break
            if forgotten and life in self.world.expired():
                self.world.forget(life)

    def _resume(self, process: Process | None) -> None:
        """If it still stands still."""
        if process in self.world.processes:
            self.world.resume(process, {})

    @precondition(lambda self: self._may("repeated"))
    @rule(
        which=st.sampled_from(["one", "many", "keyed"]),
        steps=st.integers(0, 8),
        point=st.sampled_from([1, 1, 2]),
    )
    def submit_repeated(self, which: str, steps: int, point: int) -> None:
        """A run is stored, the answer is lost, and the SDK stores it again: some time after."""
        self.left["repeated"] -= 1
        before = list(self.world.processes)
        plan = {point: REPEAT_LATER}
        if which == "one":
            self._submit({"maxRetries": 1}, True, ok=True, handler_ok=True, plan=plan)
        elif which == "many":
            self.submit_many(completes=True, ok=True, plan=plan, skew=0)
        else:
            self.submit_keyed("k1", other=False, ok=True, plan=plan, skew=0)
        for _ in range(steps):
            self._happens()
        for process in self.world.processes:
            if process not in before:
                self.world.resume(process, {})
                break

    def _something_on(self, queue: str) -> list[Sent]:
        """What is on the queue, once there is something."""
        does = "ok" if queue == COMPLETIONS else "raises"
        for _ in range(12):
            if self.world.queues.on(queue) or not self._happens(does=does):
                break
        return list(self.world.queues.on(queue).values())

    def _begin(self, who: str, which: int, plan: Plan, skew: int, does: str) -> None:
        """One of them, if it can be."""
        world = self.world
        sents = list(world.queues.on(WORK if who == "work" else COMPLETIONS).values())
        if who in ("work", "complete") and sents:
            queue = WORK if who == "work" else COMPLETIONS
            world.deliver(queue, [pick(sents, which)], plan=plan, skew=skew, does=does)
        elif who == "cancel" and world.lives:
            world.cancel(self._life(which), plan=plan, skew=skew)
        elif who == "sweep":
            world.sweep(plan=plan, skew=skew)
        elif who == "many" and self._may("many"):
            self.submit_many(completes=True, ok=True, plan=plan, skew=skew)
        elif who == "keyed":
            self.submit_keyed("k1", other=False, ok=True, plan=plan, skew=skew)
        elif who == "flow":
            self._happens(does=does)

    # Whoever stands still

    @precondition(lambda self: self.world.processes)
    @rule(which=picks, plan=plans)
    def go_on(self, which: int, plan: Plan) -> None:
        self.world.resume(pick(self.world.processes, which), plan)

    @precondition(lambda self: self.world.processes)
    @rule(which=picks)
    def die(self, which: int) -> None:
        self.world.kill(pick(self.world.processes, which))

    # Time, and those who tidy up

    @rule(seconds=ticks)
    def tick(self, seconds: float) -> None:
        self.world.tick_to(self.world.now + round(seconds * 1000) + 1)

    @precondition(lambda self: self.world.next_event() is not None)
    @rule(early=st.sampled_from([0, 0, 2]))
    def tick_to_the_next_event(self, early: int) -> None:
        moment = self.world.next_event()
        assert moment is not None
        self.world.tick_to(moment - early)

    @precondition(lambda self: self.world.lives and self._may("sweep"))
    @rule(plan=plans, skew=skews, seconds=st.sampled_from([240, 1]))
    def sweep(self, plan: Plan, skew: int, seconds: int) -> None:
        self.left["sweep"] -= 1
        self.world.sweep(plan=plan, skew=skew, seconds=seconds)

    @precondition(lambda self: self.world.expired())
    @rule(which=picks)
    def forget(self, which: int) -> None:
        """Time to live deletes an item, some time after its expiry."""
        self.world.forget(pick(self.world.expired(), which))

    @precondition(lambda self: self._parked())
    @rule(which=picks, handler_ok=st.booleans(), plan=plans)
    def redrive(self, which: int, handler_ok: bool, plan: Plan) -> None:
        """An operator has a parked completion tried again. If the event is not put, it is up to
        the sweeper."""
        life = pick(self._parked(), which)
        life.handler_ok = handler_ok
        self.world.redrive(life, plan=plan)
        if plan:
            self.world.lost.append(f"the event of {life.key}")

    def _parked(self) -> list[Life]:
        runs = ((life, self.world.run(life.key)) for life in self.world.lives.values())
        return [life for life, run in runs if run is not None and run.completion == "parked"]

    def _life(self, which: int) -> Life:
        life = pick(list(self.world.lives.values()), which)
        assert isinstance(life, Life)
        return life

    def _queued(self) -> list[tuple[str, Sent]]:
        queues = self.world.queues
        return [(queue, sent) for queue in DEAD_LETTERS for sent in queues.on(queue).values()]

    def _read_by_others(self) -> list[tuple[str, Sent]]:
        others = [queue for queue in READERS if queue not in (WORK, COMPLETIONS)]
        return [(queue, it) for queue in others for it in self.world.queues.visible(queue)]

    # What must hold

    @invariant()
    def no_promise_is_broken(self) -> None:
        assert not self.world.broken, self.world.broken
        assert not self.world.steps.faults

    def teardown(self) -> None:
        try:
            if not self.world.broken:
                self._in_the_end()
        except AssertionError:
            self.world.broken.append("in the end")
            raise
        finally:
            if self.world.broken:
                note("\n".join(self.world.trace))
            for process in list(self.world.processes):
                self.world.kill(process)
            self.patches.undo()

    def _in_the_end(self) -> None:
        """Everything heals; then every run comes to its end, and nothing is left lying about."""
        for process in list(self.world.processes):
            if self.resumes:
                self.world.resume(process, {})
            else:
                self.world.kill(process)
        self._settle()
        if not self.world.lost:
            left = self.world.unfinished()
            assert not left, f"I1 without the sweeper, though no hint was taken away: {left}"
        wait = OVERDUE_SECONDS * 1000
        for _ in range(16):
            if not self.world.unfinished():
                break
            self.world.tick_to(self.world.now + wait + 1)
            wait *= 2
            self.world.sweep()
            self._settle()
        self._at_rest()

    def _settle(self) -> None:
        """Let happen what happens by itself, until nothing does."""
        for _ in range(600):
            self.no_promise_is_broken()
            if not self._happens():
                return
        raise AssertionError(f"I8 it does not come to rest: {self.world.unfinished()}")

    def _happens(self, **notes: Any) -> bool:
        """The next thing that happens by itself, if any."""
        world = self.world
        if world.stream and not world.relaying:
            world.relay(100)
        elif world.steps.woken():
            world.steps.attempt(world.steps.woken()[0])
        elif queue := next((it for it in READERS if world.queues.visible(it)), None):
            world.deliver(queue, world.queues.visible(queue)[:1], **notes)
        elif (moment := world.next_event()) is not None:
            world.tick_to(moment)
        else:
            return False
        return True

    def _at_rest(self) -> None:
        world = self.world
        self.no_promise_is_broken()
        assert not world.unfinished(), f"I1 {world.unfinished()}"
        for life in world.lives.values():
            run = world.run(life.key)
            if run is not None and run.completion == "done":
                assert life.calls >= 1, f"I2 {life.key}: done without its handler"
            if run is not None and run.completion == "parked":
                assert run.open is not None, f"I8 {life.key}: nobody sees that it is parked"
                assert life.effects == 0, f"I2 {life.key}: parked with its effect"
        left = {name: list(it) for name, it in world.queues.queues.items() if it}
        assert not left, f"I8 on the queues: {left}"
        waiting = [it.name for it in world.steps.open() if not self._out_of_reach(it)]
        assert not waiting, f"I8 executions wait: {waiting}"

    def _out_of_reach(self, execution: Execution) -> bool:
        """Its run ended on the promise to answer it, whose keeper died or held a closed token, and
        the message that would have made good for it was lost: it times out after two weeks."""
        lost = any(f'"{execution.token}"' in body for body in self.world.lost)
        run = self.world.run(execution.data["run"])
        return lost and (run is None or run.execution == execution.name)


ALWAYS_THE_SAME: dict[str, Any] = {"derandomize": True, "database": None}
PROFILES: dict[str, Callable[[], settings]] = {
    "model": lambda: settings(**ALWAYS_THE_SAME, max_examples=300, stateful_step_count=40),
    "long": lambda: settings(max_examples=20_000, stateful_step_count=60),
    # For tests/mutations: what was found is not made smaller.
    "quick": lambda: settings(
        **ALWAYS_THE_SAME, max_examples=900, stateful_step_count=40, phases=[Phase.generate]
    ),
}
"""What HYPOTHESIS_PROFILE chooses from."""


@pytest.fixture
def user_code(tmp_path: Path) -> Iterator[None]:
    environment.write_source(tmp_path, {"default": POOL})
    environment.write_action(tmp_path)
    environment.write_handler(tmp_path)
    SOURCE[:] = [tmp_path]
    yield
    environment.forget()


@pytest.mark.fault(23, 31, 32)
@pytest.mark.usefixtures("user_code")
def test_nothing_is_lost_or_done_twice_whatever_fails() -> None:
    chosen = PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "model")]()
    run_state_machine_as_test(
        NothingLost,
        settings=settings(
            chosen,
            deadline=None,
            print_blob=False,
            suppress_health_check=[*HealthCheck],
        ),
    )
