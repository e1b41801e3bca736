"""Collect the evidence when everything is over.

It is what the submits answered, what the HTTP API answers, what the actions wrote into the ledger,
and what the watchers saw. This module decides nothing: checks.py does.
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
"""A consumer's timeout is its action's and this: after it the process has certainly ended."""

LOADING_NS = 5_000_000_000
"""The longest time from an invocation's start to its action's, in a process that is loaded."""

SLACK_NS = 1_500_000_000
"""For the time between the two starts, and for the emulator to kill a process."""


@dataclass(kw_only=True)
class Start:
    """One attempt of an action, as the action wrote it down. Times are epoch nanoseconds.

    It certainly ran from `at` to `until`, and certainly not beyond `latest`. Lambda started its
    invocation at `let` at the earliest.
    """

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
    """All that the invariants are checked against."""

    submitted: Sequence[Submitted]
    statuses: Mapping[tuple[str, str], dict[str, Any]]
    """The last status of each run that exists, by pool and run id."""
    history: Mapping[tuple[str, str], Sequence[Seen]]
    """All statuses of it that were read."""
    table: Mapping[str, str]
    """By key of each run in the table: the label in its arguments."""
    starts: Sequence[Start]
    effects: Mapping[str, tuple[int, str]]
    """By run id: how often the handler's transaction took effect, and with which result."""
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
    """Read all that can be read at the end. `read` reads a status and adds it to `seen`."""
    table = _read_table(stage)
    rows = _read_ledger(stage)
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
        stats={name: _read_stats(stage, name) for name in POOLS},
        left=left,
    )


def bound(starts: Sequence[Start], lives: Sequence[Life], killed: Sequence[Killed]) -> None:
    """Set how long each attempt certainly ran, and how long it ran at most.

    An attempt that wrote its end ran until then. Any other died with its process: certainly after
    the process was last seen alive, and certainly before it was seen dead and before its function's
    deadline. If the watcher missed the process, only the attempt's own start is certain.
    """
    by_pid: dict[int, list[Start]] = defaultdict(list)
    for start in sorted(starts, key=lambda start: start.at):
        by_pid[start.pid].append(start)
    kills = {kill.pid: kill.before for kill in killed}
    for attempts in by_pid.values():
        first = _life(lives, attempts[0])
        for start in attempts:
            start.let = start.at - LOADING_NS
        if first is not None:  # The process was started for it, and may have loaded for long.
            attempts[0].let = min(attempts[0].let, first.born - LOADING_NS)
        for start, following in zip(attempts, [*attempts[1:], None], strict=True):
            if start.end is not None:
                start.until = start.latest = start.end
                continue
            timeout = POOLS[start.pool]["actionTimeoutSeconds"] + CONSUMER_MARGIN_S
            start.until = start.at
            start.latest = start.at + timeout * 1_000_000_000 + SLACK_NS
            if following is not None:  # Its invocation had ended by then.
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
    """The process of a start: the first one with that pid that was not dead yet."""
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


def _read_stats(stage: Stage, pool: str) -> dict[str, Any]:
    _, shape = stage.request("GET", f"/pools/{pool}/stats")
    return dict(shape)


def _read_ledger(stage: Stage) -> list[dict[str, Any]]:
    pages = stage.client("dynamodb").get_paginator("scan").paginate(TableName=LEDGER)
    return [bare(item) for page in pages for item in page["Items"]]


def _read_table(stage: Stage) -> dict[str, str]:
    pages = stage.client("dynamodb").get_paginator("scan").paginate(TableName=stage.runs_table)
    items = [bare(item) for page in pages for item in page["Items"]]
    return {item["run"]: json.loads(item["args"]).get("label", "") for item in items}
