"""Call the functions of users: find a function by its name, call it, await it, name its error.

What user code leaves behind in the process is undone here. `attempt` uses this for actions,
`complete` for completion handlers. They decide what a return value or an error means for the run.
"""

import asyncio
import atexit
import contextvars
import inspect
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from workpool import lookup
from workpool.aws import logs
from workpool.core import raised
from workpool.core.run import Run
from workpool.lookup import Decorator
from workpool.verbs.process_state import restored, this_process_alone

_idle_loops: list[asyncio.AbstractEventLoop] = []
"""This process's event loop, while it runs nothing. A client or a lock that a module makes once
belongs to the loop that it was first used in, so all runs of a process use the same one. Only in
`workpool.testing` there may be more: an action that waits for another run holds the first."""


def call(name: str, decorator: Decorator, *arguments: Any) -> Any:
    """Call the function and return what it returns. Raises UnknownAction or UnknownCompletion if no
    decorated function has this name, and whatever importing or calling the function raises."""
    with this_process_alone():
        function = lookup.find(name, decorator)
    with restored():
        return contextvars.copy_context().run(_call, function, arguments)


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    with this_process_alone():
        value = function(*arguments)
    return _run(value) if inspect.iscoroutine(value) else value


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run the coroutine in this process's event loop. As with `asyncio.run`, nothing that it
    started runs on afterwards: its tasks are canceled, and its threads are waited for."""
    loop = _take_loop()
    threads = ThreadPoolExecutor(thread_name_prefix="asyncio")
    loop.set_default_executor(threads)
    try:
        with this_process_alone():
            return loop.run_until_complete(coroutine)
    finally:
        try:
            _cancel_tasks(loop)
        finally:
            threads.shutdown()
            loop.set_exception_handler(None)
            loop.set_task_factory(None)
            _idle_loops.append(loop)


def _take_loop() -> asyncio.AbstractEventLoop:
    while _idle_loops:
        loop = _idle_loops.pop()
        if not loop.is_closed():  # By user code.
            return loop
    return asyncio.new_event_loop()


def _cancel_tasks(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


@atexit.register
def _close_loops() -> None:
    while _idle_loops:
        _idle_loops.pop().close()


def context_fields(run: Run) -> dict[str, Any]:
    """The fields that the contexts of actions and of completion handlers have in common."""
    return {
        "run_id": run.run_id,
        "pool": run.pool,
        "action": run.action,
        "retries": run.retries,
        "annotation": run.annotation,
        "logger": logs.user_logger(run),
    }


def error_text(error: BaseException) -> str:
    """The text of what user code raised, as statuses and log lines show it."""
    return raised.error_text(error)


def log_raised(logger: Any, event: str, error: BaseException) -> None:
    """Log an error's class. Its traceback may hold values: it is logged at DEBUG only. Raises
    nothing, even if the error does while it is formatted."""
    try:
        logger.warning(event, extra={"errorType": type(error).__name__})
        logger.debug(event, exc_info=error)
    except BaseException:
        logs.log("error-not-logged")
