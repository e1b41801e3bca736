"""A request to submit a run: its fields, their bounds and the run that it asks for. Pure.

The bounds are the original component's, or AWS's where AWS stores the value. An error message names
the field, the bound and the value that was given.
"""

import json
import math
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import uuid4

from workpool.core.clock import ceil_to_second
from workpool.core.run import (
    KEY,
    MAX_ANNOTATION,
    MAX_BACKOFF_MS,
    MAX_NAME,
    MAX_RETRIES,
    POOL,
    RUN_ID,
    Payload,
    Run,
    open_partition,
)
from workpool.errors import InvalidRequest, PayloadTooLarge

MAX_AHEAD_MS = 364 * 24 * 3600 * 1000
"""How far ahead a run may start: the execution that waits for the start lives one year at most."""

MAX_PAYLOAD_BYTES = 1_000_000
"""The limit for arguments and for context, each as JSON."""

MAX_ITEM_PAYLOAD_BYTES = 125_000
"""The same limit in an entry of a caller's own transaction. There both stay in the item, which may
have 400 KB."""

MAX_RESULT_BYTES = 16_000_000
"""The limit for a return value, as JSON."""

MAX_BODY_BYTES = 6_000_000
"""Lambda takes at most 6 MB in one request."""

MAX_DEPTH = 200
"""How deep arrays and objects may be nested in arguments, context and return value. Python's parser
gives up far deeper; where exactly depends on Python's version and on the caller."""

LEAST_RUN_AT_MS = 10**11
"""An earlier time than this, which is in 1973, is meant in seconds: in milliseconds it is long
past, and the run would start at once. 0 stands for any time in the past."""

MAX_SKEW_MS = 5 * 60 * 1000
"""How far a caller's clock may be ahead: AWS accepts the signatures of such a clock."""

FIELDS = frozenset({"pool", "action", "args", "options"})
OPTIONS = frozenset(
    {
        "initialBackoffMs",
        "base",
        "maxRetries",
        "onComplete",
        "context",
        "runAfterMs",
        "runAt",
        "annotation",
        "idempotencyKey",
        "fairnessKey",
    }
)

_CONTAINERS = (dict, list, tuple)
_KEY = re.compile(KEY)
_POOL = re.compile(POOL)
_RUN_ID = re.compile(RUN_ID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request whose fields are all within their bounds."""

    pool: str
    action: str
    args: str  # JSON
    context: str | None  # JSON
    initial_backoff_ms: float | None
    base: float | None
    max_retries: int | None
    on_complete: str | None
    run_after_ms: float | None
    run_at: float | None
    annotation: str | None
    idempotency_key: str | None
    fairness_key: str | None
    digest: str

    def check_fits_item(self) -> None:
        """Raise PayloadTooLarge if the item itself cannot hold the payloads."""
        for field, text in (("args", self.args), ("options.context", self.context or "")):
            size = len(text.encode())
            if size > MAX_ITEM_PAYLOAD_BYTES:
                raise PayloadTooLarge(
                    f"{field} must be at most {MAX_ITEM_PAYLOAD_BYTES} bytes of JSON in a "
                    f"transaction, whose entry holds it, got {size}; `run` takes more"
                )

    def to_run(self, *, now_ms: int) -> Run:
        """The run that the request asks for. Raises InvalidRequest if it starts too far ahead.

        With an idempotency key, the run id is a hash of pool and key. Otherwise it is random.
        """
        at = self.run_at if self.run_at is not None else now_ms + (self.run_after_ms or 0)
        if at - now_ms > MAX_AHEAD_MS:
            raise InvalidRequest(
                f"options.runAt must be at most 364 days ahead, got {_brief(self.run_at)}"
            )
        later = at > now_ms
        keyed = self.idempotency_key is not None
        run_id = _hash_of_key(self.pool, self.idempotency_key) if keyed else uuid4().hex
        return Run(
            pool=self.pool,
            run_id=run_id,
            kind="scheduled" if later else "enqueued",
            action=self.action,
            args=Payload(self.args),
            enqueued_at=now_ms,
            due=ceil_to_second(at) if later else now_ms,
            initial_backoff_ms=self.initial_backoff_ms,
            base=self.base,
            max_retries=self.max_retries,
            on_complete=self.on_complete,
            context=None if self.context is None else Payload(self.context),
            annotation=self.annotation,
            fairness_key=self.fairness_key,
            request=self.digest if keyed else None,
            creation=uuid4().hex if keyed else None,
            open=open_partition(self.pool, run_id),
        )


def parse_before(value: Any, *, now_ms: int) -> int:
    """The time before which cancelAll cancels, in epoch milliseconds. A time of a clock that is
    ahead means now. Raises InvalidRequest."""
    if type(value) is not int or not 0 <= value <= now_ms + MAX_SKEW_MS:
        raise InvalidRequest(
            "before must be epoch milliseconds, at most five minutes ahead of now, "
            f"got {_brief(value)}"
        )
    return min(value, now_ms)


def is_pool_name(text: str) -> bool:
    return _POOL.fullmatch(text) is not None


def is_run_id(text: Any) -> bool:
    """Whether this has the form of a run id. What has another form names no run."""
    return isinstance(text, str) and _RUN_ID.fullmatch(text) is not None


def parse_json(text: str | bytes) -> Any:
    """The value of a body. Raises InvalidRequest if the body is not JSON, as NaN and Infinity are
    not, and PayloadTooLarge if it is larger than Lambda takes."""
    size = len(text.encode("utf-8", "replace") if isinstance(text, str) else text)
    if size > MAX_BODY_BYTES:
        raise PayloadTooLarge(f"the body must be at most {MAX_BODY_BYTES} bytes, got {size}")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body must be JSON: {_reason(error)}") from error


def is_too_deep(value: Any) -> bool:
    """Whether a JSON value nests arrays and objects deeper than MAX_DEPTH."""
    level = [value] if isinstance(value, _CONTAINERS) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return False
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, _CONTAINERS)
        ]
    return bool(level)


def parse(body: Any) -> Request:
    """The request in a body. Raises InvalidRequest or PayloadTooLarge for the first mistake."""
    if not isinstance(body, dict):
        raise InvalidRequest(f"the request must be a JSON object, got {_brief(body)}")
    _refuse_unknown(body, FIELDS, "")
    if "action" not in body:
        raise InvalidRequest("action is required")
    options = body.get("options", {})
    if not isinstance(options, dict):
        raise InvalidRequest(f"options must be an object, got {_brief(options)}")
    _refuse_unknown(options, OPTIONS, "options.")
    for name in options:
        if options[name] is None:
            raise InvalidRequest(f"options.{name} must not be null; leave it out instead")
    if "runAfterMs" in options and "runAt" in options:
        raise InvalidRequest("give options.runAfterMs or options.runAt, not both")
    args = body.get("args", {})
    if not isinstance(args, dict):
        raise InvalidRequest(f"args must be an object, got {_brief(args)}")
    pool = _string(body.get("pool", "default"), "pool")
    action = _string(body["action"], "action")
    backoff = _number(options, "initialBackoffMs", at_least=25)
    base = _number(options, "base", at_least=1)
    return Request(
        pool=pool,
        action=action,
        args=_json_text(args, "args"),
        context=_json_text(options["context"], "options.context") if "context" in options else None,
        # A number above these caps would change no delay, since no backoff is longer than
        # MAX_BACKOFF_MS. With the caps, any number fits into the item.
        initial_backoff_ms=None if backoff is None else min(backoff, 2 * MAX_BACKOFF_MS),
        base=None if base is None else min(base, MAX_BACKOFF_MS),
        max_retries=_integer(options, "maxRetries", at_least=0, at_most=MAX_RETRIES),
        on_complete=_option_string(options, "onComplete"),
        run_after_ms=_number(options, "runAfterMs", at_least=0, at_most=MAX_AHEAD_MS),
        run_at=_run_at(options),
        annotation=_option_string(options, "annotation", up_to=MAX_ANNOTATION),
        idempotency_key=_option_key(options, "idempotencyKey"),
        fairness_key=_option_key(options, "fairnessKey"),
        digest=_digest(pool, action, args, options),
    )


def _hash_of_key(pool: str, key: str | None) -> str:
    return sha256(f"{pool}\0{key}".encode()).hexdigest()[:32]


def _digest(pool: str, action: str, args: Any, options: Any) -> str:
    """Hash of a request whose fields were checked. Requests that are equal as JSON have an equal
    hash, whatever the order of their fields and whichever way they came: Python's keys may be
    numbers, and 1 and 1.0 are the same number in JSON."""
    text = json.dumps([pool, action, args, options])
    request = json.loads(text, parse_float=_whole_if_possible)
    canonical = json.dumps(request, sort_keys=True, separators=(",", ":"))
    return sha256(canonical.encode()).hexdigest()


def _whole_if_possible(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number


def _run_at(options: dict[str, Any]) -> float | None:
    at = _number(options, "runAt", at_least=0)
    if at is not None and 0 < at < LEAST_RUN_AT_MS:
        raise InvalidRequest(
            f"options.runAt must be in epoch milliseconds, got {_brief(at)}, which looks like "
            f"seconds"
        )
    return at


def _json_text(value: Any, field: str) -> str:
    """The value as JSON text. Raises if it is not JSON, nested too deeply or too large."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        size = len(text.encode())
    except RecursionError as error:
        raise InvalidRequest(f"{field} must be nested at most {MAX_DEPTH} deep") from error
    except (ValueError, TypeError) as error:
        raise InvalidRequest(f"{field} must be JSON: {error}") from error
    if is_too_deep(value):
        raise InvalidRequest(f"{field} must be nested at most {MAX_DEPTH} deep")
    if size > MAX_PAYLOAD_BYTES:
        raise PayloadTooLarge(
            f"{field} must be at most {MAX_PAYLOAD_BYTES} bytes of JSON, got {size}"
        )
    return text


def _number(
    options: dict[str, Any], name: str, *, at_least: float, at_most: float = math.inf
) -> float | None:
    if name not in options:
        return None
    value = options[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"options.{name} must be a number, got {_brief(value)}")
    try:
        finite = math.isfinite(float(value))
    except OverflowError:
        finite = False
    if not finite:
        raise InvalidRequest(f"options.{name} must be a finite number, got {_brief(value)}")
    if value < at_least:
        raise InvalidRequest(f"options.{name} must be >= {at_least}, got {_brief(value)}")
    if value > at_most:
        raise InvalidRequest(f"options.{name} must be <= {at_most}, got {_brief(value)}")
    return value


def _integer(options: dict[str, Any], name: str, *, at_least: int, at_most: int) -> int | None:
    value = _number(options, name, at_least=at_least, at_most=at_most)
    if value is not None and value != int(value):
        raise InvalidRequest(f"options.{name} must be an integer, got {_brief(value)}")
    return None if value is None else int(value)


def _string(value: Any, field: str, *, up_to: int = MAX_NAME) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{field} must be a string, got {_brief(value)}")
    if len(value) > up_to:
        raise InvalidRequest(f"{field} must be at most {up_to} characters, got {len(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{field} must be Unicode text: {_reason(error)}") from error
    return value


def _option_string(options: dict[str, Any], name: str, *, up_to: int = MAX_NAME) -> str | None:
    return _string(options[name], f"options.{name}", up_to=up_to) if name in options else None


def _option_key(options: dict[str, Any], name: str) -> str | None:
    if name not in options:
        return None
    value = _string(options[name], f"options.{name}")
    if _KEY.fullmatch(value) is None:
        raise InvalidRequest(
            f"options.{name} must be 1 to 128 ASCII letters, digits or punctuation marks, "
            f"got {_brief(value)}"
        )
    return value


def _refuse_unknown(fields: dict[str, Any], known: frozenset[str], where: str) -> None:
    for name in fields:
        if name not in known:
            raise InvalidRequest(
                f"{where}{_shortened(name)} is not a field; known are {', '.join(sorted(known))}"
            )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _brief(value: Any) -> str:
    """A value as JSON, shortened for an error message."""
    try:
        return _shortened(json.dumps(value))
    except (ValueError, TypeError, RecursionError):
        return f"a {type(value).__name__}"


def _shortened(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= 60 else text[:57] + "..."
