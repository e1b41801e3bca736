"""The runs table: the only module that writes it, with one function per transition of a run.

Each transition is one conditional write. If the answer to a write is lost, the SDK repeats the
write, and the condition refuses it because the first one succeeded. So each refusal is checked
against the item as it is now: if the item shows this very write, the write succeeded. Otherwise
`Refused` carries the run as it is now, and the caller decides again. Nothing here decides what
should happen to a run.
"""

import re
from collections.abc import Callable, Sequence
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, ParamValidationError

from workpool.aws import clients
from workpool.aws.environment import environment
from workpool.core import clock
from workpool.core.retry import Finish, Reschedule
from workpool.core.run import Payload, Run, attribute, encode, open_partition

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodb.type_defs import UpdateTypeDef


class Refused(Exception):
    """A transition's condition did not hold. `run` is the run as it is now, None if there is
    none."""

    def __init__(self, run: Run | None) -> None:
        super().__init__(run)
        self.run = run


class HandlerWritesRefused(Exception):
    """DynamoDB refused the transaction for the writes that a completion handler returned."""


MARK_SECONDS = 5
"""How long one call that marks a completion as done may take. Its caller repeats it."""

CONFLICT_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds between the repetitions of a write that met a transaction."""

_OWN_REASONS = frozenset(
    {
        "ConditionalCheckFailed",
        "DuplicateItem",
        "ItemCollectionSizeLimitExceeded",
        "ValidationError",  # for example an item that becomes too large
    }
)
"""Why DynamoDB cancels a transaction because of one of its writes. The other reasons are None,
TransactionConflict, ProvisionedThroughputExceeded, ThrottlingError and AccessDenied."""

_OWN_CODES = frozenset(
    {
        "ItemCollectionSizeLimitExceededException",
        "RequestEntityTooLarge",
        "RequestEntityTooLargeException",
        "ResourceNotFoundException",  # The runs table exists: the lease was written to it.
        "SerializationException",
        "ValidationException",
    }
)
"""How DynamoDB refuses a whole transaction because of what it holds. Every other code is a trouble
of AWS, or of its configuration, that may pass."""


def read(key: str) -> Run | None:
    """The run, read consistently. None if it does not exist or is expired."""
    answer = clients.client("dynamodb").get_item(
        TableName=environment().runs_table, Key={"run": {"S": key}}, ConsistentRead=True
    )
    run = Run.from_item(answer["Item"]) if "Item" in answer else None
    return None if run is None or run.expired(clock.now_ms()) else run


def creation_put(run: Run, *, table: str) -> dict[str, Any]:
    """The put that creates a run where there is none, or where there is an expired one that is not
    deleted yet.

    Also the entry for a caller's own TransactWriteItems.
    """
    return {
        "TableName": table,
        "Item": run.to_item(),
        "ConditionExpression": "attribute_not_exists(#run) OR #expiresAt <= :now",
        "ExpressionAttributeNames": {"#run": "run", "#expiresAt": "expiresAt"},
        "ExpressionAttributeValues": {":now": encode(clock.now_ms() // 1000)},
    }


def create(run: Run) -> Run:
    """No run, or an expired one -> enqueued or scheduled. The commit point of a submit.

    Returns the run that the table now holds: this one, or the one that the same idempotency key
    created before (the caller compares `request` and `creation`).
    """
    try:
        _after_conflicts(
            clients.client("dynamodb").put_item,
            **creation_put(run, table=environment().runs_table),
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    except ClientError as error:
        stored = _run_that_refused(error)
        if stored is None:
            raise Refused(None) from error
        return stored
    return run


def claim(run: Run, *, claim: str, lease: int) -> Run:
    """Enqueued or scheduled -> running, if the run is still at this due and has not ended."""
    return _transition(
        run.key,
        {"kind": "running", "claim": claim, "lease": lease, "started_at": clock.now_ms()},
        condition="#kind IN (:enqueued, :scheduled) AND #due = :due",
        values={"enqueued": "enqueued", "scheduled": "scheduled", "due": run.due},
        mine=lambda now: now.claim == claim and now.kind == "running",
    )


def finish(
    run: Run,
    finish: Finish,
    *,
    finished_at: int,
    expires_at: int,
    execution: str | None = None,
    attempts: str | None = None,
) -> Run:
    """Running -> completed or canceled, by the holder of this claim or by whoever declares it lost.

    A success wins over a request to cancel; a failure is written only if there is no such request.
    `execution` is the Retrier execution that will be answered.
    """
    canceled = finish.result == "canceled"
    value = finish.return_value or Payload()
    guard = " AND attribute_not_exists(#cancelRequested)" if finish.result == "failed" else ""
    return _transition(
        run.key,
        {
            "kind": "canceled" if canceled else "completed",
            "result": finish.result,
            **value.stored_fields("return_value"),
            "large": "yes" if value.at is not None else None,
            "error": finish.error,
            "finished_at": finished_at,
            "execution": execution,
            "attempts": attempts,
            **_completion_or_expiry(run, expires_at),
        },
        remove=("lease", *_execution_to_remove(execution), *_open_to_remove(run)),
        condition="#kind = :running AND #claim = :was" + guard,
        values={"running": "running", "was": run.claim},
        mine=lambda now: (
            now.ended
            and (now.claim, now.result, now.finished_at) == (run.claim, finish.result, finished_at)
            and (now.return_value, now.error) == (finish.return_value, finish.error)
        ),
    )


def reschedule(
    run: Run, to: Reschedule, *, execution: str | None, attempts: str | None = None
) -> Run:
    """Running -> scheduled, with one retry more and a later due, if the run still has this claim
    and nobody asked to cancel it.

    `execution` is the Retrier execution that will be answered and then sends the next attempt.
    None: the relay starts an execution.
    """
    retries = run.retries + 1
    return _transition(
        run.key,
        {
            "kind": "scheduled",
            "retries": retries,
            "due": to.due,
            "execution": execution,
            "attempts": attempts,
        },
        remove=("lease", *_execution_to_remove(execution)),
        condition="#kind = :running AND #claim = :was AND attribute_not_exists(#cancelRequested)",
        values={"running": "running", "was": run.claim},
        mine=lambda now: (
            (now.kind, now.claim, now.retries, now.due, now.execution)
            == ("scheduled", run.claim, retries, to.due, execution)
        ),
    )


def cancel(run: Run, *, finished_at: int, expires_at: int) -> Run:
    """Enqueued or scheduled -> canceled, at once, if it is the same run and nobody claimed it."""
    return _transition(
        run.key,
        {
            "kind": "canceled",
            "result": "canceled",
            "finished_at": finished_at,
            **_completion_or_expiry(run, expires_at),
        },
        remove=_open_to_remove(run),
        condition="#kind IN (:enqueued, :scheduled) AND #enqueuedAt = :enqueuedAt",
        values={
            "enqueued": "enqueued",
            "scheduled": "scheduled",
            "enqueuedAt": run.enqueued_at,
        },
        mine=lambda now: now.kind == "canceled" and now.finished_at == finished_at,
    )


def ask_to_cancel(run: Run) -> Run:
    """Running -> running, with the request to cancel, if it is still the attempt that was seen."""
    return _transition(
        run.key,
        {"cancel_requested": True},
        condition="#kind = :running AND #claim = :was",
        values={"running": "running", "was": run.claim},
        mine=lambda now: now.kind == "running" and now.cancel_requested,
    )


def lease_completion(run: Run, *, claim: str, now_ms: int, lease: int) -> Run:
    """Ended, completion pending -> the same, leased to one handler call and with one try more, if
    no other call holds the lease."""
    return _transition(
        run.key,
        {"completion_claim": claim, "completion_lease": lease},
        count="completion_tries",  # Added, not set: there may be other tries since `run` was read.
        condition=(
            "#completion = :pending AND (attribute_not_exists(#completionLease)"
            " OR #completionLease <= :now)"
        ),
        values={"pending": "pending", "now": now_ms},
        mine=lambda now: now.completion == "pending" and now.completion_claim == claim,
    )


def complete(run: Run, *, expires_at: int, writes: Sequence[Any]) -> Run:
    """Completion pending -> done, in one transaction with the handler's own writes, by the holder
    of this lease.

    Raises HandlerWritesRefused if DynamoDB refused the handler's writes for their own sake. Raises
    AWSError for every other reason: then the same call may be made again. The SDK does not repeat
    it. DynamoDB takes a repeated transaction for the first one, by its token.
    """
    client = clients.without_retries("dynamodb", MARK_SECONDS)
    update = _update(
        run.key,
        {"completion": "done", "expires_at": expires_at},
        remove=("completion_lease", "completion_error", "open"),
        condition=_HOLDS_COMPLETION,
        values=_holder(run),
    )
    mine = _wrote_completion(run, "done")
    if not writes:
        return _write(update, mine, client)
    try:
        client.transact_write_items(
            TransactItems=[
                *writes,
                {"Update": update | {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}},
            ],
            ClientRequestToken=run.completion_claim or "",
        )
    except ParamValidationError as error:
        raise HandlerWritesRefused(str(error)) from error
    except ClientError as error:
        reasons = error.response.get("CancellationReasons", [])
        if reasons and reasons[-1]["Code"] == "ConditionalCheckFailed":
            return _own_write(_run_in(reasons[-1].get("Item")), mine, error)
        codes = {reason["Code"] for reason in reasons}
        if codes & _OWN_REASONS or error.response["Error"]["Code"] in _OWN_CODES:
            raise HandlerWritesRefused(str(error)) from error
        raise
    return run


def return_try(run: Run, *, at_ms: int) -> Run:
    """Completion pending -> pending, with one try less, by the holder of this lease: its call does
    not count. It keeps the lease until `at_ms`, when the next call is due."""
    tries = run.completion_tries - 1
    return _transition(
        run.key,
        {"completion_lease": at_ms, "completion_tries": tries},
        condition=_HOLDS_COMPLETION,
        values=_holder(run),
        mine=lambda now: (
            (now.completion_claim, now.completion_lease, now.completion_tries)
            == (run.completion_claim, at_ms, tries)
        ),
    )


def retry_completion(run: Run, *, at_ms: int, error: str) -> Run:
    """Completion pending -> pending, by the holder of this lease. It keeps the lease until the next
    try is due, so that no other call is made before."""
    return _transition(
        run.key,
        {"completion_lease": at_ms, "completion_error": error},
        condition=_HOLDS_COMPLETION,
        values=_holder(run),
        mine=lambda now: (
            (now.completion_claim, now.completion_lease, now.completion_error)
            == (run.completion_claim, at_ms, error)
        ),
    )


def park_completion(run: Run, *, error: str) -> Run:
    """Completion pending -> parked, by the holder of this lease. The run has no expiry: it stays
    until a person looks at it."""
    return _transition(
        run.key,
        {
            "completion": "parked",
            "completion_error": error,
            "open": open_partition(run.pool, run.run_id, parked=True),
        },
        remove=("completion_lease",),
        condition=_HOLDS_COMPLETION,
        values=_holder(run),
        mine=_wrote_completion(run, "parked"),
    )


def redrive_completion(run: Run) -> Run:
    """Completion parked -> pending, with no tries yet, if it is still parked by the same call."""
    return _transition(
        run.key,
        {
            "completion": "pending",
            "open": open_partition(run.pool, run.run_id),
            "completion_lease": clock.now_ms(),  # The sweeper counts the wait for a hint from here.
        },
        remove=("completion_tries", "completion_error"),
        condition="#completion = :parked AND #completionClaim = :by",
        values={"parked": "parked", "by": run.completion_claim},
        mine=lambda now: now.completion == "pending" and now.completion_tries == 0,
    )


def note_hint(run: Run, *, now_ms: int, hints: int) -> Run:
    """Any state that waits -> the same, with the note that its hint is repeated now: nothing has
    changed since the run was read, so that only one of two sweepers repeats the hint."""
    seen = "attribute_not_exists(#hintedAt)" if run.hinted_at is None else "#hintedAt = :seen"
    return _transition(
        run.key,
        {"hints": hints, "hinted_at": now_ms},
        condition=f"#kind = :kind AND #due = :due AND {seen}",
        values={"kind": run.kind, "due": run.due}
        | ({} if run.hinted_at is None else {"seen": run.hinted_at}),
        # We cannot tell our note from another sweeper's, so assume that it is theirs: skipping one
        # repeat only costs time.
        mine=lambda now: False,
    )


_HOLDS_COMPLETION = "#completion = :pending AND #completionClaim = :holder"


def _holder(run: Run) -> dict[str, Any]:
    return {"pending": "pending", "holder": run.completion_claim}


def _wrote_completion(run: Run, completion: str) -> Callable[[Run], bool]:
    return lambda now: (now.completion, now.completion_claim) == (completion, run.completion_claim)


def _completion_or_expiry(run: Run, expires_at: int) -> dict[str, Any]:
    """What an ended run waits for: its completion, or its expiry if it has no completion."""
    return {"completion": "pending"} if run.on_complete else {"expires_at": expires_at}


def _execution_to_remove(execution: str | None) -> tuple[str, ...]:
    """If no execution will be answered, the item must not go on naming an earlier one."""
    return ("execution",) if execution is None else ()


def _open_to_remove(run: Run) -> tuple[str, ...]:
    """If nothing is left to do for an ended run, it leaves the index of open runs."""
    return () if run.on_complete else ("open",)


def _transition(
    key: str,
    changes: dict[str, Any],
    *,
    remove: Sequence[str] = (),
    count: str | None = None,
    condition: str,
    values: dict[str, Any],
    mine: Callable[[Run], bool],
) -> Run:
    update = _update(key, changes, remove=remove, count=count, condition=condition, values=values)
    return _write(update, mine)


def _write(update: Any, mine: Callable[[Run], bool], client: "DynamoDBClient | None" = None) -> Run:
    # `Any`: mypy refuses to add a parameter that UpdateTypeDef also has.
    try:
        answer = _after_conflicts(
            (client or clients.client("dynamodb")).update_item,
            **update,
            ReturnValues="ALL_NEW",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    except ClientError as error:
        return _own_write(_run_that_refused(error), mine, error)
    return Run.from_item(answer["Attributes"])


def _after_conflicts(write: Callable[..., Any], **parameters: Any) -> Any:
    """Make a write. Repeat it while its item is part of a running transaction, for example of one
    that a caller puts the same run with: DynamoDB refuses it then, and the SDK does not repeat
    it."""
    for pause in CONFLICT_PAUSES:
        try:
            return write(**parameters)
        except ClientError as error:
            if error.response["Error"]["Code"] != "TransactionConflictException":
                raise
        clock.sleep(SystemRandom().uniform(0.5, 1.5) * pause)
    return write(**parameters)


def _update(
    key: str,
    changes: dict[str, Any],
    *,
    remove: Sequence[str] = (),
    count: str | None = None,
    condition: str,
    values: dict[str, Any],
) -> "UpdateTypeDef":
    """An UpdateItem. `changes` are new values by field (None: the field stays as it is), `count` is
    the field to increase by one, and `values` are those of the condition."""
    sets = {attribute(field): value for field, value in changes.items() if value is not None}
    removes = [attribute(field) for field in remove]
    used = {*re.findall(r"#(\w+)", condition), *sets, *removes}
    expression = "SET " + ", ".join(f"#{name} = :to_{name}" for name in sets)
    if removes:
        expression += " REMOVE " + ", ".join(f"#{name}" for name in removes)
    if count is not None:
        used |= {attribute(count)}
        values = {**values, "one": 1}
        expression += f" ADD #{attribute(count)} :one"
    return {
        "TableName": environment().runs_table,
        "Key": {"run": {"S": key}},
        "UpdateExpression": expression,
        "ConditionExpression": condition,
        "ExpressionAttributeNames": {f"#{name}": name for name in sorted(used)},
        "ExpressionAttributeValues": {
            **{f":to_{name}": encode(value) for name, value in sets.items()},
            **{f":{name}": encode(value) for name, value in values.items()},
        },
    }


def _run_that_refused(error: ClientError) -> Run | None:
    """The run that did not meet a write's condition. Raises any other error again."""
    if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
        raise error
    return _run_in(error.response.get("Item"))


def _run_in(item: Any) -> Run | None:  # `Any`: botocore's types lack the item of a refusal.
    return Run.from_item(item) if item else None


def _own_write(stored: Run | None, mine: Callable[[Run], bool], error: ClientError) -> Run:
    """The run, if it shows that this very write succeeded before. Raises Refused if not."""
    if stored is not None and mine(stored):
        return stored
    raise Refused(stored) from error
