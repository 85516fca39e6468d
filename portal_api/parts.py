"""What the routes work with. The application holds it; nothing in this room is global."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from fastapi import Request

from domain.care import Done, Rejection, Verb
from domain.clinics import Clinic
from domain.plans import Tier
from storage.database import Database


class Care(Protocol):
    """See metering.care.Care, which brings the job engine along: it is opened only when somebody asks."""

    def ask(
        self,
        verb: Verb,
        study_instance_uid: str,
        *,
        clinics: Collection[str] | None,
        asked_by: str,
        rejection: Rejection = Rejection.SAFETY,
    ) -> Done: ...


class Payments(Protocol):
    """See metering.stripe.billing.StripeBilling, which brings Stripe's library along."""

    def receive(self, body: bytes, signature: str) -> None: ...

    def checkout(self, clinic: str, *, tier: Tier | None, return_url: str) -> str: ...

    def portal(self, clinic: str, *, return_url: str) -> str: ...


def no_payments() -> Payments | None:
    """A node without a key for Stripe."""
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """`data_dir` None: it is on another machine, and its free space is not this portal's to judge.

    return_url: where a payer's pages lead back to.
    """

    database: Database
    clinics: tuple[Clinic, ...]
    version: str
    worker_lease_s: float
    data_dir: Path | None
    open_care: Callable[[], Care]
    open_payments: Callable[[], Payments | None] = no_payments
    return_url: str = ""


def parts_of(request: Request) -> Parts:
    """The parts that the application was built with."""
    return cast(Parts, request.app.state.parts)
