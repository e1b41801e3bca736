"""How runs and pools look on a terminal. What others wrote (names, annotations, errors) is shown
without its control characters."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

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
PIPE_WIDTH = 500
"""Of a line that goes to a program: nothing is cut or wrapped for it."""


def console(*, stderr: bool = False) -> Console:
    """The terminal, or the pipe: there tables are plain columns."""
    found = Console(stderr=stderr, highlight=False, markup=False)
    if not found.is_terminal:
        found.width = PIPE_WIDTH
    return found


def plain(text: object) -> str:
    """The text on one line; what could steer the terminal is a question mark."""
    return "".join(it if it.isprintable() else " " if it == "\n" else "?" for it in str(text))


def state(status: RunStatus) -> str:
    """The kind of a run, or how it ended."""
    return status.result["type"] if status.result else status.kind


def clock_time(ms: int) -> str:
    """A time in the local zone."""
    return datetime.fromtimestamp(ms / 1000).strftime("%Y-%m-%d %H:%M:%S")


def span(ms: float) -> str:
    """A length of time to the precision that one reads it with."""
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


def about(status: RunStatus, now_ms: int) -> RenderableType:
    """One run, a line for each thing that is known of it."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim")
    rows.add_column(overflow="fold")
    rows.add_row("run", status.run_id)
    rows.add_row("state", Text(state(status), style=STYLES[state(status)]))
    for name, text in _facts(status, now_ms):
        rows.add_row(name, plain(text))
    for number, attempt in enumerate(status.attempts or (), 1):
        rows.add_row(f"attempt {number}", plain(", ".join(f"{k} {v}" for k, v in attempt.items())))
    return rows


def _facts(status: RunStatus, now_ms: int) -> Iterable[tuple[str, object]]:
    facts: dict[str, object] = {
        "pool": status.pool,
        "action": status.action,
        "retries": status.retries,
        "annotation": status.annotation,
        "enqueued": status.enqueued_at and _ago(status.enqueued_at, now_ms),
        "next run": status.next_run and _ahead(status.next_run, now_ms),
        "finished": status.finished_at and _ago(status.finished_at, now_ms),
        "value": _json((status.result or {}).get("returnValue")),
        "error": (status.result or {}).get("error"),
        "completion": status.completion,
        "its error": status.completion_error,
        "args": _json(status.args),
        "context": _json(status.context),
    }
    return ((name, fact) for name, fact in facts.items() if fact is not None)


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _ago(ms: int, now_ms: int) -> str:
    return f"{clock_time(ms)}, {span(max(0, now_ms - ms))} ago"


def _ahead(ms: int, now_ms: int) -> str:
    return f"{clock_time(ms)}, {_when(ms, now_ms)}"


def _when(ms: int, now_ms: int) -> str:
    return f"in {span(ms - now_ms)}" if ms > now_ms else "due"


def runs(them: Iterable[RunStatus], now_ms: int, *, expand: bool = False) -> Table:
    """Runs as a table, one a line; `age` is how old it is, or was at its end. With `expand` it is
    as wide as the terminal, and what is told last is cut there."""
    table = _table("run", "state", "action", "retries", "age")
    table.expand = expand
    table.add_column("about", no_wrap=True, overflow="ellipsis", ratio=1)
    for it in them:
        table.add_row(
            Text(it.run_id),
            Text(state(it), style=STYLES[state(it)]),
            Text(plain(it.action or "")),
            str(it.retries if it.retries is not None else ""),
            _age(it, now_ms),
            Text(plain(_about(it, now_ms))),
        )
    return table


def _age(status: RunStatus, now_ms: int) -> str:
    if status.enqueued_at is None:
        return ""
    return span(max(0, (status.finished_at or now_ms) - status.enqueued_at))


def _about(status: RunStatus, now_ms: int) -> str:
    """What one most wants to know of a run, beside its state."""
    error = (status.result or {}).get("error")
    told = [
        f"completion {status.completion}: {status.completion_error}"
        if status.completion_error
        else "",
        error or "",
        _when(status.next_run, now_ms) if status.next_run else "",
        status.annotation or "",
    ]
    return "; ".join(it for it in told if it)


def pools(them: Iterable[Mapping[str, Any]]) -> Table:
    """Pools as a table, one a line."""
    table = _table("pool", "state", "maxParallelism", "dead letters")
    for it in them:
        letters = it["deadLetters"]
        table.add_row(
            it["name"],
            pool_state(it),
            str(it["maxParallelism"]),
            Text(str(letters), style="bold red" if letters else ""),
        )
    return table


def pool_state(pool: Mapping[str, Any]) -> Text:
    """Whether it runs, and whether cancelAll is at work."""
    text = Text("paused", style="yellow") if pool["paused"] else Text("running", style="green")
    return text.append(", canceling", style="magenta") if "cancelingBefore" in pool else text


def stats(them: Mapping[str, Any]) -> Table:
    """A pool's statistics, one a line."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim")
    rows.add_column()
    for name, text in told_stats(them).items():
        rows.add_row(name, text)
    return rows


def told_stats(them: Mapping[str, Any]) -> dict[str, str]:
    """Statistics in words."""
    return {
        "pending": str(them["pending"]),
        "oldest pending": span(them["oldestPending"]) if them["oldestPending"] else "-",
        f"attempts in {span(them['statsWindowMs'])}": str(them["recentExecutions"]),
        "of them failed": f"{them['recentErrorRate']:.1%}",
        "runs failed for good": f"{them['recentPermanentFailureRate']:.1%}",
        "mean time to the end": span(them["recentJobAverageMs"]),
    }


def _table(*heads: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for head in heads:
        table.add_column(head, no_wrap=True, overflow="fold")
    return table


@contextmanager
def progress(done: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar for what may take long, on a terminal alone, and not on standard output."""
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
