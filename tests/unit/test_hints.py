"""What the relay and a second look do about a run: both tables, written out."""

from collections.abc import Callable
from typing import Any

import pytest

from workpool import look
from workpool.relay import Hints
from workpool.run import Run

MakeRun = Callable[..., Run]

AGAIN = {"enqueued_at": 1_790_000_099_999}  # the same id, created anew
STATES: dict[str, dict[str, Any] | None] = {
    "absent": None,
    "enqueued": {"kind": "enqueued"},
    "scheduled": {"kind": "scheduled", "claim": "c1", "retries": 1},
    "waiting": {"kind": "scheduled", "claim": "c1", "retries": 1, "execution": "e1"},
    "running": {"kind": "running", "claim": "c1", "lease": 1},
    "completed": {"kind": "completed", "result": "success"},
    "canceled": {"kind": "canceled", "result": "canceled"},
    "enqueued anew": {"kind": "enqueued"} | AGAIN,
    "scheduled anew": {"kind": "scheduled"} | AGAIN,
}

# From each old state (rows) to each new one (columns): - nothing, d deliver, s start an execution,
# a announce, x announce and stop its execution. "waiting": scheduled, an execution took it along.
RELAY_TABLE = """
                   absent enqueued scheduled waiting running completed canceled e-anew s-anew
    absent              -        d         s       s       -         -        -      d      s
    enqueued            -        -         -       -       -         a        a      d      s
    scheduled           -        -         -       -       -         x        x      d      s
    waiting             -        -         -       -       -         x        x      d      s
    running             -        -         s       -       -         a        a      d      s
    completed           -        -         -       -       -         -        -      d      s
    canceled            -        -         -       -       -         -        -      d      s
"""
RELAY_ROWS = [line.split() for line in RELAY_TABLE.strip().splitlines()[1:]]
CHANGES = [
    (old, new, hint) for old, *hints in RELAY_ROWS for new, hint in zip(STATES, hints, strict=True)
]


@pytest.mark.parametrize(("old", "new", "hint"), CHANGES)
def test_a_change_calls_for_the_hint_of_the_relays_table(
    a_run: MakeRun, old: str, new: str, hint: str
) -> None:
    before, after = (None if STATES[it] is None else a_run(**STATES[it] or {}) for it in (old, new))
    hints = Hints()
    hints.add(before, after)
    assert hints == Hints(
        deliver=[after] if hint == "d" else [],
        start=[after] if hint == "s" else [],
        announce=[after] if hint in "ax" else [],
        stop=[before] if hint == "x" else [],
    )


def test_the_execution_that_is_stopped_is_the_one_that_waited(a_run: MakeRun) -> None:
    hints = Hints()
    hints.add(a_run(kind="scheduled", execution="e1"), a_run(kind="canceled"))
    assert [run.execution_name() for run in hints.stop] == ["e1"]


def test_hints_of_one_batch_add_up_in_order(a_run: MakeRun) -> None:
    first, second = a_run(run_id="r1"), a_run(run_id="r2")
    hints = Hints()
    hints.add(None, first)
    hints.add(None, second)
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
    assert look.hints(run, now_ms) == expected
