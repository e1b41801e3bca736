"""What the relay and a second look do about a run: both tables, written out."""

from collections.abc import Callable
from typing import Any

import pytest

from workpool.core.changes import Change
from workpool.core.hints import Hints
from workpool.core.run import Payload, Run

MakeRun = Callable[..., Run]

AGAIN = {"enqueued_at": 1_790_000_099_999}  # the same id, created anew
TIMED = {"due": 1_790_000_005_000}  # an execution waits, or waited, for this due
STATES: dict[str, dict[str, Any] | None] = {
    "absent": None,
    "enqueued": {"kind": "enqueued"},
    "scheduled": {"kind": "scheduled", "claim": "c1", "retries": 1} | TIMED,
    "waiting": {"kind": "scheduled", "claim": "c1", "retries": 1, "execution": "e1"} | TIMED,
    "running": {"kind": "running", "claim": "c1", "lease": 1},
    "timed": {"kind": "running", "claim": "c1", "lease": 1, "execution": "e1"} | TIMED,
    "completed": {"kind": "completed", "result": "success"},
    "answered": {"kind": "completed", "result": "success", "execution": "e1"},
    "canceled": {"kind": "canceled", "result": "canceled"},
    "enqueued anew": {"kind": "enqueued"} | AGAIN,
    "scheduled anew": {"kind": "scheduled"} | AGAIN,
}

# From each old state (rows) to each new one (columns): - nothing, d deliver, s start an execution,
# S also stop the old one, a announce, A also stop the old one. A run is "waiting" or "answered"
# when the execution that sent the attempt is told how it ended; "timed": one waited for its due.
RELAY_TABLE = """
             absent enqueued scheduled waiting running timed completed answered canceled e-a s-a
    absent        -        d         s       s       -     -         -        -        -   d   s
    enqueued      -        -         -       -       -     -         a        a        a   d   s
    scheduled     -        -         -       -       -     -         A        A        A   d   s
    waiting       -        -         -       -       -     -         A        A        A   d   s
    running       -        -         s       -       -     -         a        a        a   d   s
    timed         -        -         S       -       -     -         A        a        A   d   s
    completed     -        -         -       -       -     -         -        -        -   d   s
    answered      -        -         -       -       -     -         -        -        -   d   s
    canceled      -        -         -       -       -     -         -        -        -   d   s
"""
RELAY_ROWS = [line.split() for line in RELAY_TABLE.strip().splitlines()[1:]]
CHANGES = [
    (old, new, hint) for old, *hints in RELAY_ROWS for new, hint in zip(STATES, hints, strict=True)
]


def called_for(*changes: tuple[Run | None, Run | None]) -> Hints:
    hints = Hints()
    for old, new in changes:
        hints.add_change(Change(old=old, new=new))
    return hints


@pytest.mark.parametrize(("old", "new", "hint"), CHANGES)
def test_a_change_calls_for_the_hint_of_the_relays_table(
    a_run: MakeRun, old: str, new: str, hint: str
) -> None:
    before, after = (None if STATES[it] is None else a_run(**STATES[it] or {}) for it in (old, new))
    hints = called_for((before, after))
    assert hints == Hints(
        deliver=[after] if hint == "d" else [],
        start=[after] if hint in "sS" else [],
        announce=[after] if hint in "aA" else [],
        stop=[before] if hint in "SA" else [],
    )


def test_the_execution_that_is_stopped_is_the_one_that_waited(a_run: MakeRun) -> None:
    hints = called_for((a_run(kind="scheduled", execution="e1"), a_run(kind="canceled")))
    assert [run.execution_name() for run in hints.stop] == ["e1"]


@pytest.mark.parametrize("old", STATES)
@pytest.mark.parametrize("new", STATES)
def test_objects_go_with_their_run_or_with_its_successor_of_the_same_id(
    a_run: MakeRun, old: str, new: str
) -> None:
    if STATES[old] is None:
        return
    named = {"args": "a", "context": "c", "return_value": "r"}
    at = {field: Payload(at=name) for field, name in named.items()}
    before = a_run(**(STATES[old] or {}), **at)
    after = None if STATES[new] is None else a_run(**STATES[new] or {})
    hints = called_for((before, after))
    same = after is not None and after.enqueued_at == before.enqueued_at
    assert hints.delete == ([] if same else ["a", "c", "r"])


def test_hints_of_one_batch_add_up_in_order(a_run: MakeRun) -> None:
    first, second = a_run(run_id="r1"), a_run(run_id="r2")
    hints = called_for((None, first), (None, second))
    assert hints.deliver == [first, second]


DUE, LEASE = 1_790_000_010_000, 1_790_000_060_000


@pytest.mark.parametrize(
    ("fields", "now_ms", "hint"),
    [
        ({"kind": "enqueued"}, DUE, "deliver"),
        ({"kind": "enqueued"}, DUE - 1, "deliver"),
        ({"kind": "scheduled"}, DUE - 1, "start"),
        ({"kind": "scheduled"}, DUE, "deliver"),
        ({"kind": "scheduled", "execution": "e1"}, DUE - 1, "start"),
        ({"kind": "scheduled", "execution": "e1"}, DUE + 1, "deliver"),
        ({"kind": "running", "lease": LEASE}, LEASE - 1, "none"),
        ({"kind": "running", "lease": LEASE}, LEASE, "deliver"),
        ({"kind": "completed"}, DUE, "none"),
        ({"kind": "completed"}, DUE - 1, "none"),
        ({"kind": "completed", "completion": "pending"}, DUE, "announce"),
        ({"kind": "completed", "completion": "done"}, DUE, "none"),
        ({"kind": "completed", "completion": "parked"}, DUE, "none"),
        ({"kind": "canceled"}, DUE - 1, "none"),
        ({"kind": "canceled", "completion": "pending"}, DUE - 1, "announce"),
    ],
)
def test_a_second_look_repeats_the_hint_that_the_state_calls_for(
    a_run: MakeRun, fields: dict[str, Any], now_ms: int, hint: str
) -> None:
    run = a_run(due=DUE, **fields)
    expected = Hints() if hint == "none" else Hints(**{hint: [run]})
    hints = Hints()
    hints.add_state(run, now_ms)
    assert hints == expected
