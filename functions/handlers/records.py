"""A batch of SQS records, one by one: those that are not done go back to their queue alone."""

from collections.abc import Callable
from typing import Any

from workpool.aws import logs, queues
from workpool.aws.environment import environment
from workpool.errors import UnknownShape

Record = dict[str, Any]


def each_record(event: dict[str, Any], do: Callable[[Record], float | None]) -> dict[str, Any]:
    """Do each record; the answer of ReportBatchItemFailures.

    `do` answers None when the record is done, else the seconds after which it should come back.
    One that raises comes back after its queue's visibility timeout; one that nobody can read is
    set aside at once, since waiting would not help.
    """
    back = []
    for record in event["Records"]:
        try:
            seconds = _done(record, do)
            if seconds is None:
                continue
            queues.change_visibility(record["eventSourceARN"], record["receiptHandle"], seconds)
        except Exception as error:
            logs.log_error("record-failed", error, messageId=record["messageId"])
        back.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": back}


def _done(record: Record, do: Callable[[Record], float | None]) -> float | None:
    try:
        return do(record)
    except UnknownShape as unreadable:
        pool = environment().pool_of_queue(record["eventSourceARN"])
        queues.park_message(pool, record["body"], reason=str(unreadable))
        logs.log("message-parked", pool=pool, error=str(unreadable))
        return None
