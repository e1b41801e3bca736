"""A run as the runs table stores it: its fields, its states and its item.

Pure: no clock, no I/O. `store` writes these items; the relay reads them from the table's stream.
"""

from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any, Literal, Self

from workpool.errors import UnknownShape

VERSION = 1
"""The version of everything that may outlive a release: items, messages, inputs of executions,
events."""

OPEN_SHARDS = 16
"""How many partitions a pool has in the index of open runs. One takes about 500 runs a second."""

YEAR_10000_MS = 253_402_300_800_000

Kind = Literal["enqueued", "scheduled", "running", "completed", "canceled"]
Result = Literal["success", "failed", "canceled"]
Completion = Literal["pending", "done", "parked"]
Item = dict[str, Any]
"""In DynamoDB's low-level form: each value is a dict of its type's name and the value."""


@dataclass(frozen=True, slots=True)
class Payload:
    """JSON that belongs to a run: the text itself, or the object that holds it because the item has
    no room."""

    text: str | None = None
    at: str | None = None
    """Name of the object."""
    size: int | None = None
    """Bytes of the object, where a reader must know them before it reads the object."""

    def stored_fields(self, name: str) -> dict[str, Any]:
        """The fields that a payload of this name has in the item. None: the item leaves it out."""
        return {name: self.text, f"{name}_at": self.at, f"{name}_bytes": self.size}


def run_key(pool: str, run_id: str) -> str:
    """The table's key. The pool comes first, so that IAM can limit a caller to one pool."""
    return f"{pool}#{run_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One item of the runs table. Times are epoch milliseconds, `expires_at` epoch seconds.

    | Fields | Written by |
    |---|---|
    | pool to open | create; `open` leaves when nothing is left to do for the run |
    | large | create, finish |
    | due, retries, execution | reschedule |
    | claim, lease, started_at | claim; the claim stays, so that a lost attempt cannot write later |
    | cancel_requested | ask to cancel |
    | result to finished_at | finish, cancel |
    | attempts | reschedule, finish |
    | completion to completion_error | finish, cancel, then the completion's own writes |
    | hints, hinted_at | the sweeper |
    | expires_at | whoever leaves nothing to do |
    """

    pool: str
    run_id: str
    v: int = VERSION
    kind: Kind
    action: str
    args: Payload
    enqueued_at: int
    due: int
    """Identifies the attempt in messages: enqueuedAt, the start time or nextRun. It is compared for
    equality. Each attempt has a later due than the attempt before."""
    retries: int = 0
    initial_backoff_ms: float | None = None
    """None: the pool's value applies. The same is true of `base` and `max_retries`."""
    base: float | None = None
    max_retries: int | None = None
    on_complete: str | None = None
    context: Payload | None = None
    annotation: str | None = None
    fairness_key: str | None = None
    trace: str | None = None
    """The X-Ray header of the run's submit, if tracing is on."""
    request: str | None = None
    """Hash of the request, only if the request had an idempotency key."""
    creation: str | None = None
    """Random, set together with `request`: after a lost answer, a submit knows its put by it."""
    open: str | None = None
    """The run's partition in the index of open runs."""
    large: Literal["yes"] | None = None
    """Whether the run names objects. The relay learns of the removal of a run only if this is set.
    It is a string, since Lambda documents its stream filters for strings."""
    execution: str | None = None
    """Name of the Retrier execution that sent the last attempt, gets its answer, and sends the next
    attempt."""
    claim: str | None = None
    lease: int | None = None
    cancel_requested: bool = False
    result: Result | None = None
    return_value: Payload | None = None
    error: str | None = None
    finished_at: int | None = None
    completion: Completion | None = None
    completion_claim: str | None = None
    completion_lease: int | None = None
    completion_tries: int = 0
    completion_error: str | None = None
    started_at: int | None = None
    """When the current or last attempt was claimed."""
    attempts: str | None = None
    """JSON of the last attempts, oldest first:
    {"retries", "startedAt", "ms", "ended", "error"?}."""
    hints: int = 0
    """How often the sweeper has repeated the hint that the run waits for now."""
    hinted_at: int | None = None
    expires_at: int | None = None

    @property
    def key(self) -> str:
        return run_key(self.pool, self.run_id)

    @property
    def ended(self) -> bool:
        return self.kind in ("completed", "canceled")

    def expired(self, now_ms: int) -> bool:
        """Whether the run counts as absent, even if DynamoDB has not deleted it yet."""
        return self.expires_at is not None and self.expires_at * 1000 <= now_ms

    @property
    def waits_since(self) -> int | None:
        """The time from which on the run waits for a hint; None if it waits for none."""
        if self.kind == "running":
            return self.lease
        if not self.ended:
            return self.due
        if self.completion != "pending":
            return None
        return max(self.finished_at or 0, self.completion_lease or 0)

    @property
    def timed(self) -> bool:
        """Whether a Retrier execution waits for the current due."""
        return self.due != self.enqueued_at

    @property
    def objects(self) -> list[str]:
        """Names of the objects that hold the run's large payloads."""
        payloads = (self.args, self.context, self.return_value)
        return [payload.at for payload in payloads if payload and payload.at is not None]

    def reported_result(self) -> dict[str, Any]:
        """The `result` that statuses and completion handlers show, without the return value."""
        if self.result == "success":
            return {"type": "success"}
        if self.result == "failed":
            return {"type": "failed", "error": self.error}
        return {"type": "canceled"}

    def execution_name(self) -> str:
        """The name of the execution that waits for this due: the one that sent the last attempt and
        goes on, or else a new one. The new name is derived from the run, so that starting it twice
        is harmless. It holds the creation time, since an idempotency key may be used again."""
        return self.execution or f"{self.run_id}-{self.enqueued_at}-{self.retries}"

    def to_item(self) -> Item:
        """The item, in DynamoDB's low-level form. A field at its default value is left out."""
        item: Item = {"run": {"S": self.key}}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Payload):
                for name, part in value.stored_fields(field.name).items():
                    if part is not None:
                        item[attribute(name)] = encode(part)
            elif field.name not in _IN_KEY and (value != field.default or field.name in _ALWAYS):
                item[attribute(field.name)] = encode(value)
        return item

    @classmethod
    def from_item(cls, item: Item) -> Self:
        """The run in an item. Raises UnknownShape unless this version or an older one wrote it."""
        version = decode(item.get("v", {"N": "0"}))
        if not isinstance(version, int) or not 1 <= version <= VERSION:
            raise UnknownShape(f"an item of version {version!r}; this code reads up to {VERSION}")
        pool, separator, run_id = item["run"]["S"].partition("#")
        values: dict[str, Any] = {"pool": pool, "run_id": run_id}
        for field in fields(cls):
            stored = item.get(attribute(field.name))
            if field.name in _PAYLOADS:
                values[field.name] = _stored_payload(item, field.name)
            elif field.name not in _IN_KEY and stored is not None:
                values[field.name] = decode(stored)
        for name, expected in _REQUIRED.items():
            if not isinstance(values.get(name), expected):
                raise UnknownShape(f"an item whose {attribute(name)} is {values.get(name)!r}")
        args = values["args"]
        if args is None or not isinstance(args.text if args.at is None else args.at, str):
            raise UnknownShape(f"an item whose args is {args and args.text!r}")
        if not 0 <= values["due"] < YEAR_10000_MS:
            raise UnknownShape(f"an item whose due is not between 1970 and 9999: {values['due']}")
        if not separator:
            raise UnknownShape(f"an item whose key names no pool: {pool!r}")
        return cls(**values)


_IN_KEY = frozenset({"pool", "run_id"})
_ALWAYS = frozenset({"v", "retries"})
_PAYLOADS = frozenset({"args", "context", "return_value"})
_REQUIRED = {"kind": str, "action": str, "enqueued_at": int, "due": int}


def _stored_payload(item: Item, name: str) -> Payload | None:
    stored = (item.get(attribute(field)) for field in Payload().stored_fields(name))
    text, at, size = (None if value is None else decode(value) for value in stored)
    return None if text is None and at is None else Payload(text, at, size)


def attribute(field: str) -> str:
    """The item's attribute for a field: camelCase, like all names outside of Python."""
    head, *rest = field.split("_")
    return head + "".join(word.capitalize() for word in rest)


def encode(value: str | int | float | bool) -> dict[str, Any]:
    """A value in DynamoDB's low-level form. Items hold strings, numbers and booleans only."""
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": value}
    return {"N": repr(value)}


def decode(stored: dict[str, Any]) -> Any:
    """The value that DynamoDB's low-level form stands for."""
    if "N" in stored:
        number = float(stored["N"])
        return int(number) if number.is_integer() else number
    return stored.get("S", stored.get("BOOL"))


def open_partition(pool: str, run_id: str, *, parked: bool = False) -> str:
    """The partition of the open index that lists the run while it is open. Parked runs have
    partitions of their own: they may stay for long, and would be in the way of other runs."""
    shard = int(sha256(run_id.encode()).hexdigest()[:4], 16) % OPEN_SHARDS
    return open_partitions(pool, parked=parked)[shard]


def open_partitions(pool: str, *, parked: bool = False) -> list[str]:
    """All of a pool's partitions of the open index."""
    return [f"{pool}#{'parked#' if parked else ''}{shard}" for shard in range(OPEN_SHARDS)]
