"""Call the functions of users: find a function by its name, call it, await it, name its error.

`attempt` uses this for actions, `complete` for completion handlers. They decide what a return value
or an error means for the run.
"""

import asyncio
import inspect
from typing import Any

from workpool import lookup
from workpool.aws import logs
from workpool.core.run import Run
from workpool.lookup import Decorator


def call(name: str, decorator: Decorator, *arguments: Any) -> Any:
    """Call the function and return what it returns. Raises UnknownAction or UnknownCompletion if no
    decorated function has this name, and whatever importing or calling the function raises."""
    value = lookup.find(name, decorator)(*arguments)
    return asyncio.run(value) if inspect.iscoroutine(value) else value


def context_fields(run: Run) -> dict[str, Any]:
    """The fields that the contexts of actions and of completion handlers have in common."""
    return {
        "run_id": run.run_id,
        "pool": run.pool,
        "action": run.action,
        "retries": run.retries,
        "annotation": run.annotation,
        "logger": logs.bind_user_logger(run),
    }


def error_text(error: BaseException) -> str:
    """The error's message, or the name of its class if it has no message or raises in `str`."""
    try:
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__
