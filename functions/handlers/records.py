"""A batch of SQS records, one by one: those that are not done go back to their queue alone."""

from collections.abc import Callable
from typing import Any

from workpool import events, queues

Record = dict[str, Any]


def each_record(event: dict[str, Any], do: Callable[[Record], float | None]) -> dict[str, Any]:
    """Do each record; the answer of ReportBatchItemFailures.

    `do` answers None when the record is done, else the seconds after which it should come back.
    One that raises comes back after its queue's visibility timeout.
    """
    back = []
    for record in event["Records"]:
        try:
            seconds = do(record)
            if seconds is None:
                continue
            queues.come_back_in(record["eventSourceARN"], record["receiptHandle"], seconds)
        except Exception as error:
            events.failed("record-failed", error, messageId=record["messageId"])
        back.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": back}
