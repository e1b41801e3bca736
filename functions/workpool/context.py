"""The contexts: what an action and a completion handler learn about their run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    run_id: str
    pool: str
    action: str
    retries: int
    """0 on the first attempt."""
    annotation: str | None
    logger: Any
    """Powertools' Logger. Each of its lines names the run."""

    @property
    def idempotency_key(self) -> str:
        """The run id: the same in every attempt, and in every call of the completion handler."""
        return self.run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionContext(_Context):
    """The first argument of an action."""

    remaining_ms: Callable[[], int]
    """Milliseconds until the attempt counts as failed and the watchdog ends its process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionContext(_Context):
    """The first argument of a completion handler. `retries` are those of the action."""
