"""The emulator stopped in mid-run, with its state, and started again."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from local.chaos.stage import LEDGER, Stage

pytestmark = pytest.mark.e2e


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """An emulator of its own, that saves its state, with the actions of the chaos runs."""
    stage = Stage(tmp_path / "stage")
    try:
        stage.open()
        yield stage
    finally:
        stage.close()


def test_fault_27_an_emulator_that_is_stopped_and_started_in_mid_run_loses_no_run(
    stage: Stage,
) -> None:
    """What it loses and AWS would not, `Stage.begin_again` undoes by name."""
    keys = []
    for number in range(16):
        args = {"ms": 600, "fails": number % 2, "how": "raise", "at": "", "label": f"r{number}"}
        options = {"onComplete": "chaos.effect", "context": {"dies": 0, "raises": 0}}
        request = {"pool": "fast", "action": "chaos.work", "args": args}
        request |= {"options": options | {"initialBackoffMs": 6000}}
        answer = stage.invoke(stage.function("submit"), request)
        keys.append(f"fast#{answer['runId']}")

    def items() -> list[dict[str, Any]]:
        return [stage.item(key) or {} for key in keys]

    deadline = time.monotonic() + 30
    while {"scheduled", "completed"} - {it["kind"] for it in items()}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    stage.end()
    stage.begin_again()
    deadline = time.monotonic() + 150
    while {it.get("completion") for it in items()} != {"done"}:
        assert time.monotonic() < deadline, items()
        with suppress(RuntimeError):  # The emulator may still be busy with what it restored.
            stage.invoke(stage.function("sweeper"), {"overdueSeconds": 1})
        time.sleep(1)
    for number, (key, item) in enumerate(zip(keys, items(), strict=True)):
        assert item["result"] == "success"
        # An attempt that the stop interrupted is a lost worker's.
        assert number % 2 <= int(item["retries"]) <= number % 2 + 1
        effect = stage.client("dynamodb").get_item(
            TableName=LEDGER, Key={"run": {"S": key.partition("#")[2]}, "at": {"S": "effect"}}
        )
        assert effect["Item"]["count"]["N"] == "1"
