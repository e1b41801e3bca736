"""Chaos: a minute of it, as `make chaos` does it; and proof that its checks see a breach when there
is one, on made-up evidence."""

import copy
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.checks import judge
from chaos.evidence import Evidence, Start, bound
from chaos.load import Submitted
from chaos.monkey import Canceled, CanceledAll, Killed, Limited
from chaos.plan import HANDLER, Submit, plan
from chaos.rest import Left
from chaos.watch import Change, Life, Seen

CHECKOUT = Path(__file__).parents[2]
SEED = os.environ.get("CHAOS_SEED", "1")
MS, S = 10**6, 10**9


@pytest.mark.fault(1, 2, 3, 4, 5, 6, 10, 13, 16, 18, 20, 27)
@pytest.mark.e2e
def test_a_minute_of_chaos_breaks_no_invariant(tmp_path):
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "chaos", "--seed", SEED, "--minutes", "1"]
    command += ["--json", str(report), "--directory", str(tmp_path / "emulator")]
    process = subprocess.Popen(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        told, _ = process.communicate(timeout=600)
    finally:
        stop(process)
    assert report.exists(), told
    shape = json.loads(report.read_text())
    assert shape["broken"] == [], told
    assert process.returncode == 0, told
    assert sum(fault["hits"] for fault in shape["faults"].values()) > 20, told


def stop(process):
    """As by Ctrl-C, which stops its emulator."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()


def test_the_same_seed_is_the_same_plan_and_another_seed_another():
    assert plan(seed=3, seconds=60) == plan(seed=3, seconds=60)
    assert plan(seed=3, seconds=60) != plan(seed=4, seconds=60)


def test_a_plan_holds_every_kind_of_fault_and_of_submit():
    its = plan(seed=1, seconds=600)
    assert {it.via for it in its.submits} == {"sdk", "http", "transaction", "torn"}
    assert {it.reuses for it in its.submits} == {None, "same", "different"}
    names = {it.name for it in its.faults}
    assert names >= {"kill", "duplicate", "drop", "events_again", "pause", "cancel", "stale"}
    assert names >= {"relay_off", "sweep", "restart", "change", "cancel_all", "redrive"}


def stats(executions: int) -> dict[str, float]:
    """Of a pool with one run that failed once and succeeded, or with none."""
    return {
        "pending": 0,
        "recentExecutions": executions,
        "recentErrorRate": 0.5 if executions else 0,
        "recentPermanentFailureRate": 0,
        "recentJobAverageMs": 4000 if executions else 0,
    }


@pytest.fixture
def evidence() -> Evidence:
    """One run in pool `one` that failed once, succeeded, and was completed. Nothing is wrong."""
    options = {"maxRetries": 1, "initialBackoffMs": 1000, "onComplete": HANDLER}
    submit = Submit(at=0, label="r1", pool="one", via="sdk", args={}, options=options)
    began = 1_000_000.0
    accepted = Submitted(
        submit=submit, outcome="accepted", run_id="a", began=began, answered=began + 5
    )
    status = {
        "runId": "a",
        "kind": "completed",
        "retries": 1,
        "finishedAt": 1_004_000,
        "result": {"type": "success", "returnValue": {"attempt": "second"}},
        "completion": "done",
        "enqueuedAt": 1_000_000,
        "attempts": [
            {"startedAt": 1_000_100, "ms": 100, "ended": "failed"},
            {"startedAt": 1_003_000, "ms": 500, "ended": "success"},
        ],
    }
    return Evidence(
        submitted=[accepted],
        statuses={("one", "a"): status},
        history={("one", "a"): [Seen(asked=1_005_000, answered=1_005_010, status=status)]},
        table={"one#a": "r1"},
        starts=[_start("a", 0, 1_000_100, 1_000_200), _start("a", 1, 1_003_000, 1_003_500)],
        effects={"a": (1, "success")},
        calls={"a": 1},
        changes={
            "one#a": [
                Change(key="one#a", at=0, item={"kind": "enqueued"}),
                Change(key="one#a", at=0, item={"kind": "completed", "finishedAt": "1004000"}),
            ]
        },
        dues={("one#a", 0): 1_000_000, ("one#a", 1): 1_003_000},
        canceled=[],
        canceled_all=[],
        limited=[],
        redriven=[],
        restarts=[],
        stats={pool: stats(0) for pool in ("fast", "slow")} | {"one": stats(2)},
        left=Left(messages={}, open=[], parked=[], running={}),
    )


def _start(run_id: str, retries: int, at_ms: int, end_ms: int) -> Start:
    return Start(
        run_id=run_id,
        pool="one",
        label="r1",
        retries=retries,
        pid=1,
        at=at_ms * MS,
        end=end_ms * MS,
        until=end_ms * MS,
        latest=end_ms * MS,
        let=(at_ms - 2000) * MS,
        outcome="ok" if retries else "raise",
        attempt="second" if retries else "first",
    )


def broken(evidence: Evidence) -> list[str]:
    return [check.name for check in judge(evidence) if not check.held]


def test_good_evidence_breaks_nothing(evidence):
    assert broken(evidence) == []


def test_a_run_that_never_ended_breaks_I1(evidence):
    evidence.statuses["one", "a"]["kind"] = "running"
    assert "I1" in broken(evidence)


def test_a_run_that_ended_twice_breaks_I1(evidence):
    evidence.changes["one#a"].append(
        Change(key="one#a", at=0, item={"kind": "canceled", "finishedAt": "1004001"})
    )
    assert "I1" in broken(evidence)


def test_a_success_without_a_successful_attempt_breaks_I1(evidence):
    evidence.starts[1].outcome = "raise"
    assert "I1" in broken(evidence)


def test_a_failure_with_retries_left_breaks_I1(evidence):
    evidence.statuses["one", "a"] |= {"retries": 0, "result": {"type": "failed", "error": ""}}
    evidence.effects["a"] = (1, "failed")
    evidence.stats["one"]["recentPermanentFailureRate"] = 1
    assert broken(evidence) == ["I1"]


def test_a_canceled_run_that_nobody_canceled_breaks_I1(evidence):
    evidence.statuses["one", "a"] |= {"kind": "canceled", "result": {"type": "canceled"}}
    assert "I1" in broken(evidence)


def test_a_run_that_starts_after_it_was_canceled_breaks_I1(evidence):
    answer = {"kind": "canceled", "finishedAt": 1_002_000}
    evidence.canceled.append(Canceled(pool="one", run_id="a", asked=0, answer=answer))
    assert broken(evidence) == ["I1"]


def test_a_run_that_was_refused_and_ran_breaks_I1(evidence):
    evidence.submitted[0].outcome = "refused"
    assert broken(evidence) == ["I1", "I2"]


@pytest.mark.parametrize("count", [0, 2])
def test_any_other_number_of_effects_than_one_breaks_I2(evidence, count):
    evidence.effects["a"] = (count, "success")
    assert broken(evidence) == ["I2"]


def test_an_effect_of_a_run_without_a_handler_breaks_I2(evidence):
    del evidence.submitted[0].submit.options["onComplete"]
    assert broken(evidence) == ["I2"]


def test_a_handler_that_was_told_another_result_breaks_I2(evidence):
    evidence.effects["a"] = (1, "failed")
    assert broken(evidence) == ["I2"]


def test_a_start_while_another_surely_runs_breaks_I3_and_one_that_perhaps_runs_does_not(evidence):
    evidence.starts[0].latest = 1_003_100 * MS
    assert broken(evidence) == []
    evidence.starts[0].until = 1_003_100 * MS
    assert "I3" in broken(evidence)


def test_a_start_above_the_limit_in_force_breaks_I3(evidence):
    def limited(limit: int, asked: float, answered: float | None) -> Limited:
        return Limited(pool="one", limit=limit, asked=asked, answered=answered)

    evidence.limited = [limited(0, 990_000, 990_100)]  # The pool was paused long before.
    assert "I3" in broken(evidence)
    evidence.limited = [limited(0, 990_000, None)]  # Perhaps.
    assert broken(evidence) == []
    evidence.limited = [limited(0, 990_000, 990_100), limited(1, 1_000_000, None)]
    assert broken(evidence) == []
    # Its process was being loaded.
    evidence.limited = [limited(0, 1_000_000, 1_000_050), limited(1, 1_000_200, 1_000_250)]
    assert broken(evidence) == []
    evidence.starts[0].until = 1_003_100 * MS
    evidence.limited = [limited(2, 990_000, 990_100)]
    assert "I3" not in broken(evidence)
    evidence.limited += [limited(1, 995_000, 995_100)]
    assert "I3" in broken(evidence)


def test_a_run_canceled_with_all_others_of_its_pool_breaks_nothing(evidence):
    canceled = {"kind": "canceled", "result": {"type": "canceled"}}
    evidence.statuses["one", "a"] |= canceled
    evidence.effects["a"] = (1, "canceled")
    assert "I1" in broken(evidence)
    evidence.canceled_all = [CanceledAll(pool="fast", asked=1_003_000, answered=1_003_010)]
    assert "I1" in broken(evidence)
    evidence.canceled_all = [CanceledAll(pool="one", asked=999_000, answered=999_010)]
    assert "I1" in broken(evidence)  # It was submitted later.
    evidence.canceled_all = [CanceledAll(pool="one", asked=1_003_000, answered=1_003_010)]
    assert "I1" not in broken(evidence)


def test_an_attempt_too_many_or_one_twice_breaks_I4(evidence):
    third = copy.copy(evidence.starts[1])
    third.at = third.end = third.until = third.latest = 1_005_000 * MS
    evidence.starts.append(third)
    assert broken(evidence) == ["I4"]
    third.retries = 2
    assert "I4" in broken(evidence)


def test_a_start_before_its_due_breaks_I5(evidence):
    evidence.dues["one#a", 1] = 1_003_001
    assert broken(evidence) == ["I5"]


def test_a_start_before_the_least_backoff_breaks_I5_whatever_the_due_says(evidence):
    evidence.dues["one#a", 1] = 0
    evidence.starts[1].at = 1_000_600 * MS
    assert broken(evidence) == ["I5"]


def test_a_status_asked_for_after_an_ended_one_and_different_breaks_I6(evidence):
    seen = evidence.history["one", "a"]
    later = {**seen[0].status, "kind": "scheduled", "nextRun": 0}
    seen.append(Seen(asked=1_005_005, answered=1_005_020, status=later))
    assert broken(evidence) == []  # Its answer may be older than the other's.
    seen.append(Seen(asked=1_005_011, answered=1_005_020, status=later))
    assert broken(evidence) == ["I6"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pending", 1),
        ("recentExecutions", 1),
        ("recentExecutions", 3),
        ("recentErrorRate", 1),
        ("recentPermanentFailureRate", 1),
        ("recentJobAverageMs", 3999),
    ],
)
def test_stats_that_are_no_recount_break_I7(evidence, name, value):
    evidence.stats["one"][name] = value
    assert broken(evidence) == ["I7"]


def test_what_ended_as_the_emulator_was_stopped_may_be_counted_or_not(evidence):
    evidence.restarts = [(1_003_600, 1_010_000)]
    for executions, rate in ((2, 0.5), (1, 1), (1, 0), (0, 0)):
        evidence.stats["one"] |= {"recentExecutions": executions, "recentErrorRate": rate}
        assert broken(evidence) == []
    evidence.stats["one"]["recentExecutions"] = 3
    assert broken(evidence) == ["I7"]


def test_a_parked_completion_goes_on_only_if_it_was_redriven(evidence):
    seen = evidence.history["one", "a"]
    parked = {**seen[0].status, "completion": "parked"}
    seen[:0] = [Seen(asked=1_004_500, answered=1_004_510, status=parked)]
    assert broken(evidence) == ["I6"]
    evidence.redriven = [("one", 1_004_700)]
    assert broken(evidence) == []


def test_what_is_left_breaks_I8_unless_it_is_parked(evidence):
    evidence.left = Left(messages={}, open=["one#a"], parked=["one#a"], running={})
    assert broken(evidence) == []
    for left in (
        Left(messages={"work": {"in flight": 1}}, open=[], parked=[], running={}),
        Left(messages={}, open=["one#a"], parked=[], running={}),
        Left(messages={}, open=[], parked=[], running={"one": ["x"]}),
    ):
        evidence.left = left
        assert broken(evidence) == ["I8"]


def test_an_attempt_without_an_end_ran_until_its_process_was_last_seen_alive():
    start = Start(run_id="a", pool="one", label="", retries=0, pid=7, at=100 * S)
    life = Life(pid=7, function="f", born=89 * S, seen=90 * S, alive=101 * S, dead=102 * S)
    bound([start], [life], [])
    assert (start.until, start.latest) == (101 * S, 102 * S)
    assert start.let == 84 * S
    bound([start], [life], [Killed(pid=7, before=int(101.5 * S))])
    assert (start.until, start.latest) == (101.5 * S, 102 * S)


def test_an_attempt_whose_process_was_not_seen_to_die_may_have_run_to_its_deadline():
    start = Start(run_id="a", pool="one", label="", retries=0, pid=7, at=100 * S)
    bound([start], [], [])
    assert start.until == start.at
    assert start.latest == int(113.5 * S)
