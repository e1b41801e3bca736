"""An example: charge a card at a payment provider that has its bad days. `make demo` runs it."""

import json
import os
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from workpool import ActionContext, NonRetryableError, action

PROVIDER = os.environ.get("PAYMENTS_URL", "http://127.0.0.1:8900")


@action
def charge(ctx: ActionContext, args: dict[str, Any]) -> dict[str, Any]:
    """Idempotent by the key it sends: however often it runs, the provider charges once."""
    request = Request(
        f"{PROVIDER}/charges",
        data=json.dumps(args).encode(),
        headers={"Content-Type": "application/json", "Idempotency-Key": ctx.idempotency_key},
    )
    try:
        with urlopen(request, timeout=ctx.remaining_ms() / 1000) as answer:
            return dict(json.load(answer))
    except HTTPError as error:
        if error.code == 402:  # The card is bad, and stays bad: no use in trying again.
            raise NonRetryableError(f"the card of order {args['orderId']} was declined") from error
        raise
