"""One invocation of a function, which can be stopped at any of its points: before each call of a
client, and where user code runs. There it may die, before or after the call took effect; lose the
answer and repeat the call, as the SDK does; be refused; or stand still while others go on.

An invocation that stands still has a thread of its own; only one of all threads ever runs.
"""

import threading
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ReadTimeoutError

from tests.support.failures import Died, refusal

PAUSE = "stands still before it"
DIE_BEFORE = "dies before it"
DIE_AFTER = "dies after it"
REPEAT = "loses the answer, repeats it"
REPEAT_LATER = "loses the answer, stands still, repeats it"
REFUSED = "is refused for load"
NO_ANSWER = "never hears the answer, gives up"
PARTLY = "has its first entry refused"
FAULTS = (PAUSE, DIE_BEFORE, DIE_AFTER, REPEAT, REPEAT_LATER, REFUSED, NO_ANSWER, PARTLY)
STANDS_STILL = (PAUSE, REPEAT_LATER)

NEVER_ENDS = 300
"""Points that no invocation needs."""

Plan = dict[int, str]
"""The faults to meet, by point: 1 is the first."""


class Process:
    """An invocation: `work` under a plan, until `deadline` (real time), its clock wrong by `skew`.

    `state` is running, still, ended (`result`), raised (`error`) or died.
    """

    def __init__(
        self, kind: str, work: Callable[[], Any], *, deadline: int, skew: int, plan: Plan
    ) -> None:
        self.kind = kind
        self.deadline = deadline
        self.skew = skew
        self.plan = dict(plan)
        self.state = "running"
        self.result: Any = None
        self.error: Exception | None = None
        self.disturbed = False
        """Whether a call was refused to it, so that it may leave work undone."""
        self.watchdog: tuple[int, Callable[[], None]] | None = None
        self.notes: dict[str, Any] = {}
        self.at_point = ""
        self._points = 0
        self._dead = False
        self._overrun = False
        self._work = work
        self._thread: threading.Thread | None = None
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)

    def __str__(self) -> str:
        return f"{self.kind} {id(self) % 9973}"

    @property
    def alive(self) -> bool:
        return self.state in ("running", "still") and not self._dead

    @property
    def at_one_go(self) -> bool:
        """Whether nothing else happened while it ran."""
        return self._thread is None

    def run(self) -> None:
        """Run until it ends or stands still."""
        if any(fault in STANDS_STILL for fault in self.plan.values()):
            self._thread = threading.Thread(target=self._in_thread, daemon=True)
            self._thread.start()
            self._switch()
        else:
            self._to_the_end()

    def resume(self, plan: Plan) -> None:
        """Go on; point 1 of the plan is the one where it stands."""
        self.plan = {self._points - 1 + point: fault for point, fault in plan.items()}
        self._switch()

    def kill(self) -> None:
        self._dead = True
        self._switch()

    def overrun(self) -> None:
        """Its watchdog's time is up: that one writes, and ends the process."""
        self._overrun, self.plan = True, {}
        self._switch()

    def exit(self) -> None:
        """What os._exit does."""
        self._dead = True
        raise Died

    def at(
        self,
        point: str,
        do: Callable[[], Any],
        *,
        call: bool = True,
        partly: Callable[[], Any] | None = None,
    ) -> Any:
        """One point; `call`: it is a call of a client, which can be repeated or refused; `partly`:
        do all but the first entry of it."""
        if self._dead:
            raise Died
        self._points += 1
        if self._points > NEVER_ENDS:
            raise RuntimeError(f"{self} never ends")
        self.at_point = point
        while (fault := self.plan.pop(self._points, None)) == PAUSE:
            self._stand_still()
        if fault == DIE_BEFORE:
            self.exit()
        if call and fault == REFUSED:
            self.disturbed = True
            raise refusal("ThrottlingException", point)
        if partly is not None and fault == PARTLY:
            self.disturbed = True
            return partly()
        answer = do()
        if fault == DIE_AFTER:
            self.exit()
        if call and fault == NO_ANSWER:
            self.disturbed = True
            raise ReadTimeoutError(endpoint_url="https://the.model")
        if call and fault in (REPEAT, REPEAT_LATER):
            if fault == REPEAT_LATER:
                self._stand_still()
            answer = do()
        return answer

    def _stand_still(self) -> None:
        self.state = "still"
        self._back.release()
        self._go.acquire()
        self.state = "running"
        if self._dead:
            raise Died
        if self._overrun:
            self._overrun = False
            assert self.watchdog is not None
            self.watchdog[1]()

    def _switch(self) -> None:
        self._go.release()
        self._back.acquire()
        if self.state != "still" and self._thread is not None:
            self._thread.join()

    def _in_thread(self) -> None:
        self._go.acquire()
        self._to_the_end()
        self._back.release()

    def _to_the_end(self) -> None:
        try:
            self.result = self._work()
        except Died:
            self.state = "died"
        except Exception as error:
            self.state, self.error = "raised", error
        else:
            self.state = "died" if self._dead else "ended"
