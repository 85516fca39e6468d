"""each clinic's share of the queue; a study keeps its place for all its jobs"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "queue_shares",
        sa.Column("clinic", sa.String(length=64), nullable=False),
        sa.Column("finish_tag", sa.Integer(), nullable=False),
        sa.Column("started_tag", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["clinic"], ["clinics.name"], name=op.f("fk_queue_shares_clinic")),
        sa.PrimaryKeyConstraint("clinic", name=op.f("pk_queue_shares")),
    )
    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.add_column(sa.Column("priority", sa.Integer(), nullable=False, server_default="1000"))


def downgrade() -> None:
    with op.batch_alter_table("studies", schema=None) as batch_op:
        batch_op.drop_column("priority")

    op.drop_table("queue_shares")
