"""The table that the README's examples write to.

The stack creates no tables of a team: it only lets actions and handlers use those that `tables`
in `cdk.json` names. `make up` creates this one so that the examples work as soon as it is done.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

ORDERS = "workpool-example-orders"


def create_example_table(dynamodb: "DynamoDBClient") -> None:
    """Create the table unless it exists."""
    with suppress(dynamodb.exceptions.ResourceInUseException):
        dynamodb.create_table(
            TableName=ORDERS,
            KeySchema=[{"AttributeName": "orderId", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "orderId", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
