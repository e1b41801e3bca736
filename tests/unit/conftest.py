"""What the pure tests share: a run to vary, and hypothesis that is the same on every machine."""

from collections.abc import Callable
from typing import Any

import hypothesis
import pytest

from workpool.core.run import Payload, Run

hypothesis.settings.register_profile(
    "workpool", database=None, deadline=None, derandomize=True, max_examples=100
)
hypothesis.settings.load_profile("workpool")

ENQUEUED_MS = 1_790_000_000_123


@pytest.fixture(scope="session")
def a_run() -> Callable[..., Run]:
    """A run, enqueued unless said otherwise."""

    def of(**fields: Any) -> Run:
        first: dict[str, Any] = {
            "pool": "default",
            "run_id": "r1",
            "kind": "enqueued",
            "action": "jobs.work",
            "args": Payload("{}"),
            "enqueued_at": ENQUEUED_MS,
            "due": ENQUEUED_MS,
        }
        return Run(**(first | fields))

    return of
