"""The clinic's row about Stripe: made with its customer, brought up to date by whoever asks Stripe."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from storage.database import Database
from storage.tables import billing_accounts


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """What is known here. `seen_at`: when Stripe last answered about it; `subscription_id` None: it has none there."""

    clinic: str
    customer_id: str
    subscription_id: str | None
    status: str
    tier: str
    period_begins_at: datetime | None
    period_ends_at: datetime | None
    metered_since: datetime | None
    metered_price_id: str
    packages: tuple[str, ...]
    disputes: dict[str, str]
    seen_at: datetime | None
    begun_at: datetime


def read_accounts(database: Database) -> list[Account]:
    with database.read() as connection:
        rows = connection.execute(sa.select(billing_accounts).order_by(billing_accounts.c.clinic)).all()
    return [_account(row) for row in rows]


def account_of(connection: sa.Connection, clinic: str) -> Account | None:
    row = connection.execute(sa.select(billing_accounts).where(billing_accounts.c.clinic == clinic)).first()
    return None if row is None else _account(row)


def clinic_of_customer(database: Database, customer_id: str) -> str | None:
    query = sa.select(billing_accounts.c.clinic).where(billing_accounts.c.customer_id == customer_id)
    with database.read() as connection:
        return connection.scalar(query)


def open_account(connection: sa.Connection, *, clinic: str, customer_id: str, now: datetime) -> None:
    """From now on the clinic's ledger rows are told to Stripe. What was charged before is not."""
    connection.execute(
        sa.insert(billing_accounts).values(
            clinic=clinic, customer_id=customer_id, identifier_key=secrets.token_hex(32), begun_at=now
        )
    )


def update_account(connection: sa.Connection, clinic: str, **values: Any) -> None:
    connection.execute(sa.update(billing_accounts).where(billing_accounts.c.clinic == clinic).values(**values))


def _account(row: sa.Row[Any]) -> Account:
    values = {name: value for name, value in row._mapping.items() if name != "identifier_key"}
    return Account(**values | {"packages": tuple(row.packages)})
