"""Handle a batch of SQS records one by one. Only records that are not done go back to their queue.

Every handler of a queue uses this.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from workpool.aws import logs, queues
from workpool.aws.environment import environment
from workpool.errors import UnknownShape

Record = dict[str, Any]


class BatchFailed(Exception):
    """None of the records could be handled. Raised so that the invocation counts as an error."""


def for_each_record(
    event: dict[str, Any], handle: Callable[[Record], float | None], *, parallel: bool = False
) -> dict[str, Any]:
    """Call `handle` for each record. Returns the response of ReportBatchItemFailures.

    `parallel`: all at the same time, so that a service that does not answer delays only those that
    need it.

    `handle` returns None if the record is done, else the seconds after which it must come back. If
    `handle` raises, the record comes back after its queue's visibility timeout. A record that this
    version cannot read is set aside immediately, since waiting would not help.

    Raises BatchFailed if `handle` raised for every record. The records come back all the same. But
    Lambda counts an invocation that hands all its records back as a success, so no alarm sees it.
    """

    def finish(record: Record) -> Literal["done", "back", "failed"]:
        try:
            seconds = _handle_or_set_aside(record, handle)
            if seconds is None:
                return "done"
            queues.change_visibility(record["eventSourceARN"], record["receiptHandle"], seconds)
        except Exception as error:
            logs.log_error("record-failed", error, messageId=record["messageId"])
            return "failed"
        return "back"

    records = event["Records"]
    if parallel and len(records) > 1:
        with ThreadPoolExecutor(len(records)) as threads:
            ends = list(threads.map(finish, records))
    else:
        ends = [finish(record) for record in records]
    if records and all(end == "failed" for end in ends):
        raise BatchFailed(f"none of {len(records)} messages could be done: see record-failed")
    return {
        "batchItemFailures": [
            {"itemIdentifier": record["messageId"]}
            for record, end in zip(records, ends, strict=True)
            if end != "done"
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
