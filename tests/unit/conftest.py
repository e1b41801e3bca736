"""What the pure tests share: a run to vary, and hypothesis that is the same on every machine."""

from collections.abc import Callable

import hypothesis
import pytest

from tests.support import runs
from tests.support.environment import START_MS
from workpool.core.run import Run

hypothesis.settings.register_profile(
    "workpool", database=None, deadline=None, derandomize=True, max_examples=100
)
hypothesis.settings.load_profile("workpool")

ENQUEUED_MS = START_MS + 123


@pytest.fixture(scope="session")
def a_run() -> Callable[..., Run]:
    """A run, enqueued unless said otherwise."""

    at_ms = {"enqueued_at": ENQUEUED_MS, "due": ENQUEUED_MS}
    return lambda **fields: runs.a_run(**(at_ms | fields))
