"""The Python client: submit, read, wait for and cancel runs of one pool.

Outside it calls the HTTP API and signs its requests; inside an action or a completion handler it
calls the same verbs in process, and needs no configuration.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import uuid4

from workpool import lookup
from workpool._in_process import InProcess, in_a_function
from workpool._verbs import Json, Verbs, encode
from workpool.core import clock, request
from workpool.core.run import attribute
from workpool.errors import PayloadTooLarge, WorkpoolError, error_of

Function = str | Callable[..., Any]

POLL_SECONDS = (0.2, 5.0)
"""`wait` polls first after the one, then after growing times up to the other."""

BATCH = 1000
BATCH_BYTES = 5_000_000
STATUSES = 100
"""What one request takes. The bytes are those of its JSON in a string of JSON, in which API Gateway
hands it on: Lambda takes 6 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A run as `status` shows it; what does not apply is None. Times are epoch milliseconds."""

    run_id: str
    kind: str
    """enqueued, scheduled, running, completed, canceled or unknown."""
    pool: str | None = None
    action: str | None = None
    retries: int | None = None
    next_run: int | None = None
    enqueued_at: int | None = None
    finished_at: int | None = None
    annotation: str | None = None
    result: dict[str, Json] | None = None
    """{"type": "success", "returnValue"}, {"type": "failed", "error"} or {"type": "canceled"}. With
    `fetch=False` a large value is a "returnValueUrl" instead, valid for 15 minutes."""
    completion: str | None = None
    """pending, done or parked; None without an `on_complete`."""
    completion_error: str | None = None
    """Why the completion handler is called again, or is parked."""
    args: Json = None
    context: Json = None
    attempts: list[dict[str, Json]] | None = None
    """These three only where `status` was asked to include them."""

    @property
    def ended(self) -> bool:
        return self.kind in ("completed", "canceled")

    @property
    def succeeded(self) -> bool:
        return self.result is not None and self.result["type"] == "success"

    def shape(self) -> dict[str, Json]:
        """The status as the API shows it: camelCase, without what does not apply."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {attribute(name): value for name, value in given.items() if value is not None}


class IdempotentWorkpool:
    """A pool, by its name.

        pool = IdempotentWorkpool("default")
        run_id = pool.run("payments.charge", {"orderId": "o1"}, on_complete="payments.settled")
        print(pool.wait(run_id, timeout=60).result)

    Outside it finds the deployment by WORKPOOL_API_URL and WORKPOOL_RUNS_TABLE, else by the SSM
    parameter /workpool/<stack> (`stack`, else WORKPOOL_STACK, else Workpool), with the
    credentials and region of `profile` and `region`, else those that boto3 finds. The addresses
    in the environment are those of its own stack and credentials: for another stack, or with a
    profile, they are not used. Errors are the classes of `workpool.errors`.
    """

    def __init__(
        self,
        pool: str = "default",
        *,
        stack: str | None = None,
        profile: str | None = None,
        region: str | None = None,
    ) -> None:
        self.pool = pool
        self._stack = stack
        self._profile = profile
        self._region = region

    def run(
        self,
        action: Function,
        args: dict[str, Json] | None = None,
        *,
        initial_backoff_ms: float | None = None,
        base: float | None = None,
        max_retries: int | None = None,
        on_complete: Function | None = None,
        context: Json = None,
        run_after_ms: float | None = None,
        run_at: float | datetime | None = None,
        annotation: str | None = None,
        idempotency_key: str | None = None,
        fairness_key: str | None = None,
    ) -> str:
        """Submit a run of an action, by name or by the decorated function; its id at once.

        `run_at` is a datetime or epoch milliseconds; a past time is now. Without an
        `idempotency_key` the client sends one of its own, so that its retries are safe.
        """
        body = _body(
            action,
            args,
            initial_backoff_ms=initial_backoff_ms,
            base=base,
            max_retries=max_retries,
            on_complete=on_complete,
            context=context,
            run_after_ms=run_after_ms,
            run_at=run_at,
            annotation=annotation,
            idempotency_key=idempotency_key or uuid4().hex,
            fairness_key=fairness_key,
        )
        return str(self._verbs.submit(self.pool, body)["runId"])

    def run_after(
        self, delay_ms: float, action: Function, args: dict[str, Json] | None = None, **options: Any
    ) -> str:
        """`run`, started `delay_ms` from now, rounded up to a whole second."""
        return self.run(action, args, run_after_ms=delay_ms, **options)

    def run_at(
        self,
        at: float | datetime,
        action: Function,
        args: dict[str, Json] | None = None,
        **options: Any,
    ) -> str:
        """`run`, started at a datetime or epoch milliseconds, rounded up to a whole second."""
        return self.run(action, args, run_at=at, **options)

    def run_once(
        self, action: Function, args: dict[str, Json] | None = None, **options: Any
    ) -> str:
        """`run` without retries: one attempt."""
        return self.run(action, args, max_retries=0, **options)

    def run_once_after(
        self, delay_ms: float, action: Function, args: dict[str, Json] | None = None, **options: Any
    ) -> str:
        """`run_after` without retries."""
        return self.run_after(delay_ms, action, args, max_retries=0, **options)

    def run_once_at(
        self,
        at: float | datetime,
        action: Function,
        args: dict[str, Json] | None = None,
        **options: Any,
    ) -> str:
        """`run_at` without retries."""
        return self.run_at(at, action, args, max_retries=0, **options)

    def run_batch(self, requests: Sequence[dict[str, Json]]) -> list[str | WorkpoolError]:
        """Submit many at once: requests as in the API's `runs`, {"action", "args"?, "options"?}.

        Answers in order the run id of each, or the error by which it was refused (returned, not
        raised: the others are submitted). Large batches are sent in several requests.
        """
        answers: list[str | WorkpoolError] = []
        for batch in _batches([_keyed(it) for it in requests]):
            try:
                results = self._verbs.submit_many(self.pool, batch)
            except PayloadTooLarge as error:
                if len(batch) > 1:
                    raise
                answers.append(error)
            else:
                answers += [error_of(result) or result["runId"] for result in results]
        return answers

    def status_batch(self, run_ids: Sequence[str], *, fetch: bool = True) -> list[RunStatus]:
        """The statuses of many runs, in order. `fetch=False`: leave return values above 32 KB
        where they are, for who asks again and again."""
        return [
            self._status(shape, fetch=fetch)
            for start in range(0, len(run_ids), STATUSES)
            for shape in self._verbs.status_many(self.pool, run_ids[start : start + STATUSES])
        ]

    def runs(self, kind: str | None = None, *, fetch: bool = True) -> Iterator[RunStatus]:
        """The pool's open runs, oldest first, or those of one kind: enqueued, scheduled, running,
        or parked (ended, and their completion handler kept raising). `fetch` as in
        `status_batch`."""
        cursor = None
        while True:
            page = self._verbs.runs(self.pool, kind, cursor)
            yield from (self._status(shape, fetch=fetch) for shape in page["runs"])
            cursor = page.get("cursor")
            if cursor is None:
                return

    def pools(self) -> list[dict[str, Json]]:
        """All pools of the deployment, as they are now: name, maxParallelism, paused,
        deadLetters, and cancelingBefore while cancel_all works."""
        return list(self._verbs.pools()["pools"])

    def cancel_all(self) -> None:
        """Cancel every run of the pool that is open now; it goes on after this returns."""
        self._verbs.cancel_all(self.pool)

    def stats(self) -> dict[str, Json]:
        """The pool's statistics: pending, oldestPending, recentExecutions, recentErrorRate,
        recentPermanentFailureRate, recentJobAverageMs, statsWindowMs."""
        return dict(self._verbs.stats(self.pool))

    def log_stats(self) -> dict[str, Json]:
        """Print the statistics as one line of JSON with "event": "stats", and answer them."""
        stats = self.stats()
        print(json.dumps({"event": "stats", "pool": self.pool, **stats}), flush=True)
        return stats

    def pause(self) -> dict[str, Json]:
        """Start no more actions; those that run go on. Answers the pool."""
        return dict(self._verbs.change(self.pool, {"paused": True}))

    def resume(self) -> dict[str, Json]:
        """Start actions again. Answers the pool."""
        return dict(self._verbs.change(self.pool, {"paused": False}))

    def scale(self, max_parallelism: int) -> dict[str, Json]:
        """Change maxParallelism, until cdk.json's value changes; interrupts nothing. Answers the
        pool."""
        return dict(self._verbs.change(self.pool, {"maxParallelism": max_parallelism}))

    def redrive(self, run_ids: Sequence[str] | None = None) -> int:
        """Call the completion handlers of these parked runs again, or of all. Answers how many."""
        return int(self._verbs.redrive(self.pool, run_ids)["redriving"])

    def transact_item(
        self, action: Function, args: dict[str, Json] | None = None, **options: Any
    ) -> tuple[str, dict[str, Any]]:
        """A run as an entry for your own TransactWriteItems: it starts if that commits.

        Takes the options of `run`. With an `idempotency_key` that was used before, the entry
        refuses its transaction. The names of action and handler are not checked here: with an
        unknown one the run's attempts fail. Arguments and context stay in the entry: raises
        PayloadTooLarge above 125,000 bytes of either.
        """
        from workpool.aws.store import creation_put

        asked = request.parse({"pool": self.pool} | _body(action, args, **options))
        asked.check_fits_item()
        run = asked.to_run(now_ms=clock.now_ms())
        return run.run_id, {"Put": creation_put(run, table=self._verbs.runs_table)}

    def status(self, run_id: str, *, include: Sequence[str] = ()) -> RunStatus:
        """The run's status; kind `unknown` for an id that the pool does not know (any more). A
        large return value is fetched.

        `include`: any of args, context and attempts (the last ten, with their errors).
        """
        return self._status(self._verbs.status(self.pool, run_id, include))

    def wait(self, run_id: str, timeout: float | None = None) -> RunStatus:
        """Wait until the run ended, whatever its result, and answer its status.

        Raises TimeoutError after `timeout` seconds, and LookupError for an unknown run.
        """
        give_up = None if timeout is None else clock.monotonic() + timeout
        pause, longest = POLL_SECONDS
        while True:
            status = self.status(run_id)
            if status.ended:
                return status
            if status.kind == "unknown":
                raise LookupError(f"pool {self.pool!r} knows no run {run_id!r}")
            left = longest if give_up is None else give_up - clock.monotonic()
            if left <= 0:
                raise TimeoutError(f"run {run_id} is {status.kind} after {timeout} s")
            clock.sleep(min(pause, left))
            pause = min(pause * 1.5, longest)

    def cancel(self, run_id: str) -> RunStatus:
        """Cancel the run, and answer its status after that. What runs is not interrupted."""
        return self._status(self._verbs.cancel(self.pool, run_id))

    def _status(self, shape: dict[str, Json], *, fetch: bool = True) -> RunStatus:
        """The status of a JSON; fields of a newer deployment are left out."""
        result = shape.get("result") or {}
        if fetch and "returnValueUrl" in result:
            value = self._verbs.fetch(result["returnValueUrl"])
            shape = {**shape, "result": {"type": result["type"], "returnValue": value}}
        known = {attribute(field.name): field.name for field in fields(RunStatus)}
        return RunStatus(**{known[name]: value for name, value in shape.items() if name in known})

    @property
    def _verbs(self) -> Verbs:
        return transport(self)

    @cached_property
    def _own_transport(self) -> Verbs:
        if in_a_function():
            return InProcess(stack=self._stack, profile=self._profile, region=self._region)
        from workpool._http import Http

        return Http(stack=self._stack, profile=self._profile, region=self._region)


def transport(client: IdempotentWorkpool) -> Verbs:
    """How a client reaches its deployment: in process inside a function, over HTTP elsewhere. It is
    made once for each client. `workpool.testing` puts another in its place."""
    return client._own_transport


def _keyed(asked: Json) -> Json:
    """The request with an idempotency key, so that sending it again is safe, and names for
    functions. What is no request stays as it is: the pool refuses it, and takes the others."""
    if not isinstance(asked, dict):
        return asked
    keyed = dict(asked)
    if callable(asked.get("action")):
        keyed["action"] = lookup.name_of(asked["action"], "action")
    options = asked.get("options", {})
    if isinstance(options, dict):
        keyed["options"] = {"idempotencyKey": uuid4().hex, **options}
        if callable(options.get("onComplete")):
            keyed["options"]["onComplete"] = lookup.name_of(options["onComplete"], "completion")
    return keyed


def _batches(bodies: list[Json]) -> Iterator[list[Json]]:
    """The requests by what one call takes: a thousand, and some megabytes."""
    batch: list[Json] = []
    size = 0
    for body in bodies:
        its = len(json.dumps(encode(body).decode(), ensure_ascii=False).encode())
        if batch and (len(batch) == BATCH or size + its > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(body)
        size += its
    if batch:
        yield batch


def _body(action: Function, args: dict[str, Json] | None, **options: Any) -> dict[str, Json]:
    """The request of a call: what is None was not given."""
    at = options.get("run_at")
    if isinstance(at, datetime):
        options["run_at"] = at.timestamp() * 1000
    if options.get("on_complete") is not None:
        options["on_complete"] = lookup.name_of(options["on_complete"], "completion")
    given = {attribute(name): value for name, value in options.items() if value is not None}
    return {
        "action": lookup.name_of(action, "action"),
        "args": {} if args is None else args,
        "options": given,
    }
