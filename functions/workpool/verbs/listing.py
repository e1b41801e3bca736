"""List a pool's runs, a page at a time: the open ones, oldest first, or the parked ones."""

import base64
import binascii
import json
from typing import Any

from workpool.aws import open_runs, pools
from workpool.aws.clients import library_errors
from workpool.core.run import YEAR_10000_MS, Run, run_key
from workpool.errors import InvalidRequest
from workpool.verbs.status import shown_many

KINDS = ("enqueued", "scheduled", "running", "parked")
MAX_LIMIT = 100
PAGES = 10
"""Read for one answer: a rare kind among many runs may take more than one request."""


@library_errors()
def list_runs(
    pool: str, *, kind: str | None, limit: str | None, cursor: str | None
) -> dict[str, Any]:
    """{"runs": [status...], "cursor"?}: open runs, or those of one kind; `parked` are ended runs
    whose completion is parked. Without a cursor in the answer there are no more. Raises
    UnknownPool, InvalidRequest."""
    pools.pool(pool)
    if kind is not None and kind not in KINDS:
        raise InvalidRequest(f"kind must be of {', '.join(KINDS)}, got {kind[:60]!r}")
    wanted = _limit(limit)
    after = _cursor(cursor)
    runs: list[Run] = []
    for _ in range(PAGES):
        page = open_runs.list_open_keys(pool, parked=kind == "parked", after=after, limit=MAX_LIMIT)
        found = open_runs.read_runs([run_key(pool, run_id) for _, run_id in page])
        read = {run.run_id: run for run in found}
        for after in page:
            run = read.get(after[1])
            if run is not None and _fits(run, kind):
                runs.append(run)
                if len(runs) == wanted:
                    return _page(runs, _shown_cursor(after))
        if len(page) < MAX_LIMIT:
            return _page(runs, None)
    return _page(runs, _shown_cursor(after))


def _fits(run: Run, kind: str | None) -> bool:
    if kind == "parked":
        return run.completion == "parked"
    return not run.ended if kind is None else run.kind == kind


def _page(runs: list[Run], cursor: str | None) -> dict[str, Any]:
    shape: dict[str, Any] = {"runs": shown_many([(run.run_id, run) for run in runs])}
    return shape if cursor is None else shape | {"cursor": cursor}


def _limit(text: str | None) -> int:
    try:
        limit = int(text) if text is not None else MAX_LIMIT
    except ValueError:
        limit = 0
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit must be an integer from 1 to {MAX_LIMIT}, got {text!r}")
    return limit


def _shown_cursor(after: open_runs.OpenKey) -> str:
    return base64.urlsafe_b64encode(json.dumps(after).encode()).decode()


def _cursor(text: str | None) -> open_runs.OpenKey:
    if text is None:
        return 0, ""
    try:
        since, after = json.loads(base64.urlsafe_b64decode(text))
        if type(since) is int and 0 <= since < YEAR_10000_MS and isinstance(after, str):
            return since, after
    except (ValueError, TypeError, binascii.Error, RecursionError):
        pass
    raise InvalidRequest("cursor must be one that an answer gave")
