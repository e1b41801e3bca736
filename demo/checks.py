"""Check the demo's claims against two independent sources: the provider's ledger and the tables.

Pure: evidence in, verdicts out.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from demo.orders import Fate, Order
from workpool import RunStatus


@dataclass(frozen=True, kw_only=True)
class Check:
    """A claim, whether it held, and the numbers that show it."""

    claim: str
    held: bool
    numbers: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that the claims are checked against, read after the last run has ended."""

    orders: Sequence[Order]
    runs: Mapping[str, RunStatus]
    """By order id."""
    rows: Mapping[str, Mapping[str, Any]]
    """The orders table, by order id."""
    balance: int
    ledger: Mapping[str, Any]
    """The provider's."""
    max_parallelism: int


def judge(evidence: Evidence) -> list[Check]:
    """Check every claim of the demo."""

    def with_fate(fate: Fate) -> list[Order]:
        return [order for order in evidence.orders if order.fate == fate]

    ledger = evidence.ledger
    to_charge = [order for order in evidence.orders if order.charged]
    charges = Counter(charge["orderId"] for charge in ledger["charges"])
    attempts = sum(
        (run.retries or 0) + 1 for run in evidence.runs.values() if run.retries is not None
    )
    rows = evidence.rows
    settlements = {
        order.id: int(rows.get(order.id, {}).get("settlements", 0)) for order in evidence.orders
    }
    expected = {order.id: 0 if order.fate == "torn" else 1 for order in evidence.orders}
    total = sum(charge["amount"] for charge in ledger["charges"])
    [bad], [canceled], [torn], [killed] = (
        with_fate("bad card"),
        with_fate("canceled"),
        with_fate("torn"),
        with_fate("killed"),
    )

    def result(order: Order) -> Any:
        run = evidence.runs[order.id]
        return (run.result or {}).get("type", run.kind)

    return [
        Check(
            claim="Each order was charged exactly once, although actions ran more often",
            held=charges == Counter(order.id for order in to_charge) and attempts > len(to_charge),
            numbers=f"{len(to_charge)} orders, {sum(charges.values())} charges, "
            f"{attempts} attempts; "
            f"{ledger['repeated']} repeated requests that the idempotency key made harmless",
        ),
        Check(
            claim=f"Never more than {evidence.max_parallelism} requests at the provider at once",
            held=ledger["most_at_once"] <= evidence.max_parallelism,
            numbers=f"at most {ledger['most_at_once']} of {ledger['requests']}, "
            "by the provider's own count",
        ),
        Check(
            claim="Each completion took effect exactly once",
            held=settlements == expected and evidence.balance == total,
            numbers=f"{sum(settlements.values())} settlements of {sum(expected.values())} runs; "
            f"balance {evidence.balance}, the provider's ledger {total}",
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
            held=all(
                result(order) == "success" and order.id in rows
                for order in with_fate("transaction")
            ),
            numbers=f"{len(with_fate('transaction'))} orders",
        ),
        Check(
            claim="The bad card was tried once and not again",
            held=result(bad) == "failed" and ledger["declined"] == 1,
            numbers=f"{bad.id}: {result(bad)}, declined {ledger['declined']} time(s)",
        ),
        Check(
            claim="The order whose process was killed recovered",
            held=result(killed) == "success"
            and (evidence.runs[killed.id].retries or 0) >= 1
            and killed.id in ledger["held"]
            and charges[killed.id] == 1,
            numbers=f"{killed.id}: {result(killed)} after "
            f"{evidence.runs[killed.id].retries} retries, "
            f"charged {charges[killed.id]} time(s)",
        ),
    ]
