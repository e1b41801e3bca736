"""The Python client: submit, read, wait for and cancel runs of one pool.

In a caller's program it calls the HTTP API and signs its requests (`_http`). Inside an action or a
completion handler it calls the same verbs in process and needs no configuration (`_in_process`).
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar
from uuid import uuid4

from workpool import lookup
from workpool._in_process import InProcess, in_a_function
from workpool._verbs import Json, Verbs, encode, through_json
from workpool.core import clock, request
from workpool.core.run import attribute
from workpool.errors import (
    Internal,
    InvalidRequest,
    PayloadTooLarge,
    Throttled,
    WorkpoolError,
    error_of,
)

T = TypeVar("T")
Function = str | Callable[..., Any]

POLL_SECONDS = (0.2, 5.0)
"""`wait` first polls after the first of these times, then after growing times up to the second."""

BATCH = 1000
"""How many runs one request submits at most."""

BATCH_BYTES = 5_000_000
"""How large such a request is at most. API Gateway passes its JSON to Lambda as a string inside
JSON, and Lambda takes 6 MB of that; this counts the bytes of the string."""

STATUSES = 100
"""How many statuses one request reads at most."""

REDRIVEN = 1000
"""How many parked runs one request redrives at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A run as `status` shows it. What does not apply is None. Times are epoch milliseconds."""

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
    `fetch=False`, a large return value is shown as "returnValueUrl", which is valid for 15
    minutes."""
    completion: str | None = None
    """pending, done or parked; None if the run has no `on_complete`."""
    completion_error: str | None = None
    """Why the completion handler will be called again, or why the completion is parked."""
    args: Json = None
    context: Json = None
    attempts: list[dict[str, Json]] | None = None
    """args, context and attempts are None unless `status` was told to include them."""

    @property
    def ended(self) -> bool:
        return self.kind in ("completed", "canceled")

    @property
    def succeeded(self) -> bool:
        return self.result is not None and self.result["type"] == "success"

    def shape(self) -> dict[str, Json]:
        """The status as the API shows it: camelCase, without the fields that do not apply."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {attribute(name): value for name, value in values.items() if value is not None}


class IdempotentWorkpool:
    """A client of one pool, given by its name.

        pool = IdempotentWorkpool("default")
        run_id = pool.run("payments.charge", {"orderId": "o1"}, on_complete="payments.settled")
        print(pool.wait(run_id, timeout=60).result)

    In a caller's program the client finds the deployment by the environment variables
    WORKPOOL_API_URL and WORKPOOL_RUNS_TABLE, else by the SSM parameter /workpool/<stack>, where
    <stack> is `stack`, else WORKPOOL_STACK, else Workpool. It uses the credentials and the region
    of `profile` and `region`, else those that boto3 finds. The two environment variables belong to
    the stack that WORKPOOL_STACK names (default Workpool): the client ignores them if `stack` names
    another one, or if a `profile` is given. Errors are the classes of `workpool.errors`.

    A client may be shared by threads, used on both sides of a fork, and pickled. It honours
    HTTPS_PROXY, NO_PROXY and AWS_CA_BUNDLE as every AWS tool does.
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

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds: without the connections of this process."""
        return {name: value for name, value in vars(self).items() if name != "_own_transport"}

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
        """Submit a run of an action, and return the run id without waiting for the run. `action`
        and `on_complete` are names or decorated functions.

        `run_at` is a datetime or epoch milliseconds; a past time means now. A datetime without a
        time zone is local time, as everywhere in Python. If no `idempotency_key` is given, the
        client sends a random one, so that it can safely repeat the request.
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
            idempotency_key=uuid4().hex if idempotency_key is None else idempotency_key,
            fairness_key=fairness_key,
        )
        return str(self._verbs.submit(self.pool, body)["runId"])

    def run_after(
        self, delay_ms: float, action: Function, args: dict[str, Json] | None = None, **options: Any
    ) -> str:
        """Like `run`, but the run starts `delay_ms` from now, rounded up to a whole second."""
        return self.run(action, args, run_after_ms=delay_ms, **options)

    def run_at(
        self,
        at: float | datetime,
        action: Function,
        args: dict[str, Json] | None = None,
        **options: Any,
    ) -> str:
        """Like `run`, but the run starts at a datetime or at epoch milliseconds, rounded up to a
        whole second."""
        return self.run(action, args, run_at=at, **options)

    def run_once(
        self, action: Function, args: dict[str, Json] | None = None, **options: Any
    ) -> str:
        """Like `run`, without retries: one attempt."""
        return self.run(action, args, max_retries=0, **options)

    def run_once_after(
        self, delay_ms: float, action: Function, args: dict[str, Json] | None = None, **options: Any
    ) -> str:
        """Like `run_after`, without retries."""
        return self.run_after(delay_ms, action, args, max_retries=0, **options)

    def run_once_at(
        self,
        at: float | datetime,
        action: Function,
        args: dict[str, Json] | None = None,
        **options: Any,
    ) -> str:
        """Like `run_at`, without retries."""
        return self.run_at(at, action, args, max_retries=0, **options)

    def run_batch(self, requests: Sequence[dict[str, Json]]) -> list[str | WorkpoolError]:
        """Submit many runs. Each request is a dict as in the API's `runs`: {"action", "args"?,
        "options"?}.

        Returns, in order, the run id of each request or the error that refused it. Errors are
        returned, not raised, because the other runs are submitted all the same. Large batches are
        sent in several requests, and the first is sent when all runs are known to be JSON. What
        refuses all of them, such as UnknownPool, is raised. After Throttled or Internal a run may
        have been submitted nevertheless: to repeat its request safely, give it an
        `idempotencyKey`.
        """
        answers: list[str | WorkpoolError | None] = []
        bodies: list[Json] = []
        for body in requests:
            try:
                bodies.append(through_json(_with_key(body)))
                answers.append(None)
            except WorkpoolError as error:
                answers.append(error)
        sent: list[str | WorkpoolError] = []
        for batch in _batches(bodies):
            try:
                sent += self._submit_batch(batch)
            except WorkpoolError as error:
                if not sent:  # Nothing was submitted: the pool, say, is unknown.
                    raise
                sent += [error] * len(batch)
        results = iter(sent)
        return [next(results) if answer is None else answer for answer in answers]

    def _submit_batch(self, batch: list[Json]) -> list[str | WorkpoolError]:
        """A run id or an error for each request of a batch. If AWS throttles or fails, that is the
        error of each. Raises what refuses the batch as a whole."""
        try:
            return [_run_id_or_error(it) for it in self._verbs.submit_many(self.pool, batch)]
        except PayloadTooLarge as error:
            if len(batch) == 1:
                return [error]
            half = len(batch) // 2
            return self._submit_batch(batch[:half]) + self._submit_batch(batch[half:])
        except (Throttled, Internal) as error:
            return [error] * len(batch)

    def status_batch(
        self, run_ids: Sequence[str], *, fetch: bool = True, timeout: float | None = None
    ) -> list[RunStatus]:
        """The statuses of many runs, in order. With `fetch=False`, return values above 32 KB are
        not fetched but shown as URLs: useful for polling. `timeout` as in `status`."""
        deadline = _deadline(timeout)
        return [
            self._status(shape, fetch=fetch, deadline=deadline)
            for start in range(0, len(run_ids), STATUSES)
            for shape in self._verbs.status_many(
                self.pool, run_ids[start : start + STATUSES], deadline
            )
        ]

    def runs(self, kind: str | None = None, *, fetch: bool = True) -> Iterator[RunStatus]:
        """The pool's open runs, oldest first, or the runs of one kind: enqueued, scheduled, running
        or parked. Parked runs have ended, but their completion handler kept raising. `fetch` is the
        same as in `status_batch`."""
        cursor = None
        while True:
            page = self._verbs.runs(self.pool, kind, cursor)
            yield from (self._status(shape, fetch=fetch) for shape in page["runs"])
            cursor = page.get("cursor")
            if cursor is None:
                return

    def pools(self) -> list[dict[str, Json]]:
        """All pools of the deployment, as they are now: name, maxParallelism, paused, deadLetters,
        and cancelingBefore while `cancel_all` is at work."""
        return list(self._verbs.pools()["pools"])

    def cancel_all(self, *, before: int | None = None) -> None:
        """Start to cancel every run of the pool that is open now. The canceling goes on after this
        call returns.

        Outside the stack "now" is the time of this computer's clock: runs that were submitted since
        are not canceled, also if the request has to be repeated. `before`, in epoch milliseconds,
        is another time: a caller who repeats a call that failed gives the time of the first one.
        """
        self._verbs.cancel_all(self.pool, before)

    def stats(self) -> dict[str, Json]:
        """The pool's statistics: pending, oldestPending, recentExecutions, recentErrorRate,
        recentPermanentFailureRate, recentJobAverageMs, statsWindowMs."""
        return dict(self._verbs.stats(self.pool))

    def log_stats(self) -> dict[str, Json]:
        """Print the statistics as one line of JSON with "event": "stats", and return them."""
        stats = self.stats()
        print(json.dumps({"event": "stats", "pool": self.pool, **stats}), flush=True)
        return stats

    def pause(self) -> dict[str, Json]:
        """Start no more actions; running actions go on. Returns the pool."""
        return dict(self._verbs.change(self.pool, {"paused": True}))

    def resume(self) -> dict[str, Json]:
        """Start actions again. Returns the pool."""
        return dict(self._verbs.change(self.pool, {"paused": False}))

    def scale(self, max_parallelism: int) -> dict[str, Json]:
        """Change maxParallelism until cdk.json's value changes. Running actions go on. Returns the
        pool."""
        return dict(self._verbs.change(self.pool, {"maxParallelism": max_parallelism}))

    def redrive(self, run_ids: Sequence[str] | None = None) -> int:
        """Call the completion handlers of these parked runs again, or of all parked runs. Returns
        how many."""
        if run_ids is not None and len(run_ids) <= REDRIVEN:
            return int(self._verbs.redrive(self.pool, run_ids)["redriving"])
        if run_ids is None:
            # All pages of the list: the index may still list runs that were redriven just now, and
            # a page of those alone is not the end.
            run_ids = [status.run_id for status in self.runs("parked", fetch=False)]
        chunks = (run_ids[it : it + REDRIVEN] for it in range(0, len(run_ids), REDRIVEN))
        return sum(self.redrive(chunk) for chunk in chunks)

    def transact_item(
        self, action: Function, args: dict[str, Json] | None = None, **options: Any
    ) -> tuple[str, dict[str, Any]]:
        """The run id, and an entry for your own TransactWriteItems: the run starts if your
        transaction commits.

        Takes the options of `run`. If the `idempotency_key` was used before, the entry makes the
        transaction fail. Raises UnknownPool for a pool that is not deployed. Outside a function
        each client asks the API for the pools once (`GET /pools`); without the right to that there
        is no check, and a run in an unknown pool never starts. The names of action and completion
        handler are not checked here; with an unknown name the run's attempts fail. The entry
        itself holds arguments and context, so this raises PayloadTooLarge if either is larger than
        125,000 bytes.
        """
        from workpool.aws.store import creation_put

        parsed = request.parse({"pool": self.pool} | _body(action, args, **options))
        parsed.check_fits_item()
        self._verbs.check_pool(self.pool)
        run = parsed.to_run(now_ms=clock.now_ms())
        return run.run_id, {"Put": creation_put(run, table=self._verbs.runs_table)}

    def status(
        self, run_id: str, *, include: Sequence[str] = (), timeout: float | None = None
    ) -> RunStatus:
        """The run's status, with its return value, however large. The kind is `unknown` if the pool
        does not know the id, or no longer knows it.

        `include`: any of args, context and attempts. `attempts` are the last ten, with their
        errors. `timeout`: raise Internal if no answer came within this time, in seconds (but at
        least one second). Without it, four tries of at most 35 seconds are made.
        """
        deadline = _deadline(timeout)
        shape = self._verbs.status(self.pool, run_id, include, deadline)
        return self._status(shape, deadline=deadline)

    def wait(self, run_id: str, timeout: float | None = None) -> RunStatus:
        """Wait until the run has ended, whatever its result, and return its status.

        Raises TimeoutError after `timeout` seconds, and LookupError for an unknown run. All
        requests fit into that time, but for a last look of at most a second. If the API is out of
        reach meanwhile, `wait` goes on. Without a `timeout` it raises Throttled or Internal then.
        """
        status = None
        for status in polls(lambda left: self.status(run_id, timeout=left), timeout):
            if status.ended:
                return status
            if status.kind == "unknown":
                raise LookupError(f"pool {self.pool!r} has no run {run_id!r}")
        assert status is not None
        raise TimeoutError(f"run {run_id} is {status.kind} after {timeout} s")

    def cancel(self, run_id: str) -> RunStatus:
        """Cancel the run, and return its status after that. A running action is not interrupted."""
        return self._status(self._verbs.cancel(self.pool, run_id))

    def _status(
        self, shape: dict[str, Json], *, fetch: bool = True, deadline: float | None = None
    ) -> RunStatus:
        """The RunStatus of a status in JSON, without fields that only a newer deployment knows."""
        result = shape.get("result") or {}
        if fetch and "returnValueUrl" in result:
            value = self._verbs.fetch(result["returnValueUrl"], deadline)
            shape = {**shape, "result": {"type": result["type"], "returnValue": value}}
        names = {attribute(field.name): field.name for field in fields(RunStatus)}
        return RunStatus(**{names[name]: value for name, value in shape.items() if name in names})

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
    """How a client reaches its deployment: in process inside a function, over HTTP elsewhere. Each
    client makes its transport once. `workpool.testing` replaces this function."""
    return client._own_transport


def polls(read: Callable[[float | None], T], timeout: float | None) -> Iterator[T]:
    """Call `read` with the seconds that are left, now and then until `timeout` is over, and yield
    what it returns.

    While AWS throttles or fails, goes on. Raises TimeoutError if that is so at the end. Without a
    `timeout` there is no end: raises Throttled or Internal then.
    """
    deadline = _deadline(timeout)
    pause, longest = POLL_SECONDS
    while True:
        trouble = None
        left = None if deadline is None else max(0.0, deadline - clock.monotonic())
        try:
            yield read(left)
        except (Throttled, Internal) as error:
            if deadline is None:
                raise
            trouble = error
        left = longest if deadline is None else deadline - clock.monotonic()
        if left <= 0:
            if trouble is not None:
                raise TimeoutError(f"no answer after {timeout} s: {trouble}") from trouble
            return
        clock.sleep(min(pause, left))
        pause = min(pause * 1.5, longest)


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else clock.monotonic() + timeout


def _run_id_or_error(result: Json) -> str | WorkpoolError:
    """The run id in one of a batch's results, or its error, whose code may be of a newer pool."""
    if error := error_of(result):
        return error
    if isinstance(result, dict) and isinstance(result.get("runId"), str):
        return str(result["runId"])
    return WorkpoolError(f"the pool answered {json.dumps(result)[:200]}")


def _with_key(body: Json) -> Json:
    """The request with an idempotency key, so that the client can safely repeat it, and with names
    in place of functions. A request that is not a dict stays as it is: the pool refuses it, and
    accepts the others."""
    if not isinstance(body, dict):
        return body
    keyed = dict(body)
    if callable(body.get("action")):
        keyed["action"] = lookup.name_of(body["action"], "action")
    options = body.get("options", {})
    if isinstance(options, dict):
        keyed["options"] = {"idempotencyKey": uuid4().hex, **options}
        if callable(options.get("onComplete")):
            keyed["options"]["onComplete"] = lookup.name_of(options["onComplete"], "completion")
    return keyed


def _batches(bodies: list[Json]) -> Iterator[list[Json]]:
    """The requests in batches of at most BATCH requests and BATCH_BYTES bytes. A request that is
    larger than that is a batch of its own."""
    batch: list[Json] = []
    total = 0
    for body in bodies:
        size = len(json.dumps(encode(body).decode(), ensure_ascii=False).encode())
        if batch and (len(batch) == BATCH or total + size > BATCH_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(body)
        total += size
    if batch:
        yield batch


def _body(action: Function, args: dict[str, Json] | None, **options: Any) -> dict[str, Json]:
    """The JSON of a request. Options that are None are left out. Raises InvalidRequest for what is
    not JSON."""
    at = options.get("run_at")
    if isinstance(at, datetime):
        options["run_at"] = _epoch_ms(at)
    if options.get("on_complete") is not None:
        options["on_complete"] = lookup.name_of(options["on_complete"], "completion")
    given = {attribute(name): value for name, value in options.items() if value is not None}
    body = {"action": lookup.name_of(action, "action"), "args": {} if args is None else args}
    return dict(through_json({**body, "options": given}))


def _epoch_ms(at: datetime) -> int:
    """The epoch milliseconds of a datetime, or 0 for a time long past. Raises InvalidRequest for a
    local time at the ends of the calendar, which has no time in UTC."""
    try:
        ms = round(at.timestamp() * 1000)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidRequest(
            f"options.runAt must be at most 364 days ahead, got {at.isoformat()}: {error}"
        ) from error
    return ms if ms >= request.LEAST_RUN_AT_MS else 0
