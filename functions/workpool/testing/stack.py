"""The stack that a test's pools stand for: its names, its tables, its environment."""

import logging
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
"""Of a pool's settings, as `cdk.json` has them."""


def tables(*, runs: str, stats: str) -> list[dict[str, Any]]:
    """What `create_table` needs for the two tables of a stack."""
    pay = {"BillingMode": "PAY_PER_REQUEST"}
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
            **pay,
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
            **pay,
        },
    ]


def forget(stack: str) -> None:
    """Forget what this process knows of a deployment: its environment, its names, its loggers."""
    for cached in (
        environment_of_process,
        pools.pools,
        lookup.decorated,
        lambda_actions.read_timeout_ms,
        logs.logger,
        logs.user_logger,
        logs.always_logger,
    ):
        cached.cache_clear()
    for name in (stack, f"{stack}-user", f"{stack}-stats"):
        # Powertools keeps a logger's first handler and its standard output.
        logging.Logger.manager.loggerDict.pop(name, None)


def environment(region: str) -> dict[str, str]:
    """What a function of the stack finds in its environment, and a region's credentials."""
    queues = f"https://sqs.{region}.amazonaws.com/{DEFAULT_ACCOUNT_ID}"
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
        "WORKPOOL_RETRIER": f"arn:aws:states:{region}:{DEFAULT_ACCOUNT_ID}:stateMachine:{{pool}}",
        "WORKPOOL_CONSUMER": f"{STACK}-{{pool}}-consumer",
        "IDEMPOTENT_WORKPOOL_LOG_LEVEL": "INFO",
    }
