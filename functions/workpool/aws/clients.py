"""The only place that imports boto3: one client per service, created when it is first used.

The clients belong to a session of the library's own. boto3's default session is for user code.
Creating a client adds 5 to 50 ms to a cold start, so each function creates only those that it uses.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, overload

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
)

from workpool.errors import Internal, Throttled, UnknownShape

if TYPE_CHECKING:  # Only mypy imports these: no function ships them.
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_events import EventBridgeClient
    from types_boto3_lambda import LambdaClient
    from types_boto3_s3 import S3Client
    from types_boto3_sqs import SQSClient
    from types_boto3_stepfunctions import SFNClient

AWSError = (ClientError, BotoCoreError)
"""What a client raises if AWS refuses a call or cannot be reached."""

ATTEMPTS = 3
CONNECT_SECONDS = 2
READ_SECONDS = 5

LONGEST_CALL_SECONDS = ATTEMPTS * (CONNECT_SECONDS + READ_SECONDS) + 1 + 2
"""How long a call takes at most, with all its repetitions, if a service accepts it and never
answers. In between, the SDK pauses for up to 1 and 2 seconds. Each function has time for it."""

CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    connect_timeout=CONNECT_SECONDS,
    read_timeout=READ_SECONDS,
)

KEEP_ALIVE_SECONDS = 60
"""The first sign of life on an idle connection, and each further one, come after this time."""

S3_CONFIG = Config(signature_version="s3v4", s3={"addressing_style": "virtual"})
"""Signs URLs in the newer way, and for the bucket's host in its region. By default boto3
still uses the older way where S3 accepts both, and S3's global host: this one may redirect for a
day after a bucket was made, and does not serve the newer regions."""


Service = Literal["dynamodb", "events", "lambda", "s3", "sqs", "stepfunctions"]


@overload
def client(service: Literal["dynamodb"]) -> "DynamoDBClient": ...
@overload
def client(service: Literal["events"]) -> "EventBridgeClient": ...
@overload
def client(service: Literal["lambda"]) -> "LambdaClient": ...
@overload
def client(service: Literal["s3"]) -> "S3Client": ...
@overload
def client(service: Literal["sqs"]) -> "SQSClient": ...
@overload
def client(service: Literal["stepfunctions"]) -> "SFNClient": ...
@cache
def client(service: Service) -> Any:
    """This process's client of a service. Threads may share it."""
    config = CONFIG.merge(S3_CONFIG) if service == "s3" else CONFIG
    return _session().client(service, config=config)


@cache
def _session() -> boto3.Session:
    """The library's session. It keeps the region that the process began with."""
    return boto3.Session(region_name=os.environ.get("AWS_DEFAULT_REGION"))


def default_session() -> boto3.Session | None:
    """boto3's default session; None if nobody has used it yet."""
    return boto3.DEFAULT_SESSION


def restore_default_session(before: boto3.Session | None) -> None:
    """Let the default session be `before` again. A session that boto3 has made by itself meanwhile
    is kept, since making one takes time: it has the region and the credentials of the process."""
    now = boto3.DEFAULT_SESSION
    if now is before or (before is None and now is not None and _identity(now) == _identity()):
        return
    boto3.DEFAULT_SESSION = before


def _identity(session: boto3.Session | None = None) -> tuple[str | None, str | None, str]:
    session = session or _session()
    credentials = session.get_credentials()
    key = credentials.access_key if credentials else None
    return session.region_name, key, session.profile_name


@overload
def without_retries(service: Literal["dynamodb"], timeout_seconds: int) -> "DynamoDBClient": ...
@overload
def without_retries(service: Literal["lambda"], timeout_seconds: int) -> "LambdaClient": ...
@cache
def without_retries(service: Literal["dynamodb", "lambda"], timeout_seconds: int) -> Any:
    """A client that sends each request once and waits up to `timeout_seconds` for the answer. For
    callers that must not repeat a request, or that repeat it themselves.

    It keeps its connections alive: NAT gateways drop one that is idle for 350 seconds, while its
    caller waits for the answer.
    """
    config = Config(
        retries={"total_max_attempts": 1},
        connect_timeout=5,
        read_timeout=timeout_seconds,
        tcp_keepalive=True,
    )
    client: Any = _session().client(service, config=config)
    # botocore switches keep-alive on, but cannot say how soon: the system's default is two hours.
    with suppress(AttributeError):
        client._endpoint.http_session._socket_options.extend(
            (socket.IPPROTO_TCP, option, KEEP_ALIVE_SECONDS)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)
        )
    return client


def may_have_arrived(error: Exception) -> bool:
    """Whether AWS may have taken the request although it did not answer it: the connection broke or
    timed out after it was made, or AWS failed inside."""
    if isinstance(error, ClientError):
        return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500
    # botocore's errors of a connection that was never made are no HTTPClientErrors.
    return isinstance(error, HTTPClientError)


def lacks_right(error: Exception) -> bool:
    """Whether AWS refused a call because the function may not make it."""
    return isinstance(error, ClientError) and error.response["Error"]["Code"] in _NO_RIGHT


@contextmanager
def library_errors() -> Iterator[None]:
    """Turn AWS's errors into errors for the caller: Throttled if AWS throttled, else Internal, both
    without details. An item that cannot be read is Internal, too. Every verb that callers use is
    decorated with it."""
    try:
        yield
    except UnknownShape as error:
        raise Internal(f"the run cannot be read: {error}") from error
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _THROTTLING:
            raise Throttled(f"AWS throttled the request ({code}); try again later") from error
        raise Internal(f"AWS refused the request ({code}); you may send it again") from error
    except BotoCoreError as error:
        raise Internal("AWS did not answer; you may send the same request again") from error


_THROTTLING = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)

_NO_RIGHT = frozenset({"AccessDenied", "AccessDeniedException"})
