"""how it stands with Stripe: accounts, the outbox of ledger rows, settlements, and events"""

import sqlalchemy as sa
from alembic import op

from storage.tables import UtcDateTime

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "billing_accounts",
        sa.Column("clinic", sa.String(length=64), nullable=False),
        sa.Column("identifier_key", sa.String(length=64), nullable=False),
        sa.Column("customer_id", sa.String(length=64), nullable=False),
        sa.Column("subscription_id", sa.String(length=64), nullable=True),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("tier", sa.String(length=16), nullable=False),
        sa.Column("period_begins_at", UtcDateTime(), nullable=True),
        sa.Column("period_ends_at", UtcDateTime(), nullable=True),
        sa.Column("metered_since", UtcDateTime(), nullable=True),
        sa.Column("metered_price_id", sa.String(length=64), nullable=False),
        sa.Column("disputes", sa.JSON(), nullable=False),
        sa.Column("packages", sa.JSON(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=True),
        sa.Column("begun_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["clinic"], ["clinics.name"], name=op.f("fk_billing_accounts_clinic")),
        sa.PrimaryKeyConstraint("clinic", name=op.f("pk_billing_accounts")),
        sa.UniqueConstraint("customer_id", name=op.f("uq_billing_accounts_customer_id")),
    )
    op.create_table(
        "billing_outbox",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("clinic", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("route", sa.String(length=16), nullable=False),
        sa.Column("metered_at", UtcDateTime(), nullable=False),
        sa.Column("identifier", sa.String(length=64), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first_asked_at", UtcDateTime(), nullable=True),
        sa.Column("asked_at", UtcDateTime(), nullable=True),
        sa.Column("enqueued_at", UtcDateTime(), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=False),
        sa.Column("leased_until", UtcDateTime(), nullable=True),
        sa.Column("done_at", UtcDateTime(), nullable=True),
        sa.Column("stripe_id", sa.String(length=64), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["clinic"], ["billing_accounts.clinic"], name=op.f("fk_billing_outbox_clinic")),
        sa.ForeignKeyConstraint(["ledger_id"], ["ledger.id"], name=op.f("fk_billing_outbox_ledger_id")),
        sa.PrimaryKeyConstraint("ledger_id", name=op.f("pk_billing_outbox")),
    )
    op.create_index("ix_billing_outbox_due", "billing_outbox", ["state", "due_at"])
    op.create_index("ix_billing_outbox_clinic", "billing_outbox", ["clinic", "metered_at"])
    op.create_table(
        "billing_settlements",
        sa.Column("clinic", sa.String(length=64), nullable=False),
        sa.Column("period", sa.String(length=10), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("ledger_rows", sa.Integer(), nullable=False),
        sa.Column("ledger_studies", sa.Integer(), nullable=False),
        sa.Column("ledger_usd_cents", sa.Integer(), nullable=False),
        sa.Column("stripe_studies", sa.Integer(), nullable=False),
        sa.Column("stripe_usd_cents", sa.Integer(), nullable=False),
        sa.Column("invoice_item_id", sa.String(length=64), nullable=False),
        sa.Column("settled_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["clinic"], ["billing_accounts.clinic"], name=op.f("fk_billing_settlements_clinic")
        ),
        sa.PrimaryKeyConstraint("clinic", "period", "number", name=op.f("pk_billing_settlements")),
    )
    op.create_table(
        "stripe_events",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=128), nullable=False),
        sa.Column("object_id", sa.String(length=255), nullable=False),
        sa.Column("customer_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("times_received", sa.Integer(), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("processed_at", UtcDateTime(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stripe_events")),
    )
    op.create_index("ix_stripe_events_due", "stripe_events", ["processed_at", "due_at"])


def downgrade() -> None:
    for table in ("stripe_events", "billing_settlements", "billing_outbox", "billing_accounts"):
        op.drop_table(table)
