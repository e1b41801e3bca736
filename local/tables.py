"""The tables of the examples that ship in `functions/`: the demo's, and so the README's.

A deployer makes his own; the stack only lets actions and handlers use what `tables` names.
"""

from contextlib import suppress
from typing import Any

ORDERS, ACCOUNTS = "workpool-demo-orders", "workpool-demo-accounts"


def create_examples(dynamodb: Any) -> None:
    """Create them where they are not yet."""
    for table, key in ((ORDERS, "orderId"), (ACCOUNTS, "account")):
        with suppress(dynamodb.exceptions.ResourceInUseException):
            dynamodb.create_table(
                TableName=table,
                KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
