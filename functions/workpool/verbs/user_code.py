"""Call the functions of users: find one by its name, call it, await it, and name its error.

Called by `attempt` for actions and by `complete` for completion handlers, which decide what a
result or an error means for the run.
"""

import asyncio
import inspect
from typing import Any

from workpool import lookup
from workpool.aws import logs
from workpool.core.run import Run
from workpool.lookup import Decorator


def call(name: str, decorator: Decorator, *arguments: Any) -> Any:
    """What the function returns. Raises UnknownAction or UnknownCompletion where no function of
    that name is decorated, and whatever importing or calling it raises."""
    value = lookup.find(name, decorator)(*arguments)
    return asyncio.run(value) if inspect.iscoroutine(value) else value


def context_fields(run: Run) -> dict[str, Any]:
    """The fields that the contexts of actions and completion handlers share."""
    return {
        "run_id": run.run_id,
        "pool": run.pool,
        "action": run.action,
        "retries": run.retries,
        "annotation": run.annotation,
        "logger": logs.bind_user_logger(run),
    }


def error_text(error: BaseException) -> str:
    """The error's message; its class's name if it has none, or if printing it fails."""
    try:
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__
