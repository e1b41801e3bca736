"""The orders of the demo, what happens to each of them, and the tables that they are kept in.

Pure. Everything else in the demo reads it, except for the code that is deployed.
"""

import random
from dataclasses import dataclass
from typing import Any, Literal

from demo.provider import BAD_CARD

Fate = Literal["plain", "transaction", "torn", "canceled", "bad card", "killed"]

COUNT = 100
ACCOUNT = "shop"
ORDERS_TABLE, ACCOUNTS_TABLE = "workpool-demo-orders", "workpool-demo-accounts"

_SPECIAL: dict[int, Fate] = {
    1: "killed",
    20: "bad card",
    30: "canceled",
    40: "torn",
    **{number: "transaction" for number in range(41, 51)},
}


@dataclass(frozen=True, kw_only=True)
class Order:
    """An order to be charged, and its fate.

    - plain: nothing special happens
    - transaction: the order is saved in one transaction with its run
    - torn: that transaction fails
    - canceled: its run is canceled before it starts
    - bad card: the provider declines the card
    - killed: the action's process is killed after the charge
    """

    id: str
    amount: int
    fate: Fate

    @property
    def charged(self) -> bool:
        """Whether the provider charges it in the end."""
        return self.fate not in ("torn", "canceled", "bad card")

    def args(self) -> dict[str, Any]:
        card = BAD_CARD if self.fate == "bad card" else "good-card"
        return {"orderId": self.id, "amount": self.amount, "card": card}

    def context(self) -> dict[str, Any]:
        return {"orderId": self.id, "account": ACCOUNT}


def orders(seed: int) -> list[Order]:
    """A hundred orders. The same seed gives the same orders."""
    dice = random.Random(seed)
    return [
        Order(
            id=f"order-{number:03}",
            amount=dice.randint(5, 500),
            fate=_SPECIAL.get(number, "plain"),
        )
        for number in range(1, COUNT + 1)
    ]
