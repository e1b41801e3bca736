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
    return Run(**(first | _given_by_state(fields) | fields))


def _given_by_state(fields: dict[str, Any]) -> dict[str, Any]:
    """What every transition to the state of these fields writes."""
    kind = fields.get("kind")
    given: dict[str, Any] = {}
    if kind == "running":
        given = {"claim": "c0", "lease": START_MS + 60_000}
    if "completion" in fields:
        given |= {"on_complete": "jobs.done"}
    if fields.get("completion") == "parked":
        given |= {"completion_claim": "h0"}
    return given
