"""The queues: the only module that speaks to SQS. It sends hints and decides nothing."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from workpool.aws import clients, logs
from workpool.aws.environment import environment
from workpool.core.message import Message
from workpool.core.run import VERSION, Run

if TYPE_CHECKING:
    from types_boto3_sqs.literals import QueueAttributeNameType

BATCH = 10
"""How many entries SQS takes in one request."""

MAX_VISIBILITY_SECONDS = 11 * 3600
"""SQS allows 12 hours from when a message was received, and a function may hold it for 15 minutes
before it asks."""


def deliver(runs: Sequence[Run]) -> list[Run]:
    """Send each run's first message, ten in a request. Returns the runs whose message SQS did not
    take."""
    by_pool = defaultdict(list)
    for run in runs:
        by_pool[run.pool].append(run)
    return [run for pool, of_pool in by_pool.items() for run in _deliver(pool, of_pool)]


def _deliver(pool: str, runs: list[Run]) -> list[Run]:
    bodies = [Message(run=run.key, due=run.due).body() for run in runs]
    refused = _send(environment().work_queue(pool), bodies, [_options(run) for run in runs])
    return [runs[index] for index in refused]


class _Options(TypedDict, total=False):
    MessageGroupId: str
    MessageSystemAttributes: dict[Literal["AWSTraceHeader"], Any]


def _options(run: Run) -> _Options:
    """The message's group, for fair turns between keys, and the trace that it belongs to."""
    options: _Options = {}
    if run.fairness_key:
        options["MessageGroupId"] = run.fairness_key
    if run.trace:
        header = {"DataType": "String", "StringValue": run.trace}
        options["MessageSystemAttributes"] = {"AWSTraceHeader": header}
    return options


def deliver_again(pool: str, body: str, run: Run) -> None:
    """Put a message of a run back on its pool's work queue, unchanged, with its token."""
    clients.client("sqs").send_message(
        QueueUrl=environment().work_queue(pool), MessageBody=body, **_options(run)
    )


def relay_later(keys: Sequence[str]) -> list[str]:
    """Ask for another look at these runs soon. Returns the keys that SQS did not take."""
    bodies = [json.dumps({"v": VERSION, "run": key}) for key in keys]
    refused = _send(environment().relay_retry_queue, bodies, [{} for _ in bodies])
    return [keys[at] for at in refused]


def set_aside_message(pool: str | None, body: str, *, reason: str) -> None:
    """Put an unreadable message on its pool's parked queue, where it waits for a person. `pool` is
    None if the message comes from a queue that all pools share."""
    clients.client("sqs").send_message(
        QueueUrl=environment().parked_queue(pool),
        MessageBody=body,
        MessageAttributes={"reason": {"DataType": "String", "StringValue": reason[:1000]}},
    )


def depth(url: str) -> int:
    """How many messages a queue holds, in flight or not."""
    names: list[QueueAttributeNameType] = [
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
    ]
    answer = clients.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)
    return sum(int(answer["Attributes"][name]) for name in names)


def change_visibility(queue_arn: str, receipt: str, seconds: float) -> None:
    """Let an unacknowledged message come back after so many seconds, instead of after its queue's
    visibility timeout."""
    name = queue_arn.rpartition(":")[2]
    clients.client("sqs").change_message_visibility(
        QueueUrl=_queue_url(name),
        ReceiptHandle=receipt,
        VisibilityTimeout=min(MAX_VISIBILITY_SECONDS, math.ceil(seconds)),
    )


def _queue_url(name: str) -> str:
    any_url = environment().relay_retry_queue
    return any_url.rpartition("/")[0] + "/" + name


def _name(url: str) -> str:
    return url.rpartition("/")[2]


def _send(url: str, bodies: list[str], options: list[_Options]) -> list[int]:
    """Send ten messages in a request. Returns the positions of those that SQS did not take: of all
    ten if the request failed."""
    refused: list[int] = []
    for start in range(0, len(bodies), BATCH):
        positions = range(start, min(start + BATCH, len(bodies)))
        # `Any`: mypy cannot merge a TypedDict that names only some of an entry's optional keys.
        entries: list[Any] = [
            {"Id": str(at), "MessageBody": bodies[at], **options[at]} for at in positions
        ]
        try:
            answer = clients.client("sqs").send_message_batch(QueueUrl=url, Entries=entries)
        except clients.AWSError as error:
            logs.log_error("messages-refused", error, queue=_name(url), count=len(entries))
            refused += positions
        else:
            failed = answer.get("Failed", [])
            refused += [int(entry["Id"]) for entry in failed]
            if failed:
                codes = Counter(entry["Code"] for entry in failed)
                logs.log("messages-refused", queue=_name(url), count=len(failed), codes=dict(codes))
    return refused
