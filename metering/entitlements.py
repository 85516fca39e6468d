"""Which models a clinic has bought at Stripe, by the last answer; that answer is good for 72 hours."""

from datetime import datetime, timedelta

import sqlalchemy as sa

from storage.tables import billing_accounts

KNOWN_FOR = timedelta(hours=72)


def entitled_packages(connection: sa.Connection, *, clinic: str, now: datetime) -> frozenset[str] | None:
    """None: Stripe does not say, and the plan alone does: the clinic is not billed by it, or never subscribed there.

    When Stripe did not answer for 72 hours, nothing is known to be bought any more: what comes waits, and the metrics
    have been saying so for three days.
    """
    row = connection.execute(
        sa.select(billing_accounts.c.packages, billing_accounts.c.subscription_id, billing_accounts.c.seen_at).where(
            billing_accounts.c.clinic == clinic
        )
    ).first()
    if row is None or row.subscription_id is None:
        return None
    is_known = row.seen_at is not None and now - row.seen_at <= KNOWN_FOR
    return frozenset(row.packages) if is_known else frozenset()
