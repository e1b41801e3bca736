"""The demo's completion handler: record how a charge ended, exactly once."""

from typing import Any

from workpool import CompletionContext, completion

ORDERS = "workpool-demo-orders"
ACCOUNTS = "workpool-demo-accounts"


@completion
def settled(ctx: CompletionContext, context: Any, result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return writes that are committed together with the mark that this handler ran.

    So the order's row and the account's balance change once, even if the process dies in the
    middle and the handler is called again.
    """
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
