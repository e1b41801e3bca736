"""The load: submit each of the plan's runs at its time, and record what each submit answered.

If an answer is lost, because the emulator does not run or a function was killed, the submit is
repeated where an idempotency key makes that safe. Otherwise the run may or may not exist, and the
checks find out.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Literal

from botocore.exceptions import ClientError

from chaos.clock import Clock
from chaos.plan import ACTION, HANDLER, POOLS, Plan, Submit, Via
from chaos.stage import LEDGER, Stage
from chaos.watch import AWS_DOWN
from local.errors import LocalError
from workpool import IdempotentWorkpool

Outcome = Literal["accepted", "refused", "unknown"]

SUBMITTERS = 12
ASK_AGAIN_S = 90.0
WARM_UP_S = 90.0
MOST_OPEN = 60
LATE_S = 5.0


@dataclass(kw_only=True)
class Submitted:
    """One submit and its outcome. `began` and `answered` are epoch milliseconds."""

    submit: Submit
    outcome: Outcome
    run_id: str | None = None
    existing: bool = False
    error: str = ""
    began: float
    answered: float
    asked: int = 1

    @property
    def key(self) -> str:
        return f"{self.submit.pool}#{self.run_id}"


@dataclass
class Load:
    """One run of a plan's submits."""

    stage: Stage
    plan: Plan
    clock: Clock
    open_runs: Callable[[], int]
    results: list[Submitted] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._answered: dict[str, threading.Event] = {}
        for submit in self.plan.submits:
            if submit.key is not None:
                self._answered.setdefault(submit.key, threading.Event())
        pools = {submit.pool for submit in self.plan.submits}
        self._workpools = {pool: IdempotentWorkpool(pool) for pool in pools}

    def accepted(self) -> Sequence[Submitted]:
        """The submits that were accepted up to now."""
        with self._lock:
            return [it for it in self.results if it.outcome == "accepted"]

    def warm_up(self) -> None:
        """Complete one run of each pool, so that the plan does not begin with cold functions."""
        ways: tuple[Via, ...] = ("sdk", "http", "sdk")
        for pool, via in zip(POOLS, ways, strict=True):
            args = {"label": f"warm-{pool}", "ms": 0, "fails": 0, "how": "raise", "at": "begun"}
            context = {"dies": 0, "raises": 0}
            options = {"onComplete": HANDLER, "context": context, "idempotencyKey": f"warm-{pool}"}
            label = str(args["label"])
            self._submit(Submit(at=0, label=label, pool=pool, via=via, args=args, options=options))
        give_up = time.monotonic() + WARM_UP_S
        for accepted in self.accepted():
            pool, run_id = accepted.submit.pool, str(accepted.run_id)
            while self.stage.read_status(pool, run_id).get("completion") != "done":
                if time.monotonic() > give_up:
                    raise LocalError(f"the first run did not end within {WARM_UP_S:.0f} s")
                time.sleep(0.5)

    def run(self) -> None:
        """Submit everything, each at its time."""
        with ThreadPoolExecutor(SUBMITTERS) as pool:
            futures: list[Future[None]] = []
            for submit in self.plan.submits:
                if self.clock.wait(submit.at, self._stop) or self._wait_for_room():
                    break
                futures.append(pool.submit(self._submit, submit))
            wait(futures)
            for future in futures:
                future.result()

    def _wait_for_room(self) -> bool:
        """Wait while too many runs are open, so that a slow machine gets fewer of them.

        True: the plan's time was over before there was room.
        """
        while self.open_runs() > MOST_OPEN and self.clock.now < self.plan.seconds:
            if self._stop.wait(0.2):
                return True
        return self.clock.now > self.plan.seconds + LATE_S

    def stop(self) -> None:
        self._stop.set()

    def _submit(self, submit: Submit) -> None:
        event = self._answered.get(submit.key or "")
        if submit.reuses is not None and event is not None:
            event.wait(ASK_AGAIN_S)
        result = self._submit_until_answered(submit)
        with self._lock:
            self.results.append(result)
        if event is not None:
            event.set()

    def _submit_until_answered(self, submit: Submit) -> Submitted:
        began, asked = time.time() * 1000, 0
        give_up = time.monotonic() + ASK_AGAIN_S
        result = Submitted(submit=submit, outcome="unknown", began=began, answered=began)
        while True:
            asked += 1
            try:
                self._submit_once(submit, result)
            except AWS_DOWN as error:
                result.error = str(error)[:200]
            result.answered, result.asked = time.time() * 1000, asked
            final = result.outcome != "unknown" or not self._repeatable(submit)
            if final or self._stop.is_set() or time.monotonic() > give_up:
                return result
            time.sleep(0.5)

    @staticmethod
    def _repeatable(submit: Submit) -> bool:
        return submit.key is not None and submit.via in ("sdk", "http")

    def _submit_once(self, submit: Submit, result: Submitted) -> None:
        body = {"action": ACTION, "args": submit.args, "options": submit.options}
        if submit.via == "sdk":
            self._submit_by_sdk({"pool": submit.pool, **body}, result)
        elif submit.via == "http":
            code, shape = self.stage.request("POST", f"/pools/{submit.pool}/runs", body)
            if code == 202:
                _accept(result, shape)
            elif code in (400, 404, 409, 413):
                result.outcome, result.error = "refused", str(shape["error"]["code"])
            else:
                result.error = f"HTTP {code}: {shape}"
        else:
            self._submit_in_transaction(submit, result)

    def _submit_by_sdk(self, body: dict[str, Any], result: Submitted) -> None:
        try:
            shape = self.stage.invoke(self.stage.outputs["SubmitFunctionName"], body)
        except RuntimeError as error:
            code = str(error).partition(":")[0]
            result.error = str(error)[:200]
            if code in ("IdempotencyConflict", "InvalidRequest", "UnknownAction"):
                result.outcome, result.error = "refused", code
            return
        _accept(result, shape)

    def _submit_in_transaction(self, submit: Submit, result: Submitted) -> None:
        """Write the run together with a row of our own. A torn submit's row refuses both."""
        options = {_snake(name): value for name, value in submit.options.items()}
        run_id, entry = self._workpools[submit.pool].transact_item(ACTION, submit.args, **options)
        result.run_id = run_id
        row: dict[str, Any] = {
            "TableName": LEDGER,
            "Item": {
                "run": {"S": run_id},
                "at": {"S": "order"},
                "what": {"S": "order"},
                "label": {"S": submit.label},
            },
        }
        if submit.via == "torn":
            row["ConditionExpression"] = "attribute_exists(run)"
        items: list[Any] = [{"Put": row}, entry]
        try:
            self.stage.client("dynamodb").transact_write_items(TransactItems=items)
        except ClientError as error:
            if error.response["Error"]["Code"] != "TransactionCanceledException":
                raise
            result.outcome, result.error = "refused", "TransactionCanceled"
            return
        result.outcome = "accepted"


def _accept(result: Submitted, shape: dict[str, Any]) -> None:
    result.outcome = "accepted"
    result.run_id = str(shape["runId"])
    result.existing = bool(shape.get("existing"))


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
