"""The emulator stopped in mid-run, with its state, and started again."""

import time
from contextlib import suppress

import pytest

pytestmark = pytest.mark.e2e


def test_fault_27_an_emulator_that_is_stopped_and_started_in_mid_run_loses_no_run(stack, ledger):
    """What it loses and AWS would not, `Deployed.restart` undoes by name."""
    options = {"onComplete": "probe.settled", "initialBackoffMs": 6000}
    work = {"pool": "restarted", "action": "probe.work", "options": options}
    runs = [
        stack.submit(work | {"args": {"seconds": 0.6, "failures": number % 2}})["runId"]
        for number in range(16)
    ]

    def items():
        return [stack.item("restarted", run_id) for run_id in runs]

    def kinds():
        return {it["kind"]["S"] for it in items()}

    stack.until(kinds, lambda them: them >= {"scheduled", "completed"})
    stack.restart()
    deadline = time.monotonic() + 150
    while not all(it.get("completion") == {"S": "done"} for it in items()):
        assert time.monotonic() < deadline, items()
        with suppress(RuntimeError):  # The emulator may still be busy with what it restored.
            stack.sweep()
        time.sleep(1)
    for number, (run_id, item) in enumerate(zip(runs, items(), strict=True)):
        assert item["result"]["S"] == "success"
        # An attempt that the stop interrupted is a lost worker's.
        assert number % 2 <= int(item["retries"]["N"]) <= number % 2 + 1
        assert ledger.completions(run_id) == 1
