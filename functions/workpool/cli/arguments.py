"""What is typed: JSON, run ids, durations, times. A mistake names the place where it stands."""

import json
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any


class Mistake(Exception):
    """What was typed cannot be meant; the message says what was expected, and what was given."""


UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def value(text: str, what: str) -> Any:
    """The JSON of an argument: itself, `@file`, or `-` for standard input."""
    text, where = _source(text, what)
    return _parsed(text, where)


def requests(text: str) -> list[Any]:
    """Requests to submit: a JSON array of them, or one a line. Blank lines are none."""
    text, where = _source(text if text == "-" else f"@{text}", "the requests")
    if text.lstrip().startswith("["):
        whole = _parsed(text, where)
        return list(whole)
    lines = enumerate(text.splitlines(), 1)
    return [_parsed(line, where, before=number - 1) for number, line in lines if line.strip()]


def run_ids(typed: Sequence[str]) -> list[str]:
    """The run ids that were typed; `-` is those of standard input, one a line."""
    found: list[str] = []
    for text in typed:
        found += sys.stdin.read().split() if text == "-" else [text]
    if typed and not found:
        raise Mistake("standard input held no run id")
    return list(dict.fromkeys(found))


def duration_ms(text: str) -> float:
    """Milliseconds of `90s`, `10m`, `1.5h`, `7d` or `250ms`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    if match is None:
        raise Mistake(f"a duration is a number and one of {', '.join(UNITS_MS)}; got {text!r}")
    return float(match[1]) * UNITS_MS[match[2]]


def moment(text: str) -> datetime | int:
    """A time: ISO 8601 (local without a zone), or epoch milliseconds."""
    if re.fullmatch(r"\d{12,14}", text):
        return int(text)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise Mistake(
            f"a time is ISO 8601, such as 2026-12-24T18:00:00+01:00, or epoch milliseconds; "
            f"got {text!r}"
        ) from None


def _source(text: str, what: str) -> tuple[str, str]:
    """The text that is meant, and what it is called in a message."""
    if text == "-":
        return _read(sys.stdin.buffer.read(), "standard input"), "standard input"
    if not text.startswith("@"):
        return text, what
    path = Path(text[1:])
    try:
        return _read(path.read_bytes(), str(path)), str(path)
    except OSError as error:
        raise Mistake(f"{path}: {error.strerror}") from error


def _read(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Mistake(f"{where} is no UTF-8: byte {error.start}") from error


def _parsed(text: str, where: str, *, before: int = 0) -> Any:
    """`before`: how many lines stand before the text where it comes from."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = error.lineno + before
        raise Mistake(
            f"{where} must be JSON: {error.msg.lower()} at line {line}, column {error.colno}"
        ) from error
    except RecursionError:
        raise Mistake(f"{where} must be JSON that is less deep") from None
