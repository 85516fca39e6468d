"""Which models a clinic has bought at Stripe, by its last answer. That answer is good for 72 hours.

Afterwards it is not known what is bought: new studies wait, and go on by themselves with the next answer. The metrics
have been saying for three days by then that Stripe is silent.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from domain.plans import Plan
from storage.tables import billing_accounts

KNOWN_FOR = timedelta(hours=72)
_SUBSCRIBED = sa.select(billing_accounts.c.packages, billing_accounts.c.seen_at).where(
    billing_accounts.c.clinic == sa.bindparam("clinic"), billing_accounts.c.subscription_id.is_not(None)
)


def with_entitlements(connection: sa.Connection, plan: Plan, *, clinic: str) -> Plan:
    """The plan with the models only that Stripe says the clinic has bought."""
    row = _subscribed(connection, clinic)
    return plan if row is None else replace(plan, packages=plan.packages & frozenset(row.packages))


def are_known(connection: sa.Connection, *, clinic: str, now: datetime) -> bool:
    """Whether Stripe has answered lately, where it has anything to say: the clinic has subscribed there once."""
    row = _subscribed(connection, clinic)
    return row is None or (row.seen_at is not None and now - row.seen_at <= KNOWN_FOR)


def _subscribed(connection: sa.Connection, clinic: str) -> sa.Row[Any, Any] | None:
    return connection.execute(_SUBSCRIBED, {"clinic": clinic}).first()
