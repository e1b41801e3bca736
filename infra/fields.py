"""Reads typed fields out of JSON. It notes mistakes instead of raising, so that all are found.

Standard library only; it knows nothing about pools or the CDK. Called by `infra/config.py`, which
says which fields there are and which bounds they have.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any


class Fields:
    """Takes typed fields out of one mapping and notes what is wrong with them.

    A wrong field gets its default, so that reading goes on to the next mistake.
    """

    def __init__(
        self, path: str, given: Mapping[str, Any], mistakes: list[str], *, typed: bool = True
    ) -> None:
        self.given = given
        self._path = path
        self._mistakes = mistakes
        self._typed = typed
        self._known: set[str] = set()

    def integer(self, key: str, low: int, high: int, default: int | None) -> int:
        value = self._take(key, default)
        if value is None and key not in self.given:
            self.mistake(key, f"is required: an integer from {low} to {high}")
        elif type(value) is not int:
            self._wrong(key, f"an integer from {low} to {high}", value)
        elif not low <= value <= high:
            self._wrong(key, f">= {low}" if value < low else f"<= {high}", value)
        else:
            return value
        return low if default is None else default

    def number(self, key: str, low: float, high: float, default: float) -> float:
        value = self._take(key, default)
        if not _is_number(value):
            upper = f" and <= {high}" if math.isfinite(high) else ""
            self._wrong(key, f"a number >= {low}{upper}", value)
        elif not low <= value <= high:
            self._wrong(key, f">= {low}" if value < low else f"<= {high}", value)
        else:
            return value  # type: ignore[no-any-return]
        return default

    def flag(self, key: str, default: bool) -> bool:
        value = self._take(key, default)
        if isinstance(value, bool):
            return value
        self._wrong(key, "true or false", value)
        return default

    def choice(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        value = self._take(key, default)
        if isinstance(value, str) and value in allowed:
            return value
        self._wrong(key, f"one of {', '.join(allowed)}", value)
        return default

    def text(self, key: str, pattern: str | None, default: str) -> str:
        value = self._take(key, default, parse=False)
        if isinstance(value, str) and (pattern is None or re.fullmatch(pattern, value)):
            return value
        self._wrong(key, f"a string that matches {pattern}" if pattern else "a string", value)
        return default

    def text_or_null(self, key: str, pattern: str) -> str | None:
        if self.given.get(key) is not None:
            return self.text(key, pattern, "") or None
        self._known.add(key)
        return None

    def texts(self, key: str, pattern: str) -> tuple[str, ...]:
        value = self._take(key, [])
        if not isinstance(value, list):
            self._wrong(key, "a list of strings", value)
            return ()
        for index, text in enumerate(value):
            if not isinstance(text, str) or not re.fullmatch(pattern, text):
                self._wrong(f"{key}[{index}]", f"a string that matches {pattern}", text)
            elif text in value[:index]:
                self.mistake(f"{key}[{index}]", f"is there twice, got {json.dumps(text)}")
        return tuple(value)

    def part(self, key: str) -> "Fields":
        value = self._take(key, {})
        if not isinstance(value, dict):
            self._wrong(key, "an object", value)
            value = {}
        return Fields(f"{self._path}.{key}".lstrip("."), value, self._mistakes)

    def refuse_the_rest(self) -> None:
        """Note every field that was not read. Call it last.

        Such a field is a typo; without this, a default would be deployed silently.
        """
        for key in self.given:
            if key not in self._known:
                self.mistake(key, f"is unknown; known are {', '.join(sorted(self._known))}")

    def mistake(self, key: str, text: str) -> None:
        path = ".".join(part for part in (self._path, key) if part)
        self._mistakes.append(f"{path} {text}")

    def _wrong(self, key: str, bound: str, value: object) -> None:
        self.mistake(key, f"must be {bound}, got {json.dumps(value, default=repr)}")

    def _take(self, key: str, default: Any, *, parse: bool = True) -> Any:
        self._known.add(key)
        value = self.given.get(key, default)
        if self._typed or not parse or not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            return value  # the caller notes the mistake


def _is_number(value: object) -> bool:
    """Whether it is a number that a float can hold. A bool or NaN is not."""
    try:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:
        return False
