"""The demo's action: charge a card at a payment provider that is not always available."""

import json
import os
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from workpool import ActionContext, NonRetryableError, action

PROVIDER = os.environ["PAYMENTS_URL"]


@action
def charge(ctx: ActionContext, args: dict[str, Any]) -> dict[str, Any]:
    """Idempotent because of the key that it sends: the provider charges once per key."""
    request = Request(
        f"{PROVIDER}/charges",
        data=json.dumps(args).encode(),
        headers={"Content-Type": "application/json", "Idempotency-Key": ctx.idempotency_key},
    )
    try:
        with urlopen(request, timeout=ctx.remaining_ms() / 1000) as answer:
            return dict(json.load(answer))
    except HTTPError as error:
        if error.code == 402:  # The card is bad and stays bad: another attempt is no use.
            raise NonRetryableError(f"the card of order {args['orderId']} was declined") from error
        raise
