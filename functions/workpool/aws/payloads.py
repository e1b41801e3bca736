"""Payloads that are too large for a run's item. The only module that speaks to S3, and only for
these: a run with small payloads causes no request to S3.

An object is written once, under a name that no other write uses, and before the item that names it.
So a write that loses the race for the item has changed nothing that anybody reads. The relay
deletes an object when its run is forgotten; `orphans` deletes it if no run ever named it.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import uuid4

from botocore.exceptions import ClientError

from workpool.aws import clients, logs
from workpool.aws.environment import environment
from workpool.core.run import Payload, Run
from workpool.errors import PayloadBroken, PayloadLost, PayloadUnavailable

REQUEST_BYTES = 2048
"""Arguments or a context above this size become an object. An object costs a PUT and a GET, $5.40
per million, whatever its size. A KB in the item is billed with each write of the run: 3 times
$0.625 per million, or up to 6 times with a completion. The costs are equal at 2.9 and at 1.4 KB."""

RESULT_BYTES = 4096
"""A return value above this size becomes an object. It is in the item from the finish on: for 1
write, or for up to 4 with a completion. The costs are equal at 8.6 and at 2.2 KB."""

URL_SECONDS = 15 * 60

RETRY_SECONDS = 10
"""A message comes back after this time if S3 did not return an object of its run."""

PAGE = 1000
"""How many names S3 lists or deletes in one request."""


class StoredObject(NamedTuple):
    """An object's name, and when it was written, in epoch milliseconds."""

    name: str
    at_ms: int


def store_request(run: Run) -> Run:
    """Write large arguments and a large context as objects. Returns the run that names them. Raises
    AWSError; then the run must not be stored."""
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
    """Write a large return value of a claimed run as an object of this claim. Returns what the item
    holds instead, or the value itself if it is small. Raises AWSError."""
    data = (value.text or "").encode()
    if len(data) <= RESULT_BYTES:
        return value
    return Payload(at=_put(run, f"{run.claim}-result", data), size=len(data))


def is_large(run: Run) -> bool:
    """Whether `store_request` would write an object."""
    return _is_large(run.args) or _is_large(run.context)


def _is_large(payload: Payload | None) -> bool:
    text = None if payload is None else payload.text
    return text is not None and len(text.encode()) > REQUEST_BYTES


def read(payload: Payload | None) -> str | None:
    """A payload's JSON, from the item or from the object that holds it. None: there is no payload.

    Raises PayloadLost if the object does not exist, and PayloadUnavailable if S3 is slow or denies
    access: it may work later.
    """
    if payload is None or payload.at is None:
        return None if payload is None else payload.text
    name = payload.at
    try:
        answer = clients.client("s3").get_object(Bucket=environment().payloads_bucket, Key=name)
        return answer["Body"].read().decode()
    except UnicodeDecodeError as error:
        raise PayloadBroken(name) from error
    except clients.AWSError as error:
        if isinstance(error, ClientError) and error.response["Error"]["Code"] == "NoSuchKey":
            raise PayloadLost(name) from error
        raise PayloadUnavailable(f"{name}: {error}") from error


def read_json(payload: Payload | None) -> Any:
    """The value of a payload; None if there is none. Raises what `read` raises, and PayloadBroken
    if the text is not JSON: somebody else may have written the item or the object."""
    text = read(payload)
    if payload is None or text is None:
        return None
    try:
        return json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise PayloadBroken(payload.at or "a value in the item") from error


def _finite(text: str) -> float:
    """A number that JSON can also be written with: not Infinity, NaN or 1e999."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def url(name: str) -> str:
    """A URL where anybody can read the object for 15 minutes."""
    return clients.client("s3").generate_presigned_url(
        ClientMethod="get_object",
        Params={"Bucket": environment().payloads_bucket, "Key": name},
        ExpiresIn=URL_SECONDS,
    )


def delete(names: Sequence[str]) -> None:
    """Delete objects. If S3 refuses one, that is logged, and `orphans` deletes it later."""
    for start in range(0, len(names), PAGE):
        some = names[start : start + PAGE]
        try:
            answer = clients.client("s3").delete_objects(
                Bucket=environment().payloads_bucket,
                Delete={"Objects": [{"Key": name} for name in some], "Quiet": True},
            )
            errors = answer.get("Errors", [])
            refused = [f"{error['Key']}: {error.get('Code')}" for error in errors]
        except clients.AWSError as error:
            refused = [f"{name}: {error}" for name in some]
        if refused:
            logs.log("objects-not-deleted", count=len(refused), first=refused[0])


def list_objects(after: str) -> list[StoredObject]:
    """The next thousand objects, sorted by name, after the name `after`. "": from the beginning."""
    s3, bucket = clients.client("s3"), environment().payloads_bucket
    if after:
        answer = s3.list_objects_v2(Bucket=bucket, MaxKeys=PAGE, StartAfter=after)
    else:
        answer = s3.list_objects_v2(Bucket=bucket, MaxKeys=PAGE)
    return [
        StoredObject(entry["Key"], round(entry["LastModified"].timestamp() * 1000))
        for entry in answer.get("Contents", [])
    ]


def key_of(name: str) -> str | None:
    """The key of the run that the object belongs to; None if the object is not a payload."""
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
