"""Read what a user typed: JSON, run ids, durations, times. An error names the place of the mistake.

Called by the commands, before they send anything.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any


class Mistake(Exception):
    """An argument that makes no sense. The message says what was expected and what was typed."""


UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def read_json(text: str, name: str) -> Any:
    """Read an argument that is JSON, `@FILE`, or `-` for standard input."""
    text, source = _read_source(text, name)
    return _parse_json(text, source)


def read_requests(text: str) -> dict[str, Any]:
    """Read the requests of a file, or of standard input for `-`: a JSON array of requests, or one
    request per line. Blank lines are skipped. Returns each request by its place, for messages."""
    text, source = _read_source(text if text == "-" else f"@{text}", "the requests")
    if text.lstrip().startswith("["):
        requests = enumerate(_parse_json(text, source), 1)
        return {f"number {number}": request for number, request in requests}
    # Only a newline ends a line: other characters that Python takes for one may be in a string.
    return {
        f"line {number} of {source}": _parse_json(line, source, first_line=number)
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip()
    }


def add_idempotency_keys(requests: Iterable[Any], prefix: str) -> list[Any]:
    """The requests, each with an idempotency key made of the prefix and its content, unless it has
    a key. Equal requests of one file get different keys, since all of them shall run. The same
    requests in another order get the same keys."""
    if not re.fullmatch(r"[!-~]{1,80}", prefix):
        raise Mistake(
            f"--idempotency-prefix must be 1 to 80 ASCII letters, digits or punctuation marks; "
            f"got {prefix!r}"
        )
    seen: Counter[str] = Counter()
    keyed = []
    for request in requests:
        options = request.get("options", {}) if isinstance(request, dict) else None
        if isinstance(options, dict) and "idempotencyKey" not in options:
            content = sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:32]
            seen[content] += 1
            key = f"{prefix}-{content}-{seen[content]}"
            request = {**request, "options": {**options, "idempotencyKey": key}}
        keyed.append(request)
    return keyed


def read_run_ids(typed: Sequence[str]) -> list[str]:
    """The run ids that were typed, each once. `-` stands for those of standard input, separated by
    spaces or newlines."""
    run_ids: list[str] = []
    for text in typed:
        run_ids += _read_source("-", "")[0].split() if text == "-" else [text]
    if typed and not run_ids:
        raise Mistake("standard input held no run id")
    return list(dict.fromkeys(run_ids))


def duration_ms(text: str) -> float:
    """Milliseconds of `90s`, `10m`, `1.5h`, `7d` or `250ms`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    if match is None:
        raise Mistake(f"a duration is a number and one of {', '.join(UNITS_MS)}; got {text!r}")
    return float(match[1]) * UNITS_MS[match[2]]


def point_in_time(text: str) -> datetime | int:
    """A time in ISO 8601 (local time if it has no zone), or in epoch milliseconds."""
    if re.fullmatch(r"\d{12,14}", text):
        return int(text)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise Mistake(
            f"a time is ISO 8601, such as 2026-12-24T18:00:00+01:00, or epoch milliseconds; "
            f"got {text!r}"
        ) from None


def _read_source(text: str, name: str) -> tuple[str, str]:
    """The text that an argument gives or points to, and the name of its source for messages."""
    if text == "-":
        return _decode(sys.stdin.buffer.read(), "standard input"), "standard input"
    if not text.startswith("@"):
        return text, name
    path = Path(text[1:])
    try:
        return _decode(path.read_bytes(), str(path)), str(path)
    except OSError as error:
        raise Mistake(f"{path}: {error.strerror}") from error


def _decode(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8-sig")  # Without the mark that some editors put in front.
    except UnicodeDecodeError as error:
        raise Mistake(f"{source} is not UTF-8: byte {error.start}") from error


def _parse_json(text: str, source: str, *, first_line: int = 1) -> Any:
    """`first_line`: the line of the source at which the text begins."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise Mistake(
            f"{source} must be JSON: {error.msg.lower()} at line {line}, column {error.colno}"
        ) from error
    except RecursionError:
        raise Mistake(f"{source} must be JSON that is nested less deeply") from None
