"""Stop an emulator in the middle of its work, and start it again with its state.

A restart loses some things that AWS would not lose. Each of them is repaired here, by name. Chaos
and the tests of an outage call it. Nothing else may edit the emulator's saved state.
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
"""For the environment of an emulator that is to be restarted: it saves its state on SIGTERM."""

SAVE_TIMEOUT_S = 150
SAVED = "[transfer] SFTP: stopped"
"""The next line in the emulator's log after it has saved its state."""


def save_and_stop(emulator: Emulator) -> None:
    """Have the emulator save its state, then stop it. Its workers are killed."""
    _save(emulator)
    emulator.stop()


def start_again(emulator: Emulator, *, runs_table: str) -> int:
    """Start the emulator with its saved state. Return how many executions were started again."""
    _forget_stream_positions(emulator)
    running = _take_running_executions(emulator)
    emulator.start()
    for execution in running:
        _restart_execution(emulator, runs_table, execution)
    return len(running)


def _save(emulator: Emulator) -> None:
    """Send SIGTERM, and kill the server as soon as its log says that the state is saved.

    By itself it would first wait for all invocations that it has begun.
    """
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
    """Let every event source mapping read its stream from the start.

    The emulator saves how far a mapping has read, but not the stream: the mapping would skip as
    many new records.
    """
    with _saved_state(emulator, "lambda") as state:
        state["dynamodb_stream_positions"]["data"] = {}


def _take_running_executions(emulator: Emulator) -> list[dict[str, Any]]:
    """Remove the running executions from the saved state, and return them.

    They would come back as FAILED, and their names could not be used again.
    """
    with _saved_state(emulator, "stepfunctions") as state:
        executions = state["executions"]["data"]
        running = [key for key, execution in executions.items() if execution["status"] == "RUNNING"]
        return [executions.pop(key) for key in running]


def _restart_execution(emulator: Emulator, runs_table: str, execution: Mapping[str, Any]) -> None:
    """Start an execution of the same name, which waits for the time at which its run is now due.

    On AWS it would still be waiting. If it has already sent its message, that message is still in
    the queue, with a token that no execution waits for.
    """
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
def _saved_state(emulator: Emulator, service: str) -> Iterator[dict[str, Any]]:
    """A service's saved state, to be changed while the emulator does not run."""
    path = emulator.directory / "state" / f"{service}.json"
    state = json.loads(path.read_text())
    yield state["payload"]
    path.write_text(json.dumps(state))


def _timestamp(ms: int) -> str:
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
