"""List a pool's runs, a page at a time: the open runs, oldest first, or the parked ones."""

import base64
import binascii
import json
from typing import Any

from workpool.aws import open_runs, pools
from workpool.aws.clients import library_errors
from workpool.core.run import YEAR_10000_MS, Run, run_key
from workpool.errors import InvalidRequest
from workpool.verbs.status import describe_many

KINDS = ("enqueued", "scheduled", "running", "parked")
MAX_LIMIT = 100

MAX_PAGES = 10
"""How many pages of the index are read for one answer. To find a rare kind among many runs may take
more than one request."""


@library_errors()
def list_runs(
    pool: str, *, kind: str | None, limit: str | None, cursor: str | None
) -> dict[str, Any]:
    """{"runs": [status...], "cursor"?}: the open runs, or those of one kind. Kind `parked` means
    ended runs whose completion is parked. The last page has no cursor. Raises UnknownPool,
    InvalidRequest."""
    pools.pool(pool)
    if kind is not None and kind not in KINDS:
        raise InvalidRequest(f"kind must be one of {', '.join(KINDS)}, got {kind[:60]!r}")
    wanted = _parse_limit(limit)
    after = _parse_cursor(cursor)
    runs: list[Run] = []
    for _ in range(MAX_PAGES):
        page = open_runs.list_open_keys(pool, parked=kind == "parked", after=after, limit=MAX_LIMIT)
        found = open_runs.read_runs([run_key(pool, run_id) for _, run_id in page])
        by_id = {run.run_id: run for run in found}
        for after in page:
            run = by_id.get(after[1])
            if run is not None and _is_of_kind(run, kind):
                runs.append(run)
                if len(runs) == wanted:
                    return _describe_page(runs, _cursor_text(after))
        if len(page) < MAX_LIMIT:
            return _describe_page(runs, None)
    return _describe_page(runs, _cursor_text(after))


def _is_of_kind(run: Run, kind: str | None) -> bool:
    if kind == "parked":
        return run.completion == "parked"
    return not run.ended if kind is None else run.kind == kind


def _describe_page(runs: list[Run], cursor: str | None) -> dict[str, Any]:
    shape: dict[str, Any] = {"runs": describe_many([(run.run_id, run) for run in runs])}
    return shape if cursor is None else shape | {"cursor": cursor}


def _parse_limit(text: str | None) -> int:
    try:
        limit = int(text) if text is not None else MAX_LIMIT
    except ValueError:
        limit = 0
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit must be an integer from 1 to {MAX_LIMIT}, got {text!r}")
    return limit


def _cursor_text(after: open_runs.OpenKey) -> str:
    return base64.urlsafe_b64encode(json.dumps(after).encode()).decode()


def _parse_cursor(text: str | None) -> open_runs.OpenKey:
    if text is None:
        return 0, ""
    try:
        enqueued_at, run_id = json.loads(base64.urlsafe_b64decode(text))
        if (
            type(enqueued_at) is int
            and 0 <= enqueued_at < YEAR_10000_MS
            and isinstance(run_id, str)
        ):
            return enqueued_at, run_id
    except (ValueError, TypeError, binascii.Error, RecursionError):
        pass
    raise InvalidRequest("cursor must be the cursor of an earlier answer")
