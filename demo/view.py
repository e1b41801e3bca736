"""Show the demo: a live table on a terminal, plain lines elsewhere. It decides nothing."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from demo.checks import Check
from demo.story import Counts, Story

PLAIN_EVERY_S = 3.0
NOTES_SHOWN = 4
MOODS = {"healthy": "green"}
KINDS = ("enqueued", "scheduled", "running", "completed", "canceled")
STYLES = {
    "enqueued": "cyan",
    "scheduled": "yellow",
    "running": "bold blue",
    "completed": "green",
    "canceled": "magenta",
}


class View:
    """The view of one story. `show` may be called as often as anything changes."""

    def __init__(self, console: Console, story: Story) -> None:
        self._console = console
        self._story = story
        self._began = time.monotonic()
        self._live: Live | None = None
        self._next_line = 0.0
        self._last_line = ""
        self._notes_shown = 0
        self.last: RenderableType | None = None
        """The last picture: shown on a terminal, and kept elsewhere, too."""

    @contextmanager
    def open(self) -> Iterator["View"]:
        """Show until the end. The last picture stays on the terminal."""
        if not self._console.is_terminal:
            yield self
            return
        with Live(console=self._console, refresh_per_second=8) as self._live:
            yield self

    def show(self, counts: Counts, ledger: dict[str, Any]) -> None:
        self.last = self.picture(counts, ledger)
        if self._live is not None:
            self._live.update(self.last)
            return
        for note in self._story.notes[self._notes_shown :]:
            self._console.print(f"  * {note}", soft_wrap=True)
        self._notes_shown = len(self._story.notes)
        line = self._line(counts, ledger)
        if line != self._last_line and (counts.over or time.monotonic() >= self._next_line):
            self._next_line = time.monotonic() + PLAIN_EVERY_S
            self._last_line = line
            self._console.print(f"{self._age():4.0f} s  {line}", soft_wrap=True)

    def _age(self) -> float:
        return time.monotonic() - self._began

    def picture(self, counts: Counts, ledger: dict[str, Any]) -> RenderableType:
        """The runs on the left, the provider on the right, the notes below."""
        both = Table.grid(expand=True, padding=(0, 1))
        both.add_column(ratio=1)
        both.add_column(ratio=1)
        both.add_row(
            Panel(self._runs(counts), title="Runs"),
            Panel(self._provider(ledger), title="Payment provider's own counts"),
        )
        notes = Text("\n".join(f"* {note}" for note in self._story.notes[-NOTES_SHOWN:]) or " ")
        return Group(both, Panel(notes, title=f"{self._age():.0f} s"))

    def _runs(self, counts: Counts) -> Table:
        rows = Table.grid(padding=(0, 1), expand=True)
        rows.add_column(min_width=16)
        rows.add_column(justify="right", min_width=4)
        rows.add_column(ratio=1)
        total = len(self._story.orders)
        for kind in KINDS:
            number = counts.kinds[kind]
            bar = ProgressBar(total=total, completed=number, complete_style=STYLES[kind])
            rows.add_row(Text(kind, style=STYLES[kind]), str(number), bar)
        slots = self._story.max_parallelism
        used = counts.kinds["running"]
        rows.add_row("slots in use", f"{used}/{slots}", ProgressBar(total=slots, completed=used))
        rows.add_row("retries", str(counts.retries), "")
        rows.add_row("completions due", str(counts.completions_pending), "")
        return rows

    def _provider(self, ledger: dict[str, Any]) -> Table:
        rows = Table.grid(padding=(0, 1))
        rows.add_column(min_width=26)
        rows.add_column()
        rows.add_row("state", Text(ledger["mood"], style=MOODS.get(ledger["mood"], "bold red")))
        for name, shown in (
            ("requests", "requests"),
            ("at_once", "at once, now"),
            ("most_at_once", "at once, at most"),
            ("dropped", "dropped"),
            ("answers_lost", "charged, answer lost"),
            ("repeated", "repeated, not charged again"),
        ):
            rows.add_row(shown, str(ledger[name]))
        rows.add_row("charges", Text(str(len(ledger["charges"])), style="bold green"))
        return rows

    def _line(self, counts: Counts, ledger: dict[str, Any]) -> str:
        kinds = ", ".join(f"{counts.kinds[kind]} {kind}" for kind in KINDS)
        return (
            f"{kinds}; {counts.retries} retries | "
            f"provider {ledger['mood']}: {ledger['requests']} requests, "
            f"{ledger['at_once']} at once (at most {ledger['most_at_once']}), "
            f"{len(ledger['charges'])} charges"
        )


def print_verdict(console: Console, checks: Sequence[Check]) -> None:
    """Print each claim with its numbers, and whether it held."""
    console.print()
    for check in checks:
        mark, style = ("✓", "green") if check.held else ("✗", "bold red")
        console.print(
            Text.assemble((f"{mark} {check.claim}", style), f"\n    {check.numbers}"),
            soft_wrap=True,
        )
    broken = [check.claim for check in checks if not check.held]
    console.print()
    if broken:
        console.print(Text("Broken: " + "; ".join(broken), style="bold red"))
    else:
        console.print(Text(f"All {len(checks)} claims hold.", style="bold green"))
