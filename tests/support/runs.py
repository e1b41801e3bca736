"""A run in any state, for tests that begin in the middle of its life."""

from typing import Any

from tests.support.environment import START_MS
from workpool.core.run import Payload, Run

SETTLED: dict[str, Any] = {
    "kind": "completed",
    "result": "success",
    "return_value": Payload("1"),
    "on_complete": "jobs.done",
}
"""The fields of a run that succeeded and has a completion handler."""


def a_run(**fields: Any) -> Run:
    """A run, not stored: enqueued at START_MS unless the fields say otherwise."""
    first: dict[str, Any] = {
        "pool": "default",
        "run_id": "r1",
        "kind": "enqueued",
        "action": "jobs.work",
        "args": Payload("{}"),
        "enqueued_at": START_MS,
        "due": START_MS,
    }
    return Run(**(first | fields))
