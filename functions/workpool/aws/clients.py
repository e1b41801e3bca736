"""The only place that imports boto3: one client per service, made when first used.

Making a client costs a cold start 5 to 50 ms, so each function makes only those it uses.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, overload

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from workpool.errors import Internal, Throttled

if TYPE_CHECKING:  # Only mypy imports these: no function ships them.
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_events import EventBridgeClient
    from types_boto3_lambda import LambdaClient
    from types_boto3_s3 import S3Client
    from types_boto3_sqs import SQSClient
    from types_boto3_stepfunctions import SFNClient

AWSError = (ClientError, BotoCoreError)
"""What a call of a client raises when AWS refuses it or cannot be reached."""

CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 4}, connect_timeout=5, read_timeout=20
)


SIGNED_URLS = Config(signature_version="s3v4")
"""boto3 still signs a URL the older way where S3 accepts both."""


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
    """The process's client of a service; safe to share between threads."""
    config = CONFIG.merge(SIGNED_URLS) if service == "s3" else CONFIG
    return boto3.client(service, config=config)


@cache
def patient_lambda(seconds: int) -> "LambdaClient":
    """A client of Lambda that waits so many seconds for an answer and does not retry."""
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=seconds)
    return boto3.client("lambda", config=config)


@contextmanager
def library_errors() -> Iterator[None]:
    """What a caller of a verb sees of AWS's errors: Throttled for load, else Internal, without
    details. Every verb that callers use is decorated with it."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _THROTTLING:
            raise Throttled(f"AWS refused for load ({code}); try again") from error
        raise Internal(f"AWS refused ({code}); the same request may be tried again") from error
    except BotoCoreError as error:
        raise Internal("AWS did not answer; the same request may be tried again") from error


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
