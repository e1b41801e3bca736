"""Undo what user code changed in its process: the process goes on to serve other runs.

Only what belongs to the whole process is listed here, and only what can be undone. Modules that
user code imported, threads that it left and what it wrote to the disk stay. `user_code` calls this
around each call of an action or a handler, but not around the import of its module: what a module
sets while it is imported is there for all its runs.
"""

import locale
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from workpool.aws import clients

Undo = Callable[[], None]


@contextmanager
def restored() -> Iterator[None]:
    """Put the process back, after the body, as it was before."""
    with ExitStack() as undo:
        for save in SAVED:
            undo.callback(save())
        yield


def _environment() -> Undo:
    before = dict(os.environ)

    def undo() -> None:
        zone = os.environ.get("TZ")
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        for name, value in before.items():
            if os.environ.get(name) != value:
                os.environ[name] = value
        if zone != before.get("TZ"):
            time.tzset()

    return undo


def _directory() -> Undo:
    try:
        before = Path.cwd()
    except OSError:  # It was removed: there is nothing to return to.
        return lambda: None

    def undo() -> None:
        with suppress(OSError):
            os.chdir(before)

    return undo


def _numbers() -> Undo:
    """Seed `random` again if it was seeded, so that no two runs draw the same numbers. The state
    from before must not come back: the next run would draw this run's numbers again."""
    before = random.getstate()[1][:-1]  # The last number only counts what was drawn.

    def undo() -> None:
        if random.getstate()[1][:-1] != before:
            random.seed()

    return undo


def _timers() -> Undo:
    """A timer that rings later would end the process of the next run."""
    began = time.monotonic()
    before = {it: signal.getitimer(it) for it in TIMERS}

    def undo() -> None:
        passed = time.monotonic() - began
        for timer, (left, interval) in before.items():
            seconds = max(left - passed, 0.001) if left else 0
            signal.setitimer(timer, seconds, interval)

    return undo


SIGNALS = (
    signal.SIGALRM,
    signal.SIGCHLD,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGPIPE,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
"""Those that programs handle. To ask for all 64 would take half a millisecond."""

TIMERS = (signal.ITIMER_REAL,)
"""`signal.alarm` sets this one. The others count the time of the processor: no run is sure to
reach the end of theirs."""


def _signal_handlers() -> Undo:
    if threading.current_thread() is not threading.main_thread():
        return lambda: None  # Only the main thread can set a handler.
    before = {it: signal.getsignal(it) for it in SIGNALS}

    def undo() -> None:
        for number, handler in before.items():
            # None is a handler that is not Python's: it cannot be set again.
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)

    return undo


def _logging() -> Undo:
    """`logging.config.dictConfig` replaces handlers, and disables every logger that exists."""
    tree = logging.root.manager
    loggers = [it for it in tree.loggerDict.values() if isinstance(it, logging.Logger)]
    before = [
        (it, it.level, it.disabled, it.propagate, [*it.handlers], [*it.filters])
        for it in (logging.root, *loggers)
    ]
    disabled, factory = tree.disable, logging.getLogRecordFactory()

    def undo() -> None:
        logging.setLogRecordFactory(factory)
        for logger, level, silenced, propagate, handlers, filters in before:
            logger.level, logger.disabled, logger.propagate = level, silenced, propagate
            logger.handlers[:], logger.filters[:] = handlers, filters
        logging.disable(disabled)  # This also makes the loggers forget what they remember.

    return undo


def _output() -> Undo:
    """Standard output and standard error, which user code may close or replace."""
    streams = {"stdout": sys.stdout, "stderr": sys.stderr}
    copies: dict[int, int] = {}
    for number in (1, 2):
        with suppress(OSError):
            copies[number] = os.dup(number)

    def undo() -> None:
        for number, copy in copies.items():
            try:
                same = os.path.sameopenfile(number, copy)
            except OSError:
                same = False
            if not same:
                os.dup2(copy, number)
            os.close(copy)
        for number, (name, stream) in enumerate(streams.items(), 1):
            setattr(sys, name, _open_again(number) if _is_closed(stream) else stream)

    return undo


def _is_closed(stream: IO[str] | None) -> bool:
    return stream is not None and stream.closed


def _open_again(number: int) -> IO[str]:
    return open(
        number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )


def _interpreter() -> Undo:
    before = [(put, get()) for get, put in SETTINGS]

    def undo() -> None:
        for put, value in before:
            with suppress(Exception):  # A locale may be gone, a limit be out of reach.
                put(value)

    return undo


def _read_umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (sys.get_int_max_str_digits, sys.set_int_max_str_digits),
    (socket.getdefaulttimeout, socket.setdefaulttimeout),
    (_read_umask, os.umask),
    (lambda: locale.setlocale(locale.LC_ALL), lambda name: locale.setlocale(locale.LC_ALL, name)),
)
"""How to read a setting of the whole process, and how to set it."""


def _default_session() -> Undo:
    """boto3's default session, through which user code makes its clients."""
    before = clients.default_session()
    return lambda: clients.restore_default_session(before)


SAVED: tuple[Callable[[], Undo], ...] = (
    _default_session,
    _environment,
    _directory,
    _numbers,
    _signal_handlers,
    _timers,
    _logging,
    _output,
    _interpreter,
)
"""Each saves something and returns what restores it. They are restored in the opposite order: the
session after the environment, on which it depends."""


@contextmanager
def this_process_alone() -> Iterator[None]:
    """End a child process that user code has forked and that leaves the body. It must not go on as
    the worker: the run is its parent's. Its exit status is that of any Python program."""
    worker = os.getpid()
    try:
        yield
    except BaseException as error:
        if os.getpid() != worker:
            _end_child(error)
        raise
    if os.getpid() != worker:
        _end_child(None)


def _end_child(error: BaseException | None) -> None:
    status = 0 if error is None else 1
    try:
        if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
            status = error.code or 0
        elif error is not None:
            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status & 0xFF)
