"""The integration tests' world on moto, and around it a cloud that carries a run to its end."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.cloud import Cloud
from tests.support.cloudformation import cloudformation
from tests.support.world import aws, lambda_context, logged, message, no_jitter, world

__all__ = [
    "aws",
    "cloud",
    "cloudformation",
    "lambda_context",
    "logged",
    "message",
    "no_jitter",
    "world",
]


@pytest.fixture
def cloud(world: Any, no_jitter: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """Everything between the functions; what it saw is checked once more when the test is over."""
    world.most_calls = 100_000
    here = Cloud(world, monkeypatch)
    yield here
    assert here.broken() == []
