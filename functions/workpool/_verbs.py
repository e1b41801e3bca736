"""What a client needs of a deployment: the verbs, as the HTTP API shows them.

`_http` implements them outside, `_in_process` inside a function of the stack. Both accept, refuse
and answer the same. Shapes are the API's JSON; errors are those of `workpool.errors`.
"""

import json
from collections.abc import Sequence
from typing import Any, Protocol

from workpool.errors import InvalidRequest

Json = Any


class Verbs(Protocol):
    @property
    def runs_table(self) -> str: ...

    def submit(self, pool: str, body: dict[str, Json]) -> Json: ...

    def submit_many(self, pool: str, bodies: Sequence[Json]) -> Json: ...

    def status(self, pool: str, run_id: str, include: Sequence[str]) -> Json: ...

    def status_many(self, pool: str, run_ids: Sequence[str]) -> Json: ...

    def runs(self, pool: str, kind: str | None, cursor: str | None) -> Json: ...

    def pools(self) -> Json: ...

    def cancel(self, pool: str, run_id: str) -> Json: ...

    def cancel_all(self, pool: str) -> Json: ...

    def stats(self, pool: str) -> Json: ...

    def change(self, pool: str, body: dict[str, Json]) -> Json: ...

    def redrive(self, pool: str, run_ids: Sequence[str] | None) -> Json: ...

    def fetch(self, url: str) -> Json:
        """The return value that a status names by its URL."""


def encode(body: Json) -> bytes:
    """The JSON of a request, in as few bytes as the pool counts. Raises InvalidRequest."""
    try:
        text = json.dumps(body, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the request must be JSON: {error}") from error
