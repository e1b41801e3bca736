"""What one attribute of an item may hold: its type, its bounds, its words or its pattern.

Pure. `run` has one rule for each attribute. Whoever may write to the table may write anything into
it, so nothing in an item is believed before its rule accepted it.
"""

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rule:
    """What an attribute may hold."""

    allowed: str
    """What is allowed, in words. It names no value: the words are logged."""
    read: Callable[[dict[str, Any]], Any]
    """The value in DynamoDB's low-level form, read. Raises ValueError or KeyError if the attribute
    holds anything else."""


def text(most: int, *, least: int = 0) -> Rule:
    """A string of so many characters."""

    def read(stored: dict[str, Any]) -> str:
        value: str = stored["S"]
        if not least <= len(value) <= most:
            raise ValueError
        return value

    return Rule(f"a string of {least} to {most} characters", read)


def pattern(expression: str, what: str) -> Rule:
    """A string that the whole expression matches."""
    matches = re.compile(expression).fullmatch

    def read(stored: dict[str, Any]) -> str:
        value: str = stored["S"]
        if matches(value) is None:
            raise ValueError
        return value

    return Rule(what, read)


def word(words: Collection[str]) -> Rule:
    """One of these words."""

    def read(stored: dict[str, Any]) -> str:
        value: str = stored["S"]
        if value not in words:
            raise ValueError
        return value

    return Rule(" or ".join(words), read)


def flag() -> Rule:
    return Rule("true or false", lambda stored: stored["BOOL"])


def integer(low: int, high: int) -> Rule:
    """A whole number within these bounds."""

    def read(stored: dict[str, Any]) -> int:
        value = int(stored["N"])
        if not low <= value <= high:
            raise ValueError
        return value

    return Rule(f"a whole number from {low} to {high}", read)


def number(low: float, high: float) -> Rule:
    """A number within these bounds. A whole one is an int."""

    def read(stored: dict[str, Any]) -> float:
        value = float(stored["N"])
        if not low <= value <= high:  # Also refuses NaN and infinities.
            raise ValueError
        return int(value) if value.is_integer() else value

    return Rule(f"a number from {low} to {high}", read)


def attempts(most: int) -> Rule:
    """JSON of the last attempts. Fields that a later release adds are left alone."""

    def read(stored: dict[str, Any]) -> str:
        value: str = stored["S"]
        if len(value) > most:
            raise ValueError
        try:
            listed = json.loads(value)
        except RecursionError as error:
            raise ValueError from error
        if type(listed) is not list or not all(_is_attempt(attempt) for attempt in listed):
            raise ValueError
        return value

    return Rule("JSON of the last attempts", read)


def _is_attempt(attempt: Any) -> bool:
    return (
        type(attempt) is dict
        and type(attempt.get("retries")) is int
        and type(attempt.get("startedAt")) in (int, type(None))
        and type(attempt.get("ms")) is int
        and attempt.get("ended") in ("success", "failed")
        and type(attempt.get("error", "")) is str
    )
