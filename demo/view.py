"""How the demo looks: a live table on a terminal, plain lines elsewhere. Shows, decides nothing."""

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
    """The view of one story. `show` is called as often as there is something new."""

    def __init__(self, console: Console, story: Story) -> None:
        self._console = console
        self._story = story
        self._began = time.monotonic()
        self._live: Live | None = None
        self._next_line = 0.0
        self._last_line = ""
        self._told = 0
        self.last: RenderableType | None = None
        """The last picture that was shown, or would have been."""

    @contextmanager
    def open(self) -> Iterator["View"]:
        """Show until the end; the last picture stays."""
        if not self._console.is_terminal:
            yield self
            return
        with Live(console=self._console, refresh_per_second=8) as self._live:
            yield self

    def show(self, counts: Counts, seen: dict[str, Any]) -> None:
        self.last = self.picture(counts, seen)
        if self._live is not None:
            self._live.update(self.last)
            return
        for note in self._story.notes[self._told :]:
            self._console.print(f"  * {note}", soft_wrap=True)
        self._told = len(self._story.notes)
        line = self._line(counts, seen)
        if line != self._last_line and (counts.over or time.monotonic() >= self._next_line):
            self._next_line = time.monotonic() + PLAIN_EVERY_S
            self._last_line = line
            self._console.print(f"{self._age():4.0f} s  {line}", soft_wrap=True)

    def _age(self) -> float:
        return time.monotonic() - self._began

    def picture(self, counts: Counts, seen: dict[str, Any]) -> RenderableType:
        """Runs on the left, the provider on the right, what happened below."""
        both = Table.grid(expand=True, padding=(0, 1))
        both.add_column(ratio=1)
        both.add_column(ratio=1)
        both.add_row(
            Panel(self._runs(counts), title="Runs"),
            Panel(self._provider(seen), title="Payment provider, as it sees it"),
        )
        notes = Text("\n".join(f"* {it}" for it in self._story.notes[-NOTES_SHOWN:]) or " ")
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

    def _provider(self, seen: dict[str, Any]) -> Table:
        rows = Table.grid(padding=(0, 1))
        rows.add_column(min_width=26)
        rows.add_column()
        rows.add_row("state", Text(seen["mood"], style=MOODS.get(seen["mood"], "bold red")))
        for name, shown in (
            ("requests", "requests"),
            ("at_once", "at once, now"),
            ("most_at_once", "at once, at most"),
            ("dropped", "dropped"),
            ("answers_lost", "charged, answer lost"),
            ("repeated", "repeated, not charged again"),
        ):
            rows.add_row(shown, str(seen[name]))
        rows.add_row("charges", Text(str(len(seen["charges"])), style="bold green"))
        return rows

    def _line(self, counts: Counts, seen: dict[str, Any]) -> str:
        kinds = ", ".join(f"{counts.kinds[kind]} {kind}" for kind in KINDS)
        return (
            f"{kinds}; {counts.retries} retries | "
            f"provider {seen['mood']}: {seen['requests']} requests, {seen['at_once']} at once "
            f"(at most {seen['most_at_once']}), {len(seen['charges'])} charges"
        )


def verdict(console: Console, checks: Sequence[Check]) -> None:
    """The claims with their numbers, each ticked or crossed."""
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
