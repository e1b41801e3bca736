"""An example: book how a charge ended, exactly once. `make demo` runs it."""

from typing import Any

from workpool import CompletionContext, completion

ORDERS = "workpool-demo-orders"
ACCOUNTS = "workpool-demo-accounts"


@completion
def settled(ctx: CompletionContext, context: Any, result: dict[str, Any]) -> list[dict[str, Any]]:
    """The order's row and the account's balance change together with the mark that this ran:
    once, even if the process dies in the middle and this is called again."""
    order = {
        "TableName": ORDERS,
        "Key": {"orderId": {"S": context["orderId"]}},
        "UpdateExpression": "SET charge = :result ADD settlements :one",
        "ExpressionAttributeValues": {":result": {"S": result["type"]}, ":one": {"N": "1"}},
    }
    if result["type"] != "success":
        return [{"Update": order}]
    account = {
        "TableName": ACCOUNTS,
        "Key": {"account": {"S": context["account"]}},
        "UpdateExpression": "ADD balance :amount",
        "ExpressionAttributeValues": {":amount": {"N": str(result["returnValue"]["amount"])}},
    }
    return [{"Update": order}, {"Update": account}]
