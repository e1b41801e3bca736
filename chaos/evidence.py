"""The evidence: what was promised, what the HTTP API tells, what the actions wrote down and what
the watchers saw, put together once all is over. Decides nothing.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from chaos.load import Submitted
from chaos.monkey import Canceled, CanceledAll, Killed, Limited, Monkey
from chaos.plan import POOLS
from chaos.rest import Left
from chaos.stage import LEDGER, Stage, bare
from chaos.watch import Change, Life, Seen

CONSUMER_MARGIN_S = 10
"""What a consumer's timeout is above its action's: after it the process is surely ended."""

LOADING_NS = 5_000_000_000
"""Between an invocation's begin and its action's, in a process that stands."""

SLACK_NS = 1_500_000_000
"""Between an action's start in the ledger and its invocation's, and for the emulator to kill."""


@dataclass(kw_only=True)
class Start:
    """One attempt of an action, by its own words. Times are epoch nanoseconds. It surely ran from
    `at` to `until`, and surely no longer than to `latest`. Lambda let its invocation begin at
    `let` at the earliest."""

    run_id: str
    pool: str
    label: str
    retries: int
    pid: int
    at: int
    end: int | None = None
    outcome: str | None = None
    attempt: str = ""
    until: int = 0
    latest: int = 0
    let: int = 0


@dataclass(kw_only=True)
class Evidence:
    """Everything there is to judge by."""

    submitted: Sequence[Submitted]
    statuses: Mapping[tuple[str, str], dict[str, Any]]
    """The last status of each run that there is, by pool and run id."""
    history: Mapping[tuple[str, str], Sequence[Seen]]
    """All the statuses that were seen of it."""
    table: Mapping[str, str]
    """Keys of all runs in the table, and the label in their arguments."""
    starts: Sequence[Start]
    effects: Mapping[str, tuple[int, str]]
    """By run id: how often the handler's transaction took effect, and with what result."""
    calls: Mapping[str, int]
    """By run id: how often the handler was called."""
    changes: Mapping[str, Sequence[Change]]
    dues: Mapping[tuple[str, int], int]
    canceled: Sequence[Canceled]
    canceled_all: Sequence[CanceledAll]
    limited: Sequence[Limited]
    redriven: Sequence[tuple[str, float]]
    restarts: Sequence[tuple[float, float]]
    stats: Mapping[str, dict[str, Any]]
    """By pool."""
    left: Left


def gather(
    *,
    stage: Stage,
    submitted: Sequence[Submitted],
    seen: Mapping[tuple[str, str], Sequence[Seen]],
    read: Any,
    lives: Sequence[Life],
    changes: Mapping[str, Sequence[Change]],
    dues: Mapping[tuple[str, int], int],
    monkey: Monkey,
    left: Left,
) -> Evidence:
    """Read what can be read at the end. `read` reads a status and keeps it in `seen`."""
    table = _table(stage)
    rows = _rows(stage)
    keys = {(it.submit.pool, it.run_id) for it in submitted if it.run_id is not None}
    keys |= {tuple(key.split("#", 1)) for key in table}  # type: ignore[misc]
    with ThreadPoolExecutor(4) as pool:
        statuses = dict(zip(keys, pool.map(lambda key: read(*key), keys), strict=True))
    starts = _starts(rows)
    bound(starts, lives, monkey.killed)
    calls: dict[str, int] = defaultdict(int)
    for row in rows:
        calls[row["run"]] += row["what"] == "call"
    return Evidence(
        submitted=submitted,
        statuses=statuses,
        history=seen,
        table=table,
        starts=starts,
        effects={
            row["run"]: (int(row["count"]), row["how"]) for row in rows if row["what"] == "effect"
        },
        calls=calls,
        changes=changes,
        dues=dues,
        canceled=monkey.canceled,
        canceled_all=monkey.canceled_all,
        limited=monkey.limited,
        redriven=monkey.redriven,
        restarts=monkey.restarts,
        stats={name: _stats(stage, name) for name in POOLS},
        left=left,
    )


def bound(starts: Sequence[Start], lives: Sequence[Life], killed: Sequence[Killed]) -> None:
    """Say of each attempt how long it surely ran, and how long at most.

    One that wrote its end ran to then. One that did not died with its process: surely after it
    was last seen alive, surely before it was seen dead, and before its function's deadline. What
    was not seen (a process that the watcher missed) leaves the attempt's own start as all that is
    sure.
    """
    by_pid: dict[int, list[Start]] = defaultdict(list)
    for start in sorted(starts, key=lambda it: it.at):
        by_pid[start.pid].append(start)
    kills = {it.pid: it.before for it in killed}
    for its in by_pid.values():
        first = _life(lives, its[0])
        for start in its:
            start.let = start.at - LOADING_NS
        if first is not None:  # The process was made for it, and may have taken long to be loaded.
            its[0].let = min(its[0].let, first.born - LOADING_NS)
        for start, following in zip(its, [*its[1:], None], strict=True):
            if start.end is not None:
                start.until = start.latest = start.end
                continue
            timeout = POOLS[start.pool]["actionTimeoutSeconds"] + CONSUMER_MARGIN_S
            start.until = start.at
            start.latest = start.at + timeout * 1_000_000_000 + SLACK_NS
            if following is not None:  # Its invocation was over by then.
                start.latest = min(start.latest, following.at)
                continue
            life = _life(lives, start)
            if life is None or life.dead is None or life.dead > start.latest:
                continue
            start.until = max(start.at, life.alive)
            if start.at < kills.get(start.pid, 0) <= life.dead:
                start.until = max(start.until, kills[start.pid])
            start.latest = max(start.until, life.dead)


def _life(lives: Sequence[Life], start: Start) -> Life | None:
    """The process of a start: the first of that number that was not dead yet."""
    found = [it for it in lives if it.pid == start.pid and (it.dead or start.at) >= start.at]
    return found[0] if found else None


def _starts(rows: Sequence[dict[str, Any]]) -> list[Start]:
    ends = {row["attempt"]: row for row in rows if row["what"] == "end"}
    return [
        Start(
            run_id=row["run"],
            pool=row["pool"],
            label=row["label"],
            retries=int(row["retries"]),
            pid=int(row["pid"]),
            at=int(row["time"]),
            attempt=row["attempt"],
            end=int(end["time"]) if (end := ends.get(row["attempt"])) else None,
            outcome=end["outcome"] if end else None,
        )
        for row in rows
        if row["what"] == "start"
    ]


def _stats(stage: Stage, pool: str) -> dict[str, Any]:
    _, shape = stage.http("GET", f"/pools/{pool}/stats")
    return dict(shape)


def _rows(stage: Stage) -> list[dict[str, Any]]:
    pages = stage.client("dynamodb").get_paginator("scan").paginate(TableName=LEDGER)
    return [bare(item) for page in pages for item in page["Items"]]


def _table(stage: Stage) -> dict[str, str]:
    pages = stage.client("dynamodb").get_paginator("scan").paginate(TableName=stage.runs_table)
    items = [bare(item) for page in pages for item in page["Items"]]
    return {it["run"]: json.loads(it["args"]).get("label", "") for it in items}
