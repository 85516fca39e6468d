"""The port to whoever collects the money, and the round that closes periods. The ledger is the truth; behind this port
is a copy of it.

    a period of a clinic is over  ->  does its payer know?  ── no ──>  close_period, in one transaction

`metering/invoice_billing.py` implements the port with invoices that the node writes itself. What a payer has to be told
at once, charge by charge, is no part of it.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

import sqlalchemy as sa
import structlog

from domain.billing import Payer
from domain.clinics import Clinic
from domain.periods import Period
from metering.subscriptions import calendar_of, subscriptions_of
from storage.clinic_lock import lock_clinic
from storage.database import Database

log = structlog.get_logger()


class Billing(Protocol):
    """One payer's side. Both are called in a transaction that holds the clinic's lock."""

    def told(self, connection: sa.Connection, clinic: Clinic, period: Period) -> bool:
        """Whether this payer knows already what the period costs, or need not know."""

    def close_period(self, connection: sa.Connection, clinic: Clinic, period: Period) -> None:
        """The period is over: ask for what it costs. What is still in work counts in the one that runs from now on."""


def close_ended_periods(
    database: Database, clinics: Collection[Clinic], payers: Mapping[Payer, Billing], *, now: datetime
) -> int:
    """Close every period that is over and that its payer does not know of; how many there were.

    Doing it again closes nothing twice. A clinic's first period is the one in which its subscription began, or
    this payer was first named.
    """
    closed = 0
    for clinic in clinics:
        billing = payers.get(clinic.billing.payer)
        if billing is None:
            continue
        for period in _ended(database, clinic, now):
            with database.write() as connection:
                lock_clinic(connection, clinic.name)
                if billing.told(connection, clinic, period):
                    continue
                billing.close_period(connection, clinic, period)
            log.info("period_closed", clinic=clinic.name, period=period.key, payer=str(clinic.billing.payer))
            closed += 1
    return closed


def _ended(database: Database, clinic: Clinic, now: datetime) -> list[Period]:
    with database.read() as connection:
        past = subscriptions_of(connection, clinic=clinic.name)
        began = next((one.begins_at for one in past if one.is_paid_by(clinic.billing.payer)), None)
        if began is None:
            return []
        periods = calendar_of(connection, clinic=clinic.name).periods_between(began, now)
        return [period for period in periods if period.ends_at <= now]
