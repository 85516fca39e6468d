"""What came of a run: the ledger, Stripe and the invoices side by side, and every promise that was broken."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Outcome:
    """`lost` and `double`: studies that Stripe has fewer, or more, times than the ledger. Cents are of usage.

    ways: how the ledger's rows went, and how many.
    """

    database: str
    seed: int
    seconds: float = 0.0
    months: int = 0
    charges: int = 0
    credits: int = 0
    plan_changes: int = 0
    crashes: int = 0
    kills: int = 0
    outages: int = 0
    misfortunes: Counter[str] = field(default_factory=Counter)
    ways: Counter[str] = field(default_factory=Counter)
    sent_again: int = 0
    reconciled: int = 0
    corrected: int = 0
    ledger_studies: int = 0
    stripe_studies: int = 0
    invoice_studies: int = 0
    ledger_cents: int = 0
    invoice_cents: int = 0
    lost: int = 0
    double: int = 0
    broken: list[str] = field(default_factory=list)

    @property
    def is_kept(self) -> bool:
        same = (
            self.ledger_studies == self.stripe_studies == self.invoice_studies
            and self.ledger_cents == self.invoice_cents
        )
        return same and not (self.lost or self.double or self.broken)

    def lines(self) -> list[str]:
        """To be printed."""
        return [
            f"{self.database}, seed {self.seed}: {'every promise kept' if self.is_kept else 'BROKEN'}",
            f"  {self.charges} charges, {self.credits} credits, {self.plan_changes} plan changes,"
            f" {self.months} month ends",
            f"  {self.crashes} crashes between two steps, {self.kills} processes killed, {self.outages} outages",
            "  " + ", ".join(f"{count} {name}" for name, count in sorted(self.misfortunes.items()) if count),
            "  rows: " + ", ".join(f"{count} {way}" for way, count in sorted(self.ways.items())),
            f"  {self.sent_again} rows asked for more than once, {self.reconciled} begun anew,"
            f" {self.corrected} periods corrected",
            f"  studies: ledger {self.ledger_studies}, Stripe {self.stripe_studies}, invoices {self.invoice_studies}",
            f"  US cents: ledger {self.ledger_cents}, invoices {self.invoice_cents}",
            f"  {self.lost} lost, {self.double} double, {self.seconds:.0f} s",
            *(f"  BROKEN: {one}" for one in self.broken),
        ]
