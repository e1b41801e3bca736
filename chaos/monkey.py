"""The monkey: cause each of the plan's faults at its time, one after the other.

A fault that lasts has a begin and an end in the plan. `heal` ends what still lasts when the load is
over. A fault kills a process, or calls SQS, EventBridge, Lambda or the workpool, as anybody with
the account's rights could. No fault edits the state of the emulator or of a run.
"""

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from chaos.clock import Clock
from chaos.load import Load
from chaos.plan import POOLS, Fault, Plan
from chaos.stage import STACK, Stage
from chaos.watch import AWS_DOWN, Passing, Processes, Statuses, Stream

SETTLE_S = 60.0

UNKNOWN = ("no-such-run", "../../etc/passwd", "0" * 32)


@dataclass(frozen=True, kw_only=True)
class Done:
    """A fault that was caused: how often it hit something, and a line about it."""

    at: float
    name: str
    hits: int
    note: str


@dataclass(frozen=True, kw_only=True)
class Killed:
    pid: int
    before: int
    """Nanoseconds just before the signal: the process was still alive."""


@dataclass(frozen=True, kw_only=True)
class Canceled:
    pool: str
    run_id: str
    asked: float
    """Epoch milliseconds before the request."""
    answer: dict[str, Any] | None
    """The status in the answer. None: no answer came."""


@dataclass(frozen=True, kw_only=True)
class CanceledAll:
    """The open runs of a pool were canceled: those created before a time between the two.

    Epoch milliseconds. None: no answer came.
    """

    pool: str
    asked: float
    answered: float | None


@dataclass(frozen=True, kw_only=True)
class Limited:
    """A change of how many of a pool's actions may run at the same time. 0: the pool was paused.

    Epoch milliseconds. None: no answer came, so the change may have been made or not.
    """

    pool: str
    limit: int
    asked: float
    answered: float | None


class Monkey:
    def __init__(
        self,
        *,
        stage: Stage,
        plan: Plan,
        clock: Clock,
        load: Load,
        processes: Processes,
        stream: Stream,
        passing: Passing,
        statuses: Statuses,
    ) -> None:
        self._stage = stage
        self._plan = plan
        self._clock = clock
        self._load = load
        self._processes = processes
        self._stream = stream
        self._passing = passing
        self._statuses = statuses
        self._paused: Counter[str] = Counter()
        self._relay_off = 0
        self._settings = {
            name: {"paused": False, "maxParallelism": int(pool["maxParallelism"])}
            for name, pool in POOLS.items()
        }
        """The settings that each pool was last asked to have."""
        self._stop = threading.Event()
        self.done: list[Done] = []
        self.killed: list[Killed] = []
        self.canceled: list[Canceled] = []
        self.canceled_all: list[CanceledAll] = []
        self.limited: list[Limited] = []
        self.redriven: list[tuple[str, float]] = []
        """Pool and time in epoch milliseconds."""
        self.restarts: list[tuple[float, float]] = []
        """When the emulator stopped and started: epoch milliseconds."""
        self.hits: Counter[str] = Counter()
        self.misses: Counter[str] = Counter()
        """Faults that found nothing to harm."""

    def run(self) -> None:
        """Cause every fault at its time."""
        for fault in self._plan.faults:
            if self._clock.wait(fault.at, self._stop):
                return
            self._cause(fault)

    def stop(self) -> None:
        self._stop.set()

    def heal(self) -> None:
        """End every fault that still lasts."""
        for pool, settings in POOLS.items():
            self._change_until_answered(
                pool, maxParallelism=settings["maxParallelism"], paused=False
            )
        for name in [name for name, times in self._paused.items() if times]:
            self._paused[name] = 0
            self._set_concurrency(name)
        if self._relay_off:
            self._relay_off = 0
            self._enable_relay(True)

    def _cause(self, fault: Fault) -> None:
        act: Callable[..., tuple[int, str]] = getattr(self, fault.name)
        try:
            hits, note = act(**fault.what)
        except (*AWS_DOWN, RuntimeError) as error:  # RuntimeError: its function was killed.
            hits, note = 0, f"no answer: {error}"
        (self.hits if hits else self.misses)[fault.name] += hits or 1
        self.done.append(Done(at=round(self._clock.now, 1), name=fault.name, hits=hits, note=note))

    # The faults. Each returns how often it hit something, and what it did.

    def kill(self, *, whose: str, pick: float) -> tuple[int, str]:
        """Kill a Lambda worker with SIGKILL."""
        living = self._processes.living(whose)
        if not living:
            return 0, f"no {whose or 'worker'} lives"
        life = living[int(pick * len(living))]
        before = time.time_ns()
        try:
            os.kill(life.pid, signal.SIGKILL)
        except ProcessLookupError:
            return 0, f"process {life.pid} was gone"
        self.killed.append(Killed(pid=life.pid, before=before))
        return 1, f"killed {life.pid} of {life.function.removeprefix(STACK + '-')}"

    def duplicate(self, *, queue: str, most: int, copies: int) -> tuple[int, str]:
        """Send waiting messages again."""
        bodies = self._passing.peek(queue)[:most]
        for body in bodies * copies:
            self._send(queue, body)
        return len(bodies) * copies, f"{len(bodies)} of {queue} sent {copies} times more"

    def drop(self, *, queue: str, most: int, copies: int) -> tuple[int, str]:
        """Lose waiting messages: receive and delete them."""
        sqs, url = self._stage.client("sqs"), self._stage.queue_url(queue)
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=most)
        messages = answer.get("Messages", [])
        for message in messages:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return len(messages), f"{len(messages)} of {queue} lost"

    def stale(self, *, pool: str, most: int) -> tuple[int, str]:
        """Send messages again that passed long ago, the oldest first."""
        bodies = list(self._passing.bodies[pool])[:most]
        for body in bodies:
            self._send(pool, body)
            del self._passing.bodies[pool][body]
        return len(bodies), f"{len(bodies)} old ones of {pool}"

    def events_again(self, *, most: int, copies: int, pick: float) -> tuple[int, str]:
        """Send ended events again that have passed."""
        details = self._passing.details
        start = int(pick * len(details))
        again = details[start : start + most] * copies
        for first in range(0, len(again), 10):
            self._stage.client("events").put_events(
                Entries=[
                    {
                        "EventBusName": self._stage.outputs["EventBusName"],
                        "Source": "workpool",
                        "DetailType": "Run Ended",
                        "Detail": detail,
                    }
                    for detail in again[first : first + 10]
                ]
            )
        return len(again), f"{len(again)} ended events again"

    def pause(self, *, queue: str) -> tuple[int, str]:
        """Give the function of a queue no concurrency."""
        self._paused[queue] += 1
        self._set_concurrency(queue)
        return 1, f"{queue} paused"

    def resume(self, *, queue: str) -> tuple[int, str]:
        if self._paused[queue]:
            self._paused[queue] -= 1
        self._set_concurrency(queue)
        return 1, f"{queue} resumed"

    def relay_off(self) -> tuple[int, str]:
        """Disable the relay's event source mapping."""
        self._relay_off += 1
        self._enable_relay(False)
        return 1, "the relay stopped reading"

    def relay_on(self) -> tuple[int, str]:
        self._relay_off = max(0, self._relay_off - 1)
        if not self._relay_off:
            self._enable_relay(True)
        return 1, "the relay reads again"

    def cancel(self, *, which: str, pick: float) -> tuple[int, str]:
        """Cancel a run: an open one, any one, or one that does not exist."""
        if which == "unknown":
            return self._cancel("fast", UNKNOWN[int(pick * len(UNKNOWN))])
        runs = sorted(self._load.accepted(), key=lambda run: run.answered)
        if which == "open":
            runs = runs[-40:]
        if not runs:
            return 0, "nothing to cancel"
        chosen = runs[int(pick * len(runs))]
        return self._cancel(chosen.submit.pool, str(chosen.run_id))

    def change(self, *, pool: str, **settings: int | bool) -> tuple[int, str]:
        """Pause or resume a pool, or change its size, with the workpool's own verb."""
        asked = time.time() * 1000
        self._settings[pool] |= settings
        paused, limit = self._settings[pool]["paused"], self._settings[pool]["maxParallelism"]
        answered = None
        try:
            code, _ = self._stage.request("PATCH", f"/pools/{pool}", settings)
            answered = time.time() * 1000 if code == 200 else None
        finally:
            self.limited.append(
                Limited(pool=pool, limit=0 if paused else limit, asked=asked, answered=answered)
            )
        changes = ", ".join(f"{name} {value}" for name, value in settings.items())
        return 1, f"{pool}: {changes}{'' if answered else ': no answer'}"

    def cancel_all(self, *, pool: str) -> tuple[int, str]:
        """Cancel all open runs of a pool."""
        asked = time.time() * 1000
        answered = None
        try:
            code, _ = self._stage.request("POST", f"/pools/{pool}/cancel")
            answered = time.time() * 1000 if code == 202 else None
        finally:
            self.canceled_all.append(CanceledAll(pool=pool, asked=asked, answered=answered))
        return 1, f"all of {pool} canceled{'' if answered else ': no answer'}"

    def redrive(self, *, pool: str) -> tuple[int, str]:
        """Redrive the parked completions of a pool."""
        self.redriven.append((pool, time.time() * 1000))
        code, shape = self._stage.request("POST", f"/pools/{pool}/redrive", {})
        count = shape["redriving"] if code == 202 else 0
        return count, f"{count} of {pool} redriven"

    def sweep(self, **event: Any) -> tuple[int, str]:
        """Invoke the sweeper while everything goes on, much earlier than its schedule would."""
        repeated = self._stage.invoke(f"{STACK}-sweeper", event)
        return 1, f"the sweeper repeated {repeated}"

    def restart(self) -> tuple[int, str]:
        """Stop the emulator with its state saved, and start it again with that state."""
        self._stream.read()
        begin, since = time.monotonic(), time.time() * 1000
        self._stage.save_and_stop()  # Submits go on meanwhile, and fail.
        stopped = time.monotonic()
        with self._clock.held():
            executions = self._stage.start_again()
        self._stream.forget_position()
        self.restarts.append((since, time.time() * 1000))
        took = f"{stopped - begin:.0f} s to stop, {time.monotonic() - stopped:.0f} s to start"
        return 1, f"restarted: {took}, {executions} executions started again"

    # How they are caused

    def _cancel(self, pool: str, run_id: str) -> tuple[int, str]:
        asked = time.time() * 1000
        answer: dict[str, Any] | None = None
        try:
            path = f"/pools/{pool}/runs/{quote(run_id, safe='')}/cancel"
            code, shape = self._stage.request("POST", path)
            if code in (200, 404) and "kind" in shape:
                answer = shape
                self._statuses.note(pool, run_id, shape, asked=asked)
        finally:
            self.canceled.append(Canceled(pool=pool, run_id=run_id, asked=asked, answer=answer))
        kind = answer["kind"] if answer else "no answer"
        return 1, f"cancel of {run_id[:8]} of {pool}: {kind}"

    def _change_until_answered(self, pool: str, **settings: int | bool) -> None:
        """Change a pool, and repeat it until an answer comes or SETTLE_S are over."""
        give_up = time.monotonic() + SETTLE_S
        while True:
            with contextlib.suppress(*AWS_DOWN):
                self.change(pool=pool, **settings)
            if self.limited[-1].answered is not None or time.monotonic() > give_up:
                return
            time.sleep(1)

    def _send(self, queue: str, body: str) -> None:
        url = self._stage.queue_url(queue)
        self._stage.client("sqs").send_message(QueueUrl=url, MessageBody=body)

    def _set_concurrency(self, queue: str) -> None:
        functions, name = self._stage.client("lambda"), self._stage.function(queue)
        pool = self._settings.get(queue, {"paused": False, "maxParallelism": None})
        wanted = 0 if self._paused[queue] or pool["paused"] else pool["maxParallelism"]
        if wanted is None:
            functions.delete_function_concurrency(FunctionName=name)
        else:
            functions.put_function_concurrency(
                FunctionName=name, ReservedConcurrentExecutions=wanted
            )

    def _enable_relay(self, enabled: bool) -> None:
        self._stage.client("lambda").update_event_source_mapping(
            UUID=self._stage.relay_mapping, Enabled=enabled
        )
