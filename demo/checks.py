"""What the demo claims, each checked against two sides that do not know each other: the
provider's own ledger and the tables. Reads only; changes nothing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from demo.orders import Fate, Order
from workpool import RunStatus


@dataclass(frozen=True, kw_only=True)
class Check:
    """A claim, whether it held, and the numbers it was judged by."""

    claim: str
    held: bool
    numbers: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything there is to judge by, when all is over."""

    orders: Sequence[Order]
    runs: Mapping[str, RunStatus]  # by order id
    rows: Mapping[str, Mapping[str, Any]]  # the orders table, by order id
    balance: int
    seen: Mapping[str, Any]  # the provider's ledger
    max_parallelism: int


def judge(evidence: Evidence) -> list[Check]:
    """Every claim of the demo."""

    def fated(fate: Fate) -> list[Order]:
        return [it for it in evidence.orders if it.fate == fate]

    to_charge = [it for it in evidence.orders if it.charged]
    charges = Counter(charge["orderId"] for charge in evidence.seen["charges"])
    attempts = sum(
        (run.retries or 0) + 1 for run in evidence.runs.values() if run.retries is not None
    )
    rows = evidence.rows
    settled = {it.id: int(rows.get(it.id, {}).get("settlements", 0)) for it in evidence.orders}
    expected = {it.id: 0 if it.fate == "torn" else 1 for it in evidence.orders}
    ledger = sum(charge["amount"] for charge in evidence.seen["charges"])
    [bad], [canceled], [torn], [killed] = (
        fated("bad card"),
        fated("canceled"),
        fated("torn"),
        fated("killed"),
    )

    def result(order: Order) -> Any:
        run = evidence.runs[order.id]
        return (run.result or {}).get("type", run.kind)

    return [
        Check(
            claim="Each order was charged exactly once, although actions ran more often",
            held=charges == Counter(it.id for it in to_charge) and attempts > len(to_charge),
            numbers=f"{len(to_charge)} orders, {sum(charges.values())} charges, "
            f"{attempts} attempts; "
            f"{evidence.seen['repeated']} repeated requests that the idempotency key made harmless",
        ),
        Check(
            claim=f"Never more than {evidence.max_parallelism} requests at the provider at once",
            held=evidence.seen["most_at_once"] <= evidence.max_parallelism,
            numbers=f"at most {evidence.seen['most_at_once']} of {evidence.seen['requests']}, "
            "by the provider's own count",
        ),
        Check(
            claim="Each completion took effect exactly once",
            held=settled == expected and evidence.balance == ledger,
            numbers=f"{sum(settled.values())} settlements of {sum(expected.values())} runs; "
            f"balance {evidence.balance}, the provider's ledger {ledger}",
        ),
        Check(
            claim="The canceled order and the one of the failed transaction were never charged",
            held=(
                charges[canceled.id] == charges[torn.id] == 0
                and result(canceled) == "canceled"
                and evidence.runs[torn.id].kind == "unknown"
                and torn.id not in rows
            ),
            numbers=f"{canceled.id}: {result(canceled)}, {charges[canceled.id]} charges; "
            f"{torn.id}: {result(torn)}, no row, {charges[torn.id]} charges",
        ),
        Check(
            claim="Orders saved in a transaction with their run were charged because it committed",
            held=all(result(it) == "success" and it.id in rows for it in fated("transaction")),
            numbers=f"{len(fated('transaction'))} orders",
        ),
        Check(
            claim="The bad card was tried once and not again",
            held=result(bad) == "failed" and evidence.seen["declined"] == 1,
            numbers=f"{bad.id}: {result(bad)}, declined {evidence.seen['declined']} time(s)",
        ),
        Check(
            claim="The order whose process was killed recovered",
            held=result(killed) == "success"
            and (evidence.runs[killed.id].retries or 0) >= 1
            and killed.id in evidence.seen["held"]
            and charges[killed.id] == 1,
            numbers=f"{killed.id}: {result(killed)} after "
            f"{evidence.runs[killed.id].retries} retries, "
            f"charged {charges[killed.id]} time(s)",
        ),
    ]
