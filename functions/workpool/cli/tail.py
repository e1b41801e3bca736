"""A pool, looked at again and again: what it is doing, what waits longest, what just ended.

A look costs four or five requests, whatever the pool holds: it sees the oldest open runs only.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from workpool.cli import tables
from workpool.client import IdempotentWorkpool, RunStatus
from workpool.core import clock
from workpool.errors import UnknownPool

SEEN = 100
"""Open runs in a look: a page of the API."""

OLDEST_SHOWN = 8
ENDED_SHOWN = 6

WIDTH = 100
"""Of a saved picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A pool at one moment."""

    at_ms: int
    pool: dict[str, Any]
    stats: dict[str, Any]
    runs: list[RunStatus]
    """The oldest open ones."""
    ended: list[RunStatus]
    """Those of the last look that have ended since."""

    def shape(self) -> dict[str, Any]:
        return {
            "at": self.at_ms,
            "pool": self.pool,
            "stats": self.stats,
            "runs": [it.shape() for it in self.runs],
            "ended": [it.shape() for it in self.ended],
        }


class Tail:
    """The looks at one pool, and what of them is still to be shown."""

    def __init__(self, pool: IdempotentWorkpool) -> None:
        self._pool = pool
        self._open: dict[str, RunStatus] = {}
        self._ended: list[RunStatus] = []

    def look(self) -> Look:
        """Look now. Raises UnknownPool."""
        runs = list(islice(self._pool.runs(fetch=False), SEEN))
        pools = {it["name"]: it for it in self._pool.pools()}
        if self._pool.pool not in pools:
            raise UnknownPool(f"no pool {self._pool.pool!r}; there are {', '.join(pools)}")
        gone = self._open.keys() - {it.run_id for it in runs}
        ended = [it for it in self._pool.status_batch(sorted(gone), fetch=False) if it.ended]
        self._open = {it.run_id: it for it in runs}
        self._ended += sorted(ended, key=lambda it: it.finished_at or 0)
        return Look(
            at_ms=clock.now_ms(),
            pool=pools[self._pool.pool],
            stats=self._pool.stats(),
            runs=runs,
            ended=ended,
        )

    def picture(self, look: Look) -> RenderableType:
        """The pool and its numbers above, then the oldest open runs, then what just ended."""
        waiting = tables.runs(look.runs[:OLDEST_SHOWN], look.at_ms, expand=True)
        del self._ended[:-ENDED_SHOWN]
        return Group(
            Panel(_numbers(look), title=Text(f"pool {look.pool['name']}")),
            Panel(waiting if look.runs else Text("none", style="dim"), title="Open, oldest first"),
            Panel(
                tables.runs(reversed(self._ended), look.at_ms, expand=True)
                if self._ended
                else Text("nothing since this began", style="dim"),
                title="Ended, newest first",
            ),
            Text(f"{tables.clock_time(look.at_ms)}  Ctrl-C ends it", style="dim"),
        )

    @contextmanager
    def shown(self, console: Console, *, as_json: bool) -> Iterator[Callable[[Look], None]]:
        """How looks are shown: a live picture, or a line each where there is no terminal."""
        if as_json:
            yield lambda look: print(json.dumps(look.shape()), flush=True)
        elif not console.is_terminal:
            yield lambda look: print(line(look), flush=True)
        else:
            with Live(console=console, auto_refresh=False, screen=True) as live:
                yield lambda look: live.update(self.picture(look), refresh=True)

    def save(self, look: Look, path: Path) -> None:
        """The picture of a look as an SVG."""
        recorder = Console(record=True, file=StringIO(), width=WIDTH, force_terminal=True)
        recorder.print(self.picture(look))
        recorder.save_svg(str(path), title=f"workpool tail -p {self._pool.pool}")


def line(look: Look) -> str:
    """The look as one line, for what is no terminal."""
    kinds = _kinds(look.runs)
    stats = look.stats
    return (
        f"{tables.clock_time(look.at_ms)}  {tables.pool_state(look.pool).plain}  "
        f"{stats['pending']} pending, {kinds['running']} of {look.pool['maxParallelism']} slots, "
        f"oldest {tables.span(stats['oldestPending'])}, {stats['recentErrorRate']:.1%} of "
        f"{stats['recentExecutions']} attempts failed, {look.pool['deadLetters']} dead letters, "
        f"{len(look.ended)} ended"
    )


def _kinds(runs: Iterable[RunStatus]) -> Counter[str]:
    return Counter(it.kind for it in runs)


def _numbers(look: Look) -> Table:
    both = Table.grid(expand=True, padding=(0, 2))
    both.add_column(ratio=1)
    both.add_column(ratio=1)
    both.add_row(_slots(look), tables.stats(look.stats))
    return both


def _slots(look: Look) -> Table:
    """What the open runs that were seen are doing, and how much of the pool that takes."""
    kinds = _kinds(look.runs)
    limit = look.pool["maxParallelism"]
    seen = max(1, len(look.runs))
    rows = Table.grid(padding=(0, 1), expand=True)
    rows.add_column(min_width=14)
    rows.add_column(justify="right", min_width=7)
    rows.add_column(ratio=1)
    rows.add_row("state", "", tables.pool_state(look.pool))
    used = kinds["running"]
    rows.add_row("slots in use", f"{used}/{limit}", ProgressBar(total=limit, completed=used))
    for kind in ("enqueued", "scheduled"):
        style = tables.STYLES[kind]
        bar = ProgressBar(
            total=seen, completed=kinds[kind], complete_style=style, finished_style=style
        )
        rows.add_row(Text(kind, style=style), str(kinds[kind]), bar)
    letters = look.pool["deadLetters"]
    rows.add_row("dead letters", Text(str(letters), style="bold red" if letters else ""), "")
    if look.stats["pending"] > len(look.runs):
        rows.add_row("", "", Text(f"counted among the oldest {len(look.runs)}", style="dim"))
    return rows
