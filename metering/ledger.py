"""The ledger: one row for each study that was charged, written with the delivery that earned it. It is the truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from domain.plans import PLANS, Tier, billing_period
from metering.quota import end_reservation, used
from storage.database import Database
from storage.tables import clinics, ledger


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerRow:
    """One charged study, and the first result that a destination accepted for it."""

    clinic: str
    study_instance_uid: str
    period: str
    tier: str
    packages: tuple[str, ...]
    result_sop_instance_uid: str
    destination: str
    charged_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """A clinic's month. `included` None: unlimited. `used` counts charged and reserved studies."""

    clinic: str
    tier: str
    period: str
    used: int
    charged: int
    included: int | None
    price_usd_cents: int


def charge(
    connection: sa.Connection,
    *,
    clinic: str,
    study_instance_uid: str,
    study_id: int,
    packages: Sequence[str],
    result_sop_instance_uid: str,
    destination: str,
    now: datetime,
) -> bool:
    """Charge a study, once for ever; False when it was charged before. The reservation becomes the charge."""
    tier = connection.scalars(sa.select(clinics.c.tier).where(clinics.c.name == clinic).with_for_update()).one()
    charged_before = sa.select(ledger.c.id).where(
        ledger.c.clinic == clinic, ledger.c.study_instance_uid == study_instance_uid
    )
    if connection.execute(charged_before).first() is not None:
        return False
    end_reservation(connection, clinic=clinic, study_instance_uid=study_instance_uid)
    connection.execute(
        sa.insert(ledger).values(
            clinic=clinic,
            study_instance_uid=study_instance_uid,
            study_id=study_id,
            period=billing_period(now),
            tier=tier,
            packages=list(packages),
            result_sop_instance_uid=result_sop_instance_uid,
            destination=destination,
            charged_at=now,
        )
    )
    return True


def read_ledger(database: Database, *, clinic: str | None = None, period: str | None = None) -> list[LedgerRow]:
    """The ledger's rows in the order they were charged."""
    query = sa.select(ledger).order_by(ledger.c.id)
    if clinic is not None:
        query = query.where(ledger.c.clinic == clinic)
    if period is not None:
        query = query.where(ledger.c.period == period)
    with database.read() as connection:
        return [
            LedgerRow(
                clinic=row.clinic,
                study_instance_uid=row.study_instance_uid,
                period=row.period,
                tier=row.tier,
                packages=tuple(row.packages),
                result_sop_instance_uid=row.result_sop_instance_uid,
                destination=row.destination,
                charged_at=row.charged_at,
            )
            for row in connection.execute(query)
        ]


def read_usage(database: Database, *, period: str, clinic: str | None = None) -> list[Usage]:
    """What each clinic used in a period."""
    query = sa.select(clinics).order_by(clinics.c.name)
    if clinic is not None:
        query = query.where(clinics.c.name == clinic)
    with database.read() as connection:
        usages = []
        for row in connection.execute(query).all():
            plan = PLANS[Tier(row.tier)]
            charged = connection.scalar(
                sa.select(sa.func.count())
                .select_from(ledger)
                .where(ledger.c.clinic == row.name, ledger.c.period == period)
            )
            usages.append(
                Usage(
                    clinic=row.name,
                    tier=row.tier,
                    period=period,
                    used=used(connection, clinic=row.name, period=period),
                    charged=charged or 0,
                    included=plan.studies_per_month,
                    price_usd_cents=plan.price_usd_cents,
                )
            )
    return usages
