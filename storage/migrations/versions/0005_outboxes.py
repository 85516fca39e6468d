"""one job at a time drains each destination; a result with trouble of its own waits by itself"""

import sqlalchemy as sa
from alembic import op

from storage.tables import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "outboxes",
        sa.Column("clinic", sa.String(length=64), nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.Column("is_busy", sa.Boolean(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("next_attempt_at", UtcDateTime(), nullable=True),
        sa.Column("asked_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["clinic"], ["clinics.name"], name=op.f("fk_outboxes_clinic")),
        sa.PrimaryKeyConstraint("clinic", "destination", name=op.f("pk_outboxes")),
    )
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.add_column(sa.Column("due_at", UtcDateTime(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.drop_column("due_at")

    op.drop_table("outboxes")
