"""destinations may be asked to commit to what they stored"""

import sqlalchemy as sa
from alembic import op

from storage.tables import UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "confirmations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("clinic", sa.String(length=64), nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("report", sa.JSON(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("asked_at", UtcDateTime(), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["clinic"], ["clinics.name"], name=op.f("fk_confirmations_clinic")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_confirmations")),
        sa.UniqueConstraint("transaction_uid", name=op.f("uq_confirmations_transaction_uid")),
    )
    op.create_index("ix_confirmations_destination", "confirmations", ["clinic", "destination"])
    op.create_index(op.f("ix_confirmations_state"), "confirmations", ["state"])
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.add_column(sa.Column("owed_since", UtcDateTime(), nullable=True))
        batch_op.add_column(sa.Column("confirmation_id", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("committed_at", UtcDateTime(), nullable=True))
        batch_op.create_index(batch_op.f("ix_deliveries_confirmation_id"), ["confirmation_id"])
        batch_op.create_foreign_key(
            batch_op.f("fk_deliveries_confirmation_id"), "confirmations", ["confirmation_id"], ["id"]
        )


def downgrade() -> None:
    """Earlier versions know one state for what was stored. What waits for its commitment is sent with the next job, and
    its study ends then.
    """
    op.execute("UPDATE deliveries SET state = 'pending' WHERE state = 'stored'")
    op.execute("UPDATE deliveries SET state = 'delivered' WHERE state = 'committed'")
    op.execute("UPDATE deliveries SET state = 'refused' WHERE state = 'uncommitted'")
    op.execute("UPDATE studies SET reason = 'not_delivered' WHERE reason = 'not_committed'")
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_deliveries_confirmation_id"), type_="foreignkey")
        batch_op.drop_index(batch_op.f("ix_deliveries_confirmation_id"))
        batch_op.drop_column("committed_at")
        batch_op.drop_column("confirmation_id")
        batch_op.drop_column("owed_since")
    op.drop_table("confirmations")
