"""Who pays for a clinic, when its billing periods begin, and what stands on its invoices."""

from dataclasses import dataclass, field
from enum import StrEnum

from domain.periods import PeriodRule


class Payer(StrEnum):
    """How a clinic pays. NONE: it is metered, and nobody is sent a bill."""

    NONE = "none"
    INVOICE = "invoice"
    STRIPE = "stripe"


@dataclass(frozen=True, kw_only=True, slots=True)
class Party:
    """One side of an invoice. `address`: as it stands under the name, line by line."""

    name: str = ""
    address: tuple[str, ...] = ()
    tax_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class BillingTerms:
    """A clinic's side: who is billed, and the purchase order that the hospital wants to read on each invoice."""

    payer: Payer = Payer.NONE
    periods: PeriodRule = field(default_factory=PeriodRule)
    bill_to: Party = field(default_factory=Party)
    purchase_order: str = ""

    @property
    def is_told_by_payer(self) -> bool:
        """Whether the payer says which plan the clinic is on, and in which state its subscription is."""
        return self.payer is Payer.STRIPE


@dataclass(frozen=True, kw_only=True, slots=True)
class Issuer:
    """The operator's side: who writes the invoices, how they are numbered, when they are due, how they are paid."""

    party: Party = field(default_factory=Party)
    number_prefix: str = "INV-"
    net_days: int = 30
    payment: tuple[str, ...] = ()
