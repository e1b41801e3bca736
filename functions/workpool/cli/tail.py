"""Watch a pool: what it is doing, which runs have waited longest, which runs have just ended.

A refresh takes four or five requests, however many runs the pool has: it reads only the oldest open
runs.
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
from workpool.cli.picture import save_svg
from workpool.cli.terminal import PlainConsole, plain
from workpool.client import IdempotentWorkpool, RunStatus
from workpool.core import clock
from workpool.errors import UnknownPool

MAX_RUNS = 100
"""How many open runs a refresh reads: one page of the API."""

MAX_OLDEST_SHOWN = 8
MAX_ENDED_SHOWN = 6

PICTURE_WIDTH = 100  # columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A pool at one moment."""

    at_ms: int
    pool: dict[str, Any]
    stats: dict[str, Any]
    runs: list[RunStatus]
    """The oldest open runs."""
    ended: list[RunStatus]
    """Runs of the snapshot before this that have ended since."""

    @property
    def is_partial(self) -> bool:
        """Whether the pool has more open runs than were read: then a count of them is partial."""
        return len(self.runs) == MAX_RUNS and self.stats["pending"] > MAX_RUNS

    def shape(self) -> dict[str, Any]:
        return {
            "at": self.at_ms,
            "pool": self.pool,
            "stats": self.stats,
            "runs": [status.shape() for status in self.runs],
            "ended": [status.shape() for status in self.ended],
        }


class Tail:
    """Takes snapshots of one pool and shows them. Remembers the runs that have just ended."""

    def __init__(self, pool: IdempotentWorkpool) -> None:
        self._pool = pool
        self._open: dict[str, RunStatus] = {}
        self._ended: list[RunStatus] = []

    def take_snapshot(self) -> Snapshot:
        """Read the pool now. Raises UnknownPool."""
        runs = list(islice(self._pool.runs(fetch=False), MAX_RUNS))
        pools = {pool["name"]: pool for pool in self._pool.pools()}
        if self._pool.pool not in pools:
            raise UnknownPool(f"no pool {self._pool.pool!r}; deployed are: {', '.join(pools)}")
        gone = self._open.keys() - {run.run_id for run in runs}
        statuses = self._pool.status_batch(sorted(gone), fetch=False)
        ended = [status for status in statuses if status.ended]
        self._open = {run.run_id: run for run in runs}
        self._ended += sorted(ended, key=lambda status: status.finished_at or 0)
        return Snapshot(
            at_ms=clock.now_ms(),
            pool=pools[self._pool.pool],
            stats=self._pool.stats(),
            runs=runs,
            ended=ended,
        )

    def picture(self, snapshot: Snapshot) -> RenderableType:
        """The pool and its numbers, below them the oldest open runs, then the runs that have just
        ended."""
        oldest = tables.runs(snapshot.runs[:MAX_OLDEST_SHOWN], snapshot.at_ms, expand=True)
        del self._ended[:-MAX_ENDED_SHOWN]
        return Group(
            Panel(_numbers(snapshot), title=Text(plain(f"pool {snapshot.pool['name']}"))),
            Panel(
                oldest if snapshot.runs else Text("none", style="dim"), title="Open, oldest first"
            ),
            Panel(
                tables.runs(reversed(self._ended), snapshot.at_ms, expand=True)
                if self._ended
                else Text("nothing since this began", style="dim"),
                title="Ended, newest first",
            ),
            Text(f"{tables.clock_time(snapshot.at_ms)}  Ctrl-C ends it", style="dim"),
        )

    @contextmanager
    def display(self, console: Console, *, as_json: bool) -> Iterator[Callable[[Snapshot], None]]:
        """Gives a function that shows a snapshot: as a live picture on a terminal, else as a
        line."""
        if as_json:
            yield lambda snapshot: print(json.dumps(snapshot.shape()), flush=True)
        elif not console.is_terminal:
            yield lambda snapshot: print(plain(line(snapshot)), flush=True)
        else:
            with Live(console=console, auto_refresh=False, screen=True) as live:
                yield lambda snapshot: live.update(self.picture(snapshot), refresh=True)

    def save_picture(self, snapshot: Snapshot, path: Path) -> None:
        """Save the picture of a snapshot as an SVG."""
        recorder = PlainConsole(
            record=True, file=StringIO(), width=PICTURE_WIDTH, force_terminal=True
        )
        recorder.print(self.picture(snapshot))
        save_svg(recorder, path, title=f"workpool tail -p {self._pool.pool}")


def line(snapshot: Snapshot) -> str:
    """The snapshot as one line, for output that is not a terminal."""
    kinds = _count_kinds(snapshot.runs)
    pool, stats = snapshot.pool, snapshot.stats
    counted = f" (of the oldest {len(snapshot.runs)} runs)" if snapshot.is_partial else ""
    return (
        f"{tables.clock_time(snapshot.at_ms)}  {tables.pool_state(pool).plain}  "
        f"{stats['pending']} pending, {kinds['running']} of {pool['maxParallelism']} slots"
        f"{counted}, "
        f"oldest {tables.span(stats['oldestPending'])}, {stats['recentErrorRate']:.1%} of "
        f"{stats['recentExecutions']} attempts failed, {pool['deadLetters']} dead letters, "
        f"{len(snapshot.ended)} ended"
    )


def _count_kinds(runs: Iterable[RunStatus]) -> Counter[str]:
    return Counter(run.kind for run in runs)


def _numbers(snapshot: Snapshot) -> Table:
    columns = Table.grid(expand=True, padding=(0, 2))
    columns.add_column(ratio=1)
    columns.add_column(ratio=1)
    columns.add_row(_slots(snapshot), tables.stats(snapshot.stats))
    return columns


def _slots(snapshot: Snapshot) -> Table:
    """What the open runs of the snapshot are doing, and how many of the pool's slots they use."""
    kinds = _count_kinds(snapshot.runs)
    limit = snapshot.pool["maxParallelism"]
    total = max(1, len(snapshot.runs))
    rows = Table.grid(padding=(0, 1), expand=True)
    rows.add_column(min_width=14)
    rows.add_column(justify="right", min_width=7)
    rows.add_column(ratio=1)
    rows.add_row("state", "", tables.pool_state(snapshot.pool))
    used = kinds["running"]
    rows.add_row("slots in use", f"{used}/{limit}", ProgressBar(total=limit, completed=used))
    for kind in ("enqueued", "scheduled"):
        style = tables.STYLES[kind]
        bar = ProgressBar(
            total=total, completed=kinds[kind], complete_style=style, finished_style=style
        )
        rows.add_row(Text(kind, style=style), str(kinds[kind]), bar)
    letters = snapshot.pool["deadLetters"]
    rows.add_row("dead letters", Text(plain(letters), style="bold red" if letters else ""), "")
    if snapshot.is_partial:
        rows.add_row("", "", Text(f"counted among the oldest {len(snapshot.runs)}", style="dim"))
    return rows
