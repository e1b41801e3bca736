"""What Lambda passes to a function: the event of whatever invokes it, and the context. And what the
functions that read a queue answer."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any
from urllib.parse import unquote

from handlers.records import BatchFailed
from tests.support.environment import ACCOUNT, REGION, START_MS
from workpool.core.run import Item

FIRST_SEQUENCE = 10**20


@dataclass(frozen=True)
class Context:
    """What Lambda passes beside the event."""

    get_remaining_time_in_millis: Callable[[], int]


def context_with(*remaining_ms: int) -> Context:
    """With so much time left, each time it is asked; the last one for ever. Default: 70 seconds."""
    first = remaining_ms or (70_000,)
    return Context(chain(first, repeat(first[-1])).__next__)


def context_until(deadline_ms: int, now_ms: Callable[[], int]) -> Context:
    """With the time that is left on a clock."""
    return Context(lambda: max(0, deadline_ms - now_ms()))


def queue_event(queue: str, messages: Iterable[tuple[str, str, str]]) -> dict[str, Any]:
    """The event of a queue's mapping; a message is its id, its receipt handle and its body."""
    return {
        "Records": [
            {
                "messageId": message_id,
                "receiptHandle": receipt,
                "body": body,
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}",
            }
            for message_id, receipt, body in messages
        ]
    }


def answer_of(
    handler: Callable[[dict[str, Any], Any], dict[str, Any]], event: dict[str, Any], context: Any
) -> dict[str, Any]:
    """What a queue's mapping takes from an invocation: if it raises, no message is acknowledged."""
    try:
        return handler(event, context)
    except BatchFailed:
        failed = [{"itemIdentifier": record["messageId"]} for record in event["Records"]]
        return {"batchItemFailures": failed}


def handed_back(answer: dict[str, Any]) -> set[str]:
    """The ids of the messages that a function did not acknowledge."""
    return {it["itemIdentifier"] for it in answer["batchItemFailures"]}


def bodies_handed_back(event: dict[str, Any], answer: dict[str, Any]) -> list[str]:
    """The bodies of those messages, in the event's order."""
    back = handed_back(answer)
    return [it["body"] for it in event["Records"] if it["messageId"] in back]


def stream_record(
    old: Item | None,
    new: Item | None,
    *,
    sequence: int = FIRST_SEQUENCE,
    at_ms: int = START_MS,
) -> dict[str, Any]:
    """A record of the runs table's stream: the item changed from old to new."""
    item = new or old
    assert item is not None
    images = {"OldImage": old, "NewImage": new}
    return {
        "eventID": "1",
        "eventName": "REMOVE" if new is None else "INSERT" if old is None else "MODIFY",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": REGION,
        "dynamodb": {
            "ApproximateCreationDateTime": at_ms / 1000,
            "Keys": {"run": item["run"]},
            **{name: dict(image) for name, image in images.items() if image is not None},
            "SequenceNumber": str(sequence),
            "SizeBytes": 200,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
        "eventSourceARN": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/runs/stream/2026",
    }


def http_event(
    method: str, path: str, body: str | None = None, *, is_base64: bool = False, route: str = ""
) -> dict[str, Any]:
    """An event of payload format 2.0, as an HTTP API with IAM authorization sends it."""
    host = f"a1b2c3.execute-api.{REGION}.amazonaws.com"
    return {
        "version": "2.0",
        "routeKey": route or f"{method} {path}",
        "rawPath": unquote(path),  # As API Gateway decodes it.
        "rawQueryString": "",
        "headers": {
            "accept": "*/*",
            "content-type": "application/json",
            "host": host,
            "x-amz-date": "20260921T141320Z",
            "x-forwarded-proto": "https",
        },
        "pathParameters": {"pool": "default"},
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "a1b2c3",
            "authorizer": {"iam": {"userArn": f"arn:aws:iam::{ACCOUNT}:user/caller"}},
            "domainName": host,
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "test",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": route or f"{method} {path}",
            "stage": "$default",
            "time": "21/Sep/2026:14:13:20 +0000",
            "timeEpoch": START_MS,
        },
        **({} if body is None else {"body": body}),
        "isBase64Encoded": is_base64,
    }
