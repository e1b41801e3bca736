"""Payloads that are too large for a run's item: the only module that speaks to S3, and for no
other. A run of small payloads makes no request here.

An object is written once, under a name that no other write has, and before the item that names
it: whoever then loses the race for the item has changed nothing that another reads. It is deleted
by the relay, when its run is forgotten, or by `orphans`, if no run came to name it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import uuid4

from botocore.exceptions import ClientError

from workpool.aws import clients, logs
from workpool.aws.environment import environment
from workpool.core.run import Payload, Run
from workpool.errors import PayloadLost, PayloadUnavailable

REQUEST_BYTES = 2048
"""Larger arguments, and a larger context, are objects. An object costs a PUT and a GET, $5.40 per
million, whatever its size; a KB in the item is billed with each write of the run, 3 or, with a
completion, up to 6 times $0.625. They break even at 2.9 and 1.4 KB."""

RESULT_BYTES = 4096
"""A larger return value is an object. It is in the item from the finish on: 1 write, or up to 4.
They break even at 8.6 and 2.2 KB."""

URL_SECONDS = 15 * 60

UNREAD_SECONDS = 10
"""After which a message comes back whose run's object S3 did not give."""

PAGE = 1000
"""Names that S3 lists, and deletes, in one request."""


class Written(NamedTuple):
    """An object, and when it was written, in epoch milliseconds."""

    name: str
    at_ms: int


def store_request(run: Run) -> Run:
    """The run as its item may carry it: large arguments and a large context are written as objects,
    which it then names. Raises AWSError; then the run must not be stored."""
    large = {
        field: payload.text.encode()
        for field, payload in (("args", run.args), ("context", run.context))
        if payload is not None and payload.text is not None and _is_large(payload)
    }
    if not large:
        return run
    writer = uuid4().hex
    changes: dict[str, Any] = {"large": "yes"}
    for field, data in large.items():
        changes[field] = Payload(at=_put(run, f"{writer}-{field}", data))
    return replace(run, **changes)


def store_value(run: Run, value: Payload) -> Payload:
    """The return value of a claimed run as its item may carry it: a large one is written as an
    object of this claim. Raises AWSError."""
    data = (value.text or "").encode()
    if len(data) <= RESULT_BYTES:
        return value
    return Payload(at=_put(run, f"{run.claim}-result", data), size=len(data))


def is_large(run: Run) -> bool:
    """Whether `store_request` would write any object."""
    return _is_large(run.args) or _is_large(run.context)


def _is_large(payload: Payload | None) -> bool:
    text = None if payload is None else payload.text
    return text is not None and len(text.encode()) > REQUEST_BYTES


def read(payload: Payload | None) -> str | None:
    """A payload's JSON, from the item or from the object that holds it; None for none.

    Raises PayloadLost if there is no such object, and PayloadUnavailable for what may pass:
    S3 is slow, or denies.
    """
    if payload is None or payload.at is None:
        return None if payload is None else payload.text
    name = payload.at
    try:
        answer = clients.client("s3").get_object(Bucket=environment().payloads_bucket, Key=name)
        return answer["Body"].read().decode()
    except clients.AWSError as error:
        if isinstance(error, ClientError) and error.response["Error"]["Code"] == "NoSuchKey":
            raise PayloadLost(name) from error
        raise PayloadUnavailable(f"{name}: {error}") from error


def url(name: str) -> str:
    """Where the object can be read without any rights, for 15 minutes."""
    return clients.client("s3").generate_presigned_url(
        ClientMethod="get_object",
        Params={"Bucket": environment().payloads_bucket, "Key": name},
        ExpiresIn=URL_SECONDS,
    )


def delete(names: Sequence[str]) -> None:
    """Delete objects. What S3 refuses is logged, and left to `orphans`."""
    for start in range(0, len(names), PAGE):
        some = names[start : start + PAGE]
        try:
            answer = clients.client("s3").delete_objects(
                Bucket=environment().payloads_bucket,
                Delete={"Objects": [{"Key": name} for name in some], "Quiet": True},
            )
            refused = [f"{it['Key']}: {it.get('Code')}" for it in answer.get("Errors", [])]
        except clients.AWSError as error:
            refused = [f"{name}: {error}" for name in some]
        if refused:
            logs.log("objects-not-deleted", count=len(refused), first=refused[0])


def written(after: str) -> list[Written]:
    """The next thousand objects by name, behind one name; the first behind ""."""
    s3, bucket = clients.client("s3"), environment().payloads_bucket
    if after:
        answer = s3.list_objects_v2(Bucket=bucket, MaxKeys=PAGE, StartAfter=after)
    else:
        answer = s3.list_objects_v2(Bucket=bucket, MaxKeys=PAGE)
    return [
        Written(it["Key"], round(it["LastModified"].timestamp() * 1000))
        for it in answer.get("Contents", [])
    ]


def key_of(name: str) -> str | None:
    """The key of the run that an object belongs to; None for an object that is no payload."""
    pool, separator, rest = name.partition("/")
    run_id, another, file = rest.partition("/")
    return f"{pool}#{run_id}" if separator and another and "/" not in file else None


def _put(run: Run, file: str, data: bytes) -> str:
    name = f"{run.pool}/{run.run_id}/{file}"
    clients.client("s3").put_object(
        Bucket=environment().payloads_bucket,
        Key=name,
        Body=data,
        ContentType="application/json",
    )
    return name
