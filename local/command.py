"""How a command of this project ends: on Ctrl-C, on SIGTERM, and on an error that a person can fix.

It knows nothing of what the commands do. `python -m local`, `python -m demo` and `python -m chaos`
run through it.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console

from local.errors import LocalError


def run_command(command: Callable[[], object]) -> None:
    """Run a command line. A LocalError becomes one message on stderr and exit code 1."""
    with sigterm_as_ctrl_c():
        try:
            command()
        except LocalError as error:
            Console(stderr=True, highlight=False, soft_wrap=True).print(str(error), markup=False)
            sys.exit(1)


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, so that it also stops whatever was started."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
