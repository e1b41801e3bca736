"""What a client needs from a deployment: the verbs, as the HTTP API shows them.

`_http` implements them for callers outside the stack, `_in_process` inside a function of the stack.
Both accept and refuse the same requests and return the same shapes: the API's JSON. Errors are
those of `workpool.errors`.
"""

import json
from collections.abc import Sequence
from typing import Any, Protocol

from workpool.errors import InvalidRequest

Json = Any


class Verbs(Protocol):
    @property
    def runs_table(self) -> str: ...

    def check_pool(self, pool: str) -> None:
        """Raise UnknownPool if the caller can know that no such pool is deployed."""

    def submit(self, pool: str, body: dict[str, Json]) -> Json: ...

    def submit_many(self, pool: str, bodies: Sequence[Json]) -> Json: ...

    def status(
        self, pool: str, run_id: str, include: Sequence[str], deadline: float | None = None
    ) -> Json:
        """`deadline`, here and below: a time of `clock.monotonic` at which to give up."""

    def status_many(
        self, pool: str, run_ids: Sequence[str], deadline: float | None = None
    ) -> Json: ...

    def runs(self, pool: str, kind: str | None, cursor: str | None) -> Json: ...

    def pools(self) -> Json: ...

    def cancel(self, pool: str, run_id: str) -> Json: ...

    def cancel_all(self, pool: str, before: int | None) -> Json: ...

    def stats(self, pool: str) -> Json: ...

    def change(self, pool: str, body: dict[str, Json]) -> Json: ...

    def redrive(self, pool: str, run_ids: Sequence[str] | None) -> Json: ...

    def fetch(self, url: str, deadline: float | None = None) -> Json:
        """Read the return value at a URL that a status shows."""


def encode(body: Json) -> bytes:
    """The JSON of a request, without spaces: the pool counts its bytes. Raises InvalidRequest."""
    try:
        text = json.dumps(body, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the request must be JSON: {error}") from error


def through_json(body: Json) -> Json:
    """The request as it arrives at the API, so that every door sees the same: keys are strings,
    tuples are lists. Raises InvalidRequest."""
    return json.loads(encode(body))
