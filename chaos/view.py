"""Show chaos: a live picture on a terminal, plain lines elsewhere, and the report at the end.

It decides nothing.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from chaos.checks import Check
from chaos.monkey import Done, Monkey

PLAIN_EVERY_S = 10.0
DONE_SHOWN = 8
BREACHES_SHOWN = 10


class View:
    """The view of one chaos run. `show` may be called as often as anything changes."""

    def __init__(self, console: Console, monkey: Monkey, *, title: str) -> None:
        self._console = console
        self._monkey = monkey
        self._title = title
        self._began = time.monotonic()
        self._live: Live | None = None
        self._next_line = 0.0
        self._faults_shown = 0

    @contextmanager
    def open(self) -> Iterator["View"]:
        """Show until the end. The last picture stays on the terminal."""
        if not self._console.is_terminal:
            yield self
            return
        with Live(console=self._console, refresh_per_second=4) as self._live:
            yield self

    def show(self, line: str) -> None:
        """Show a line about what is going on, and the monkey's faults."""
        if self._live is not None:
            self._live.update(self._picture(line))
            return
        for done in self._monkey.done[self._faults_shown :]:
            self._faults_shown += 1
            self._console.print(f"  * {_fault_line(done)}", soft_wrap=True, markup=False)
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + PLAIN_EVERY_S
            self._console.print(f"{self._age():4.0f} s  {line}", soft_wrap=True, markup=False)

    def _age(self) -> float:
        return time.monotonic() - self._began

    def _picture(self, line: str) -> RenderableType:
        done = self._monkey.done[-DONE_SHOWN:]
        notes = Text("\n".join(map(_fault_line, done)) or " ")
        hits = _hits(self._monkey.hits)
        return Panel(
            Group(Text(line, style="bold"), Text(), hits, Text(), notes),
            title=f"{self._title}, {self._age():.0f} s",
        )


def print_report(console: Console, *, seed: int, monkey: Monkey, checks: Sequence[Check]) -> None:
    """Print the faults and the invariants with their numbers, and the verdict."""
    console.print()
    for name in sorted({*monkey.hits, *monkey.misses}):
        missed = f" ({monkey.misses[name]} found nothing)" if monkey.misses[name] else ""
        console.print(
            f"  {_word(name):14}{monkey.hits[name]:5}{missed}", soft_wrap=True, highlight=False
        )
    console.print()
    for check in checks:
        mark, style = ("✓", "green") if check.held else ("✗", "bold red")
        console.print(
            Text.assemble((f"{mark} {check.name} {check.claim}", style), f"\n    {check.numbers}"),
            soft_wrap=True,
        )
        for breach in check.breaches[:BREACHES_SHOWN]:
            console.print(Text(f"    ! {breach}", style="red"), soft_wrap=True)
        if (more := len(check.breaches) - BREACHES_SHOWN) > 0:
            console.print(Text(f"    ! and {more} more", style="red"))
    console.print()
    broken = [check.name for check in checks if not check.held]
    verdict = f"Broken: {', '.join(broken)}" if broken else "Every invariant held."
    style = "bold red" if broken else "bold green"
    console.print(Text(f"{verdict} Seed {seed}.", style=style), soft_wrap=True)


def _hits(hits: Counter[str]) -> Columns:
    return Columns(
        [Text.assemble((str(n), "bold"), f" {_word(name)}") for name, n in sorted(hits.items())],
        padding=(0, 2),
    )


def _word(name: str) -> str:
    return name.replace("_", " ")


def _fault_line(done: Done) -> str:
    return f"{done.at:5.1f} s  {done.note}"
