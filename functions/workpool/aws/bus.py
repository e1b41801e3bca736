"""The event bus: announces runs that ended. The only module that speaks to EventBridge."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from workpool.aws import clients, logs
from workpool.aws.environment import environment
from workpool.core.run import VERSION, Run

if TYPE_CHECKING:
    from types_boto3_events.type_defs import PutEventsRequestEntryTypeDef

SOURCE = "workpool"
RUN_ENDED = "Run Ended"
BATCH = 10
"""How many entries EventBridge takes in one request."""


def announce(runs: Sequence[Run]) -> list[Run]:
    """Put one event per ended run, ten in a request. Returns the runs that the bus did not take."""
    refused: list[Run] = []
    for start in range(0, len(runs), BATCH):
        batch = runs[start : start + BATCH]
        entries = [_entry(run) for run in batch]
        try:
            answer = clients.client("events").put_events(Entries=entries)
        except clients.AWSError as error:
            logs.log_error("events-refused", error, count=len(batch))
            refused += batch
        else:
            codes = [entry.get("ErrorCode") for entry in answer["Entries"]]
            refused += [run for run, code in zip(batch, codes, strict=True) if code is not None]
            counted = Counter(code for code in codes if code is not None)
            if counted:
                logs.log("events-refused", count=counted.total(), codes=dict(counted))
    return refused


def _entry(run: Run) -> "PutEventsRequestEntryTypeDef":
    entry: PutEventsRequestEntryTypeDef = {
        "EventBusName": environment().event_bus,
        "Source": SOURCE,
        "DetailType": RUN_ENDED,
        "Detail": json.dumps(detail(run)),
    }
    if run.trace:
        entry["TraceHeader"] = run.trace
    return entry


def detail(run: Run) -> dict[str, object]:
    """The event's detail. The bus's rule for completions matches on `onComplete`."""
    return {
        "v": VERSION,
        "run": run.key,
        "pool": run.pool,
        "runId": run.run_id,
        "action": run.action,
        "kind": run.kind,
        "result": run.result,
        **({"onComplete": run.on_complete} if run.on_complete else {}),
    }
