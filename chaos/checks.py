"""Check the invariants against the submits' answers, the HTTP API's, and what the actions wrote.

Pure: evidence in, verdicts out.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from chaos.evidence import Evidence, Start
from chaos.load import Submitted
from chaos.plan import (
    DEFAULT_BACKOFF_MS,
    DEFAULT_BASE,
    HANDLER,
    POOLS,
)

ENDED = ("completed", "canceled")

UNREAD_MS = 15_000
"""How long a change may wait in the table's stream before the relay reads it."""


@dataclass(kw_only=True)
class Check:
    """An invariant, the numbers that show it, and every breach of it."""

    name: str
    claim: str
    numbers: str = ""
    breaches: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        return not self.breaches


@dataclass(kw_only=True)
class Promised:
    """A run that rightly exists, and its first submit."""

    pool: str
    run_id: str
    first: Submitted

    @property
    def key(self) -> str:
        return f"{self.pool}#{self.run_id}"


def judge(evidence: Evidence) -> list[Check]:
    """Check every invariant of docs/guarantees.md."""
    return [
        _ends_once(evidence),
        _effect_once(evidence),
        _parallelism(evidence),
        _attempts(evidence),
        _never_early(evidence),
        _ended_stays(evidence),
        _recount(evidence),
        _at_rest(evidence),
    ]


def promised(evidence: Evidence) -> list[Promised]:
    """The runs that rightly exist: accepted ones, and those in the table whose answer was lost."""
    by_label = {label: key for key, label in evidence.table.items()}
    found: dict[str, Promised] = {}
    for it in sorted(evidence.submitted, key=lambda it: it.began):
        key = it.key if it.run_id is not None else by_label.get(it.submit.label)
        exists = it.outcome == "accepted" or (it.outcome == "unknown" and key in evidence.table)
        if exists and key is not None:
            pool, _, run_id = key.partition("#")
            found.setdefault(key, Promised(pool=pool, run_id=run_id, first=it))
    return list(found.values())


def _ends_once(evidence: Evidence) -> Check:
    check = Check(name="I1", claim="Every accepted run reaches exactly one ended state")
    runs = promised(evidence)
    asked = {(it.pool, it.run_id) for it in evidence.canceled}
    by_run = _by_run(evidence.starts)
    ends: dict[str, int] = defaultdict(int)
    for run in runs:
        status = evidence.statuses.get((run.pool, run.run_id), {"kind": "not read"})
        kind, result = status["kind"], status.get("result", {}).get("type")
        ends[str(result)] += 1
        name = f"{run.key} ({run.first.submit.label})"
        if kind not in ENDED:
            check.breaches.append(f"{name} is {kind}")
            continue
        seen = {
            (it.item["kind"], it.item.get("result"), it.item.get("finishedAt"))
            for it in evidence.changes.get(run.key, ())
            if it.item["kind"] in ENDED
        }
        if len(seen) > 1:
            check.breaches.append(f"{name} ended more than once: {sorted(map(str, seen))}")
        starts = by_run.get(run.run_id, [])
        if result == "success" and not any(
            it.outcome == "ok" and it.retries == status["retries"] for it in starts
        ):
            check.breaches.append(f"{name} succeeded, but no attempt of it did")
        if result == "success":
            attempts = {it.attempt for it in starts if it.outcome == "ok"}
            if status["result"]["returnValue"]["attempt"] not in attempts:
                check.breaches.append(f"{name} has a return value that no attempt of it returned")
        refused = any(it.outcome == "refuse" for it in starts)
        if result == "failed" and not refused:
            most = run.first.submit.max_retries
            if status["retries"] < most:
                check.breaches.append(f"{name} failed after {status['retries']} of {most} retries")
        if result == "canceled" and not (
            (run.pool, run.run_id) in asked or _among_all(evidence, run)
        ):
            check.breaches.append(f"{name} is canceled, but nobody asked for it")
    _nothing_else_ran(evidence, runs, check)
    _keys(evidence, check)
    _canceled_at_once(evidence, by_run, check)
    lost = sum(it.outcome == "unknown" for it in evidence.submitted)
    check.numbers = (
        f"{len(runs)} runs: {ends['success']} success, {ends['failed']} failed, "
        f"{ends['canceled']} canceled; {lost} submits whose answer was lost, "
        f"{sum(it.outcome == 'refused' for it in evidence.submitted)} refused"
    )
    return check


def _among_all(evidence: Evidence, run: Promised) -> bool:
    """Whether it may have been created before all runs of its pool were canceled."""
    return any(
        it.pool == run.pool and run.first.began <= (it.answered or math.inf)
        for it in evidence.canceled_all
    )


def _nothing_else_ran(evidence: Evidence, runs: Sequence[Promised], check: Check) -> None:
    known = {run.key for run in runs}
    for key in evidence.table.keys() - known:
        check.breaches.append(f"{key} is in the table, but was never accepted")
    for start in evidence.starts:
        if f"{start.pool}#{start.run_id}" not in known:
            check.breaches.append(f"{start.run_id} ({start.label}) ran, but was never accepted")


def _keys(evidence: Evidence, check: Check) -> None:
    """The same key with the same request is the same run. With another request it is a conflict."""
    firsts = {it.submit.key: it for it in evidence.submitted if it.submit.reuses is None}
    for again in evidence.submitted:
        first = firsts.get(again.submit.key)
        if again.submit.reuses is None or first is None or first.outcome != "accepted":
            continue
        name = f"{again.submit.label} with the key of {first.key}"
        if again.submit.reuses == "same" and again.outcome == "accepted":
            if again.run_id != first.run_id or not again.existing:
                check.breaches.append(f"{name} got {again.run_id}, existing: {again.existing}")
        elif again.outcome != "unknown" and again.error != "IdempotencyConflict":
            check.breaches.append(f"{name}: {again.outcome} {again.error}")


def _canceled_at_once(evidence: Evidence, by_run: dict[str, list[Start]], check: Check) -> None:
    """A run whose cancel was answered with `canceled` does not start again."""
    for cancel in evidence.canceled:
        answer = cancel.answer or {"kind": "no answer"}
        if answer["kind"] == "unknown" and f"{cancel.pool}#{cancel.run_id}" in evidence.table:
            check.breaches.append(f"{cancel.run_id} was unknown when it was canceled")
        if answer["kind"] != "canceled":
            continue
        late = [
            it for it in by_run.get(cancel.run_id, []) if it.at / 1e6 > answer["finishedAt"] + 1
        ]
        if late:
            check.breaches.append(f"{cancel.run_id} started after it was canceled")


def _effect_once(evidence: Evidence) -> Check:
    check = Check(name="I2", claim="Its completion's effect happens once")
    effects = parked = 0
    runs = promised(evidence)
    for run in runs:
        status = evidence.statuses.get((run.pool, run.run_id), {})
        count, how = evidence.effects.get(run.run_id, (0, ""))
        effects += count
        name = f"{run.key} ({run.first.submit.label})"
        if status.get("kind") not in ENDED:
            continue  # This breaks I1.
        wanted = 0
        if run.first.submit.options.get("onComplete") == HANDLER:
            if status.get("completion") == "parked":
                parked += 1
            else:
                wanted = 1
                if status.get("completion") != "done":
                    check.breaches.append(f"{name}: completion is {status.get('completion')}")
        if count != wanted:
            check.breaches.append(f"{name}: {count} effects, not {wanted}")
        elif count and how != status["result"]["type"]:
            check.breaches.append(
                f"{name}: its handler got {how}, its result is {status['result']}"
            )
        elif count and not evidence.calls.get(run.run_id):
            check.breaches.append(f"{name}: an effect without a call")
    known = {run.run_id for run in runs}
    for run_id in evidence.effects.keys() - known:
        check.breaches.append(f"{run_id} has an effect, but was never accepted")
    calls = sum(evidence.calls.values())
    check.numbers = f"{effects} effects of {calls} calls; {parked} parked"
    return check


def _parallelism(evidence: Evidence) -> Check:
    check = Check(name="I3", claim="No action starts while maxParallelism run")
    most_at_once = []
    undecided = 0
    for pool in POOLS:
        starts = [it for it in evidence.starts if it.pool == pool]
        at_once = 0
        for start in starts:
            most = _limit(evidence, start)
            certain = [it for it in starts if it.at <= start.at < it.until or it is start]
            possible = sum(it.at <= start.at < it.latest or it is start for it in starts)
            at_once = max(at_once, len(certain))
            undecided += len(certain) <= most < possible
            if len(certain) > most:
                run_ids = ", ".join(it.run_id for it in certain)
                check.breaches.append(
                    f"{pool}: {len(certain)} of {most} at once at {start.at / 1e9:.3f}: {run_ids}"
                )
        most_at_once.append(f"{pool} {at_once}")
    check.numbers = (
        f"at most at once: {', '.join(most_at_once)}; "
        f"{len(evidence.limited)} changes of the limits; "
        f"{len(evidence.starts)} starts, {undecided} undecided (another's end is not known exactly)"
    )
    return check


def _limit(evidence: Evidence, start: Start) -> int:
    """The most that its pool may have allowed when Lambda started its invocation.

    That is some time before its action starts. After a change without an answer, either limit may
    be in force until the next change that has one.
    """
    since, until = start.let / 1e6, start.at / 1e6
    changes = [it for it in evidence.limited if it.pool == start.pool]
    in_force = [(-math.inf, int(POOLS[start.pool]["maxParallelism"]))]
    in_force += [(it.asked, it.limit) for it in changes]
    most = 0
    for number, (begin, limit) in enumerate(in_force):
        later = [it.answered for it in changes[number:] if it.answered is not None]
        if begin <= until and since <= min(later, default=math.inf):
            most = max(most, limit)
    return most


def _attempts(evidence: Evidence) -> Check:
    check = Check(name="I4", claim="Attempts <= maxRetries + 1")
    by_run = _by_run(evidence.starts)
    for run in promised(evidence):
        starts = by_run.get(run.run_id, [])
        most = run.first.submit.max_retries
        name = f"{run.key} ({run.first.submit.label})"
        if len(starts) > most + 1:
            check.breaches.append(f"{name}: {len(starts)} starts, maxRetries {most}")
        numbers = [it.retries for it in starts]
        if len(set(numbers)) != len(numbers) or max(numbers, default=0) > most:
            check.breaches.append(f"{name}: attempts {sorted(numbers)}, maxRetries {most}")
    retried = sum(it.retries > 0 for it in evidence.starts)
    unfinished = sum(it.end is None for it in evidence.starts)
    check.numbers = (
        f"{len(evidence.starts)} attempts, {retried} of them retries, "
        f"{unfinished} that never wrote an end"
    )
    return check


def _never_early(evidence: Evidence) -> Check:
    """Compare with three sources: the item's due, the requested start, and the shortest backoff
    that the options allow."""
    check = Check(name="I5", claim="No retry before its nextRun")
    dues = dict(evidence.dues)
    for (pool, run_id), seen in evidence.history.items():
        for status in (it.status for it in seen if it.status["kind"] == "scheduled"):
            dues.setdefault((f"{pool}#{run_id}", status["retries"]), status["nextRun"])
    runs = {run.key: run for run in promised(evidence)}
    before: dict[tuple[str, int], Start] = {(it.run_id, it.retries): it for it in evidence.starts}
    known = 0
    nearest = math.inf
    for start in evidence.starts:
        key, at = f"{start.pool}#{start.run_id}", start.at / 1e6
        name = f"{key} ({start.label}), retry {start.retries}"
        due = dues.get((key, start.retries))
        if due is not None:
            known += 1
            nearest = min(nearest, at - due)
            if at < due:
                check.breaches.append(f"{name}: started {due - at:.0f} ms before it was due")
        if key not in runs:
            continue
        first = runs[key].first
        options = first.submit.options
        if start.retries == 0 and at < first.began + options.get("runAfterMs", 0):
            check.breaches.append(f"{name}: started before its runAfterMs was over")
        previous = before.get((start.run_id, start.retries - 1))
        if previous is not None:
            backoff = options.get("initialBackoffMs", DEFAULT_BACKOFF_MS)
            base = options.get("base", DEFAULT_BASE)
            least = backoff * base ** (start.retries - 1) * 0.5
            if at < previous.until / 1e6 + least:
                check.breaches.append(f"{name}: less than {least:.0f} ms after the last attempt")
    shown = "none" if nearest == math.inf else f"{nearest:.0f} ms after it was due"
    check.numbers = f"{known} of {len(evidence.starts)} starts with a known due; nearest {shown}"
    return check


def _ended_stays(evidence: Evidence) -> Check:
    check = Check(name="I6", claim="An ended state never changes")
    compared = 0
    for (pool, run_id), seen in evidence.history.items():
        ended = [it for it in seen if it.status["kind"] in ENDED]
        compared += len(ended)
        first = min(ended, key=lambda it: it.answered, default=None)
        if first is None:
            continue
        for later in [it for it in seen if it.asked >= first.answered or it in ended]:
            if _lasting(later.status) != _lasting(first.status):
                check.breaches.append(
                    f"{pool}#{run_id} was {_lasting(first.status)}, then {_lasting(later.status)}"
                )
        for one, two in pairwise(sorted(ended, key=lambda it: it.asked)):
            redriven = any(it == pool and at <= two.answered for it, at in evidence.redriven)
            final = ("done",) if redriven else ("done", "parked")
            over = one.status.get("completion") in final and two.asked >= one.answered
            if over and two.status.get("completion") != one.status["completion"]:
                change = f"{one.status['completion']}, then {two.status.get('completion')}"
                check.breaches.append(f"{pool}#{run_id}: completion was {change}")
    for key, changes in evidence.changes.items():
        kinds = [it.item["kind"] for it in changes]
        end = next((n for n, kind in enumerate(kinds) if kind in ENDED), len(kinds))
        if any(kind not in ENDED for kind in kinds[end:]):
            check.breaches.append(f"{key} was open again after it ended: {kinds}")
    total = sum(map(len, evidence.changes.values()))
    check.numbers = f"{compared} ended statuses, {total} changes of items"
    return check


def _lasting(status: dict[str, Any]) -> dict[str, Any]:
    """A status without what may still change after the run has ended."""
    # The attempts are left out because only some requests ask for them.
    changing = ("completion", "completionError", "attempts")
    return {name: value for name, value in status.items() if name not in changing}


def _recount(evidence: Evidence) -> Check:
    """Recount from the attempts in the runs' statuses.

    An emulator that is stopped loses the records of the table's stream that nobody has read, which
    AWS does not. What ended around that time may be counted or not.
    """
    check = Check(name="I7", claim="Stats equal a recount of the table")
    counted = doubtful = 0
    for pool in POOLS:
        stats = evidence.stats[pool]
        statuses = [it for (name, _), it in evidence.statuses.items() if name == pool]
        runs = [it for it in statuses if it["kind"] != "unknown"]
        ended = [it for it in runs if it["kind"] in ENDED]
        attempts = [it for run in runs for it in run.get("attempts", ())]
        unsure = sum(_may_be_lost(evidence, it["startedAt"] + it["ms"]) for it in attempts)
        ended_unsure = sum(_may_be_lost(evidence, it["finishedAt"]) for it in ended)
        executions = stats["recentExecutions"]
        errors = round(stats["recentErrorRate"] * executions)
        failed_attempts = sum(it["ended"] != "success" for it in attempts)
        counted, doubtful = counted + executions, doubtful + unsure
        if stats["pending"] != len(runs) - len(ended):
            check.breaches.append(
                f"{pool}: pending {stats['pending']}, {len(runs)} runs, {len(ended)} of them ended"
            )
        for name, count, most in (
            ("executions", executions, len(attempts)),
            ("errors", errors, failed_attempts),
        ):
            if not most - unsure <= count <= most:
                check.breaches.append(
                    f"{pool}: {count} {name}, recounted {most}, {unsure} of them doubtful"
                )
        if not (unsure or ended_unsure or not ended):
            failed = sum(it["result"]["type"] == "failed" for it in ended)
            mean = sum(it["finishedAt"] - it["enqueuedAt"] for it in ended) / len(ended)
            for name, right in (
                ("recentPermanentFailureRate", failed / len(ended)),
                ("recentJobAverageMs", mean),
            ):
                if not math.isclose(stats[name], right):
                    check.breaches.append(f"{pool}: {name} {stats[name]}, recounted {right}")
    check.numbers = f"{counted} executions counted, {doubtful} that a restart may have lost"
    return check


def _may_be_lost(evidence: Evidence, at: float) -> bool:
    return any(begin - UNREAD_MS <= at <= end + UNREAD_MS for begin, end in evidence.restarts)


def _at_rest(evidence: Evidence) -> Check:
    left = evidence.left
    check = Check(name="I8", claim="At rest: queues empty, the open index holds only parked runs")
    for queue, counts in left.messages.items():
        check.breaches.append(f"{queue}: " + ", ".join(f"{n} {it}" for it, n in counts.items()))
    for pool, names in left.running.items():
        check.breaches.append(f"{pool}: RUNNING {', '.join(names)}")
    for key in sorted(set(left.open) - set(left.parked)):
        check.breaches.append(f"{key} is in the open index")
    check.numbers = left.line()
    return check


def _by_run(starts: Sequence[Start]) -> dict[str, list[Start]]:
    found: dict[str, list[Start]] = defaultdict(list)
    for start in starts:
        found[start.run_id].append(start)
    return found
