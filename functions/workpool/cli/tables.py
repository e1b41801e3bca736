"""How runs, pools and statistics look on a terminal. `terminal` cleans what others wrote."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from workpool.cli.terminal import console, plain
from workpool.client import RunStatus

STYLES = {
    "enqueued": "cyan",
    "scheduled": "yellow",
    "running": "bold blue",
    "success": "green",
    "failed": "bold red",
    "canceled": "magenta",
    "unknown": "dim",
}


def state(status: RunStatus) -> str:
    """The kind of an open run, or the result of an ended one."""
    return status.result["type"] if status.result else status.kind


def _state(status: RunStatus) -> Text:
    return Text(plain(state(status)), style=STYLES.get(state(status), ""))


def clock_time(ms: int) -> str:
    """A time in the local zone."""
    return datetime.fromtimestamp(ms / 1000).strftime("%Y-%m-%d %H:%M:%S")


def span(ms: float) -> str:
    """A length of time, rounded so that it is quick to read."""
    if ms < 1000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h"


def run_details(status: RunStatus, now_ms: int) -> RenderableType:
    """All about one run: one line for each field that applies."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim")
    rows.add_column(overflow="fold")
    rows.add_row("run", plain(status.run_id))
    rows.add_row("state", _state(status))
    for name, value in _details(status, now_ms):
        rows.add_row(name, plain(value))
    for number, attempt in enumerate(status.attempts or (), 1):
        text = ", ".join(f"{name} {value}" for name, value in attempt.items())
        rows.add_row(f"attempt {number}", plain(text))
    return rows


def _details(status: RunStatus, now_ms: int) -> Iterable[tuple[str, object]]:
    details: dict[str, object] = {
        "pool": status.pool,
        "action": status.action,
        "retries": status.retries,
        "annotation": status.annotation,
        "enqueued": status.enqueued_at and _ago(status.enqueued_at, now_ms),
        "next run": status.next_run and _from_now(status.next_run, now_ms),
        "finished": status.finished_at and _ago(status.finished_at, now_ms),
        "value": _json((status.result or {}).get("returnValue")),
        "error": (status.result or {}).get("error"),
        "completion": status.completion,
        "completion error": status.completion_error,
        "args": _json(status.args),
        "context": _json(status.context),
    }
    return ((name, value) for name, value in details.items() if value is not None)


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _ago(ms: int, now_ms: int) -> str:
    return f"{clock_time(ms)}, {span(max(0, now_ms - ms))} ago"


def _from_now(ms: int, now_ms: int) -> str:
    return f"{clock_time(ms)}, {_time_until(ms, now_ms)}"


def _time_until(ms: int, now_ms: int) -> str:
    return f"in {span(ms - now_ms)}" if ms > now_ms else "due"


def runs(statuses: Iterable[RunStatus], now_ms: int, *, expand: bool = False) -> Table:
    """Runs as a table, one per line. `age` is the run's age now, or at its end. With `expand` the
    table is as wide as the terminal, and the last column is cut there."""
    table = _table("run", "state", "action", "retries", "age")
    table.expand = expand
    table.add_column("about", no_wrap=True, overflow="ellipsis", ratio=1)
    for status in statuses:
        table.add_row(
            plain(status.run_id),
            _state(status),
            plain(status.action or ""),
            plain(status.retries if status.retries is not None else ""),
            _age(status, now_ms),
            plain(_summary(status, now_ms)),
        )
    return table


def _age(status: RunStatus, now_ms: int) -> str:
    if status.enqueued_at is None:
        return ""
    return span(max(0, (status.finished_at or now_ms) - status.enqueued_at))


def _summary(status: RunStatus, now_ms: int) -> str:
    """What is most important about a run, besides its state."""
    parts = [
        f"completion {status.completion}: {status.completion_error}"
        if status.completion_error
        else "",
        (status.result or {}).get("error") or "",
        _time_until(status.next_run, now_ms) if status.next_run else "",
        status.annotation or "",
    ]
    return "; ".join(part for part in parts if part)


def pools(shapes: Iterable[Mapping[str, Any]]) -> Table:
    """Pools as a table, one per line."""
    table = _table("pool", "state", "maxParallelism", "dead letters")
    for pool in shapes:
        letters = pool["deadLetters"]
        table.add_row(
            pool["name"],
            pool_state(pool),
            str(pool["maxParallelism"]),
            Text(plain(letters), style="bold red" if letters else ""),
        )
    return table


def pool_state(pool: Mapping[str, Any]) -> Text:
    """Whether the pool is paused, and whether cancelAll is at work."""
    text = Text("paused", style="yellow") if pool["paused"] else Text("running", style="green")
    return text.append(", canceling", style="magenta") if "cancelingBefore" in pool else text


def stats(values: Mapping[str, Any]) -> Table:
    """A pool's statistics, one per line."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim")
    rows.add_column()
    rows.add_row("pending", str(values["pending"]))
    rows.add_row(
        "oldest pending", span(values["oldestPending"]) if values["oldestPending"] else "-"
    )
    rows.add_row(f"attempts in {span(values['statsWindowMs'])}", str(values["recentExecutions"]))
    rows.add_row("of them failed", f"{values['recentErrorRate']:.1%}")
    rows.add_row("runs failed for good", f"{values['recentPermanentFailureRate']:.1%}")
    rows.add_row("mean time to the end", span(values["recentJobAverageMs"]))
    return rows


def _table(*headers: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for header in headers:
        table.add_column(header, no_wrap=True, overflow="fold")
    return table


@contextmanager
def progress(done: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar for work that may take long: on standard error, and only if that is a
    terminal. `done` is the word for what has been done."""
    terminal = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns,
        TimeElapsedColumn(),
        console=terminal,
        transient=True,
        disable=not terminal.is_terminal or total == 1,
    ) as bar:
        task = bar.add_task(done, total=total)
        yield lambda completed: bar.update(task, completed=completed)
