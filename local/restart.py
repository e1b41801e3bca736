"""An emulator that is stopped in mid-run and started again with its state. What it loses by that
and AWS would not is undone, by name.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psutil

from local.emulator import Emulator
from local.errors import LocalError

PERSIST = {"PERSIST_STATE": "1", "S3_PERSIST": "1"}
"""The emulator's environment: what it forgets on SIGTERM unless told otherwise."""

SAVE_TIMEOUT_S = 150
SAVED = "[transfer] SFTP: stopped"
"""In the emulator's log: what it does next after its state was saved."""


def end(emulator: Emulator) -> None:
    """Stop it, its state saved. Its workers die with it."""
    _save(emulator)
    emulator.stop()


def begin_again(emulator: Emulator, *, runs_table: str) -> int:
    """Start with the state that was saved. Answers how many executions were started again."""
    _forget_stream_positions(emulator)
    running = _take_running_executions(emulator)
    emulator.start()
    for execution in running:
        _start_again(emulator, runs_table, execution)
    return len(running)


def _save(emulator: Emulator) -> None:
    """Have the emulator save its state. When it has, it may take long to end: it waits for the
    invocations that it began."""
    server, since = psutil.Process(emulator.pid), time.monotonic()
    server.terminate()
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
        if SAVED in emulator.log.read_text(errors="replace"):
            server.kill()
            return
        if time.monotonic() - since > SAVE_TIMEOUT_S:
            raise LocalError(f"the emulator did not save within {SAVE_TIMEOUT_S} s")
        time.sleep(0.2)


def _forget_stream_positions(emulator: Emulator) -> None:
    """It saves how far a mapping has read the stream, but not the stream: it would skip that many
    new records."""
    with _saved(emulator, "lambda") as state:
        state["dynamodb_stream_positions"]["data"] = {}


def _take_running_executions(emulator: Emulator) -> list[dict[str, Any]]:
    """What runs would come back FAILED, and its name could not be used again."""
    with _saved(emulator, "stepfunctions") as state:
        executions = state["executions"]["data"]
        running = [key for key, it in executions.items() if it["status"] == "RUNNING"]
        return [executions.pop(key) for key in running]


def _start_again(emulator: Emulator, runs_table: str, execution: Mapping[str, Any]) -> None:
    """On AWS it would still wait: the same name waits for the due that its run has now. What it had
    already sent is in the queue still, with a token that nobody holds."""
    shape = json.loads(execution["input"])
    answer = emulator.client("dynamodb").get_item(
        TableName=runs_table, Key={"run": {"S": shape["run"]}}, ConsistentRead=True
    )
    if "Item" in answer:
        shape["retry"] = {"Cause": _timestamp(int(answer["Item"]["due"]["N"]))}
    emulator.client("stepfunctions").start_execution(
        stateMachineArn=execution["stateMachineArn"],
        name=execution["name"],
        input=json.dumps(shape),
    )


@contextmanager
def _saved(emulator: Emulator, service: str) -> Iterator[dict[str, Any]]:
    """The state that the emulator saved of a service, to be changed while it is down."""
    path = emulator.directory / "state" / f"{service}.json"
    state = json.loads(path.read_text())
    yield state["payload"]
    path.write_text(json.dumps(state))


def _timestamp(ms: int) -> str:
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
