"""The stack that the pools of a test belong to: its names, its tables, its environment."""

import os
from typing import Any

from moto.core.models import DEFAULT_ACCOUNT_ID

from workpool import lookup
from workpool.aws import lambda_actions, logs, pools
from workpool.aws.environment import environment as environment_of_process

STACK = "Local"
BUCKET = "workpool-local-payloads"

DEFAULTS: dict[str, Any] = {
    "maxParallelism": 1,
    "initialBackoffMs": 250,
    "base": 2,
    "maxRetries": 4,
    "statsWindowMs": 300_000,
    "actionTimeoutSeconds": 60,
    "retentionSeconds": 86_400,
    "lambdaActions": [],
}
"""A pool's settings where the configuration has none, under the names of `cdk.json`."""


def account() -> str:
    """The account that moto plays."""
    return os.environ.get("MOTO_ACCOUNT_ID", DEFAULT_ACCOUNT_ID)


def tables(*, runs: str, stats: str) -> list[dict[str, Any]]:
    """The parameters of `create_table` for the two tables of a stack."""
    billing = {"BillingMode": "PAY_PER_REQUEST"}
    return [
        {
            "TableName": runs,
            "KeySchema": [{"AttributeName": "run", "KeyType": "HASH"}],
            "AttributeDefinitions": [
                {"AttributeName": name, "AttributeType": kind}
                for name, kind in (("run", "S"), ("open", "S"), ("enqueuedAt", "N"))
            ],
            "GlobalSecondaryIndexes": [
                {
                    "IndexName": "open",
                    "KeySchema": [
                        {"AttributeName": "open", "KeyType": "HASH"},
                        {"AttributeName": "enqueuedAt", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            ],
            "StreamSpecification": {
                "StreamEnabled": True,
                "StreamViewType": "NEW_AND_OLD_IMAGES",
            },
            **billing,
        },
        {
            "TableName": stats,
            "KeySchema": [
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            "AttributeDefinitions": [
                {"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")
            ],
            **billing,
        },
    ]


def forget(stack: str) -> None:
    """Forget what this process has cached of a deployment: its environment, names and loggers."""
    for cached in (
        environment_of_process,
        pools.pools,
        lookup.decorated,
        lambda_actions.read_timeout_ms,
        logs.logger,
        logs.always_logger,
    ):
        cached.cache_clear()


def environment(region: str) -> dict[str, str]:
    """The environment of a function of the stack, with credentials and the region."""
    queues = f"https://sqs.{region}.amazonaws.com/{account()}"
    return {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "WORKPOOL_STACK": STACK,
        "WORKPOOL_RUNS_TABLE": f"{STACK}-runs",
        "WORKPOOL_STATS_TABLE": f"{STACK}-stats",
        "WORKPOOL_PAYLOADS_BUCKET": BUCKET,
        "WORKPOOL_EVENT_BUS": f"{STACK}-events",
        "WORKPOOL_WORK_QUEUE": f"{queues}/{{pool}}-work",
        "WORKPOOL_DEAD_LETTER_QUEUE": f"{queues}/{{pool}}-dead-letters",
        "WORKPOOL_PARKED_QUEUE": f"{queues}/{{pool}}-parked",
        "WORKPOOL_SHARED_PARKED_QUEUE": f"{queues}/parked",
        "WORKPOOL_RELAY_RETRY_QUEUE": f"{queues}/relay-retry",
        "WORKPOOL_RETRIER": f"arn:aws:states:{region}:{account()}:stateMachine:{{pool}}",
        "WORKPOOL_CONSUMER": f"{STACK}-{{pool}}-consumer",
        "WORKPOOL_COMPLETION_TIMEOUT_SECONDS": "60",
        "IDEMPOTENT_WORKPOOL_LOG_LEVEL": "INFO",
    }
