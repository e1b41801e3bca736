"""Handle a batch of SQS records one by one. Only records that are not done go back to their queue.

Every handler of a queue uses this.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from workpool.aws import logs, queues
from workpool.aws.environment import environment
from workpool.errors import UnknownShape

Record = dict[str, Any]


def for_each_record(
    event: dict[str, Any], handle: Callable[[Record], float | None], *, parallel: bool = False
) -> dict[str, Any]:
    """Call `handle` for each record. Returns the response of ReportBatchItemFailures.

    `parallel`: all at the same time, so that a service that does not answer delays only those that
    need it.

    `handle` returns None if the record is done, else the seconds after which it must come back. If
    `handle` raises, the record comes back after its queue's visibility timeout. A record that this
    version cannot read is set aside immediately, since waiting would not help.
    """

    def finish(record: Record) -> bool:
        try:
            seconds = _handle_or_set_aside(record, handle)
            if seconds is None:
                return True
            queues.change_visibility(record["eventSourceARN"], record["receiptHandle"], seconds)
        except Exception as error:
            logs.log_error("record-failed", error, messageId=record["messageId"])
        return False

    records = event["Records"]
    if parallel and len(records) > 1:
        with ThreadPoolExecutor(len(records)) as threads:
            finished = list(threads.map(finish, records))
    else:
        finished = [finish(record) for record in records]
    return {
        "batchItemFailures": [
            {"itemIdentifier": record["messageId"]}
            for record, done in zip(records, finished, strict=True)
            if not done
        ]
    }


def _handle_or_set_aside(record: Record, handle: Callable[[Record], float | None]) -> float | None:
    try:
        return handle(record)
    except UnknownShape as unreadable:
        pool = environment().pool_of_queue(record["eventSourceARN"])
        queues.set_aside_message(pool, record["body"], reason=str(unreadable))
        logs.log("message-parked", pool=pool, error=str(unreadable))
        return None
