"""A run as the runs table stores it: its fields, its states and its item.

Pure: no clock, no I/O. `store` writes these items; the relay reads them from the table's stream.
"""

import re
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any, Literal, Self, get_args

from workpool.core.item import Rule, attempts, flag, integer, number, pattern, text, word
from workpool.errors import UnknownShape

VERSION = 1
"""The version of everything that may outlive a release: items, messages, inputs of executions,
events."""

OPEN_SHARDS = 16
"""How many partitions a pool has in the index of open runs. One takes about 500 runs a second."""

YEAR_10000_MS = 253_402_300_800_000

POOL = "[a-z][a-z0-9-]{0,31}"
RUN_ID = "[0-9A-Za-z_-]{1,59}"
"""Patterns. With the longest run id, the name of an execution has the 80 characters that Step
Functions allows."""
KEY = "[!-~]{1,128}"
"""What SQS accepts as the id of a message group."""

MAX_BACKOFF_MS = 30 * 24 * 3600 * 1000
"""30 days. No backoff is longer, whatever the options say."""

MAX_RETRIES = 1000
"""A retry takes about 8 of the 25,000 events that one execution may have."""

MAX_ANNOTATION, MAX_NAME, MAX_ERROR = 1000, 256, 4096
"""How many characters an annotation, the name of a function and an error's text may have."""

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


def split_key(key: object) -> tuple[str, str]:
    """The pool and the run id in a key of the table. Raises UnknownShape for any other value."""
    match = _RUN_KEY.fullmatch(key) if isinstance(key, str) else None
    if match is None:
        raise UnknownShape("not the key of a run: <pool>#<run id>")
    pool, run_id = match.groups()
    return pool, run_id


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
        """The run in an item. Raises UnknownShape unless this version or an older one may have
        written it. Attributes that this version does not know are left alone.

        This is the one strict reading: whatever it returns may be counted, shown, looked at and
        written again without another check. It does not parse arguments, context and return value,
        which may be large: whoever reads them does.
        """
        values = _read_attributes(item)
        values["pool"], values["run_id"] = split_key(item["run"]["S"])
        for name in _PAYLOADS:
            payload = _stored_payload(values, name)
            if payload is not None:
                values[name] = payload
        for name in _REQUIRED:
            if name not in values:
                raise UnknownShape(f"an item without {attribute(name)}")
        run = cls(**values)
        mistake = _mistake(run)
        if mistake is not None:
            raise UnknownShape(f"an item that {mistake}")
        return run


_IN_KEY = frozenset({"pool", "run_id"})
_ALWAYS = frozenset({"v", "retries"})
_PAYLOADS = ("args", "context", "return_value")
_REQUIRED = ("kind", "action", "enqueued_at", "due", "args")


def _read_attributes(item: Item) -> dict[str, Any]:
    """The values of the attributes that this version knows, by field."""
    values: dict[str, Any] = {}
    try:
        values["v"] = int(item["v"]["N"])
    except (KeyError, ValueError, TypeError) as error:
        raise UnknownShape("an item without a version") from error
    if not 1 <= values["v"] <= VERSION:
        raise UnknownShape(f"an item of version {values['v']}; this code reads up to {VERSION}")
    for name, stored in item.items():
        known = _BY_ATTRIBUTE.get(name)
        if known is None:
            continue
        field, rule = known
        try:
            values[field] = rule.read(stored)
        except (KeyError, ValueError, TypeError) as error:
            raise UnknownShape(f"an item whose {name} is not {rule.allowed}") from error
    return values


def _stored_payload(values: dict[str, Any], name: str) -> Payload | None:
    """The payload of this name. Takes its parts out of the values."""
    text, at = values.pop(name, None), values.pop(f"{name}_at", None)
    size = values.pop(f"{name}_bytes", None)
    if text is not None and at is not None:
        raise UnknownShape(f"an item whose {attribute(name)} is both in it and in an object")
    return None if text is None and at is None else Payload(text, at, size)


def _mistake(run: Run) -> str | None:
    """What the fields of a run say that no transition writes; None if they fit together."""
    prefix = f"{run.pool}/{run.run_id}/"
    if not all(_is_file_in(prefix, name) for name in run.objects):
        return "names an object of another run"
    if run.execution is not None and not names_execution(run.run_id, run.execution):
        return "names an execution of another run"
    if run.open is not None:
        pool, _, partition = run.open.partition("#")
        if pool != run.pool or partition not in _PARTITIONS:
            return "is in a partition of another pool"
    if run.kind == "running" and (run.claim is None or run.lease is None):
        return "is running without a claim and its lease"
    if run.completion is not None and not (run.ended and run.on_complete is not None):
        return "has a completion before its end, or without a handler"
    if run.completion == "parked" and run.completion_claim is None:
        return "is parked by nobody"
    return None


def _is_file_in(prefix: str, name: str) -> bool:
    return name.startswith(prefix) and _FILE.fullmatch(name, len(prefix)) is not None


def names_execution(run_id: str, execution: str) -> bool:
    """Whether an execution of this name is one of the run: see `Run.execution_name`."""
    prefix = f"{run_id}-"
    return execution.startswith(prefix) and _TIMER.fullmatch(execution, len(prefix)) is not None


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


_RUN_KEY = re.compile(f"({POOL})#({RUN_ID})")
_FILE = re.compile("[0-9A-Za-z_-]{1,128}")
_TIMER = re.compile(r"[0-9]{1,15}-[0-9]{1,4}")
_PARTITIONS = frozenset(
    partition.partition("#")[2]
    for parked in (False, True)
    for partition in open_partitions("", parked=parked)
)

_MANY = 100_000
"""A bound for what is only counted, and doubled: above every number that is ever reached."""

_TIME = integer(0, YEAR_10000_MS - 1)
_COUNT = integer(0, _MANY)
_RANDOM = text(128, least=1)
_NAME = text(MAX_NAME)
_ERROR = text(MAX_ERROR)
_JSON = text(400_000)
_OBJECT = text(1024, least=1)
_BYTES = integer(0, 10**9)

_RULES: dict[str, Rule] = {
    "kind": word(get_args(Kind)),
    "action": _NAME,
    "args": _JSON,
    "args_at": _OBJECT,
    "args_bytes": _BYTES,
    "enqueued_at": _TIME,
    "due": _TIME,
    "retries": integer(0, MAX_RETRIES),
    "initial_backoff_ms": number(25, 2 * MAX_BACKOFF_MS),
    "base": number(1, MAX_BACKOFF_MS),
    "max_retries": integer(0, MAX_RETRIES),
    "on_complete": _NAME,
    "context": _JSON,
    "context_at": _OBJECT,
    "context_bytes": _BYTES,
    "annotation": text(MAX_ANNOTATION),
    "fairness_key": pattern(KEY, "1 to 128 ASCII letters, digits or punctuation marks"),
    "trace": pattern("[!-~]{1,256}", "a trace header"),
    "request": _RANDOM,
    "creation": _RANDOM,
    "open": text(64, least=1),
    "large": word(["yes"]),
    "execution": text(80, least=1),
    "claim": _RANDOM,
    "lease": _TIME,
    "cancel_requested": flag(),
    "result": word(get_args(Result)),
    "return_value": _JSON,
    "return_value_at": _OBJECT,
    "return_value_bytes": _BYTES,
    "error": _ERROR,
    "finished_at": _TIME,
    "completion": word(get_args(Completion)),
    "completion_claim": _RANDOM,
    "completion_lease": _TIME,
    # A repeated write may give a try back after a redrive has begun to count anew: below 0.
    "completion_tries": integer(-_MANY, _MANY),
    "completion_error": _ERROR,
    "started_at": _TIME,
    "attempts": attempts(20_000),
    "hints": _COUNT,
    "hinted_at": _TIME,
    "expires_at": _TIME,
}
_BY_ATTRIBUTE = {attribute(field): (field, rule) for field, rule in _RULES.items()}
