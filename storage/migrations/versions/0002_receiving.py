"""what receiving needs: commitments, procedure steps, receivers; content compared only when it must be"""

import sqlalchemy as sa
from alembic import op

from storage.tables import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "receivers",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_receivers")),
    )
    op.create_table(
        "commitments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("clinic", sa.String(length=64), nullable=False),
        sa.Column("request_key", sa.String(length=32), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("calling_ae_title", sa.String(length=16), nullable=False),
        sa.Column("peer_address", sa.String(length=64), nullable=False),
        sa.Column("asked", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("requested_at", UtcDateTime(), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=False),
        sa.Column("reported_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["clinic"], ["clinics.name"], name=op.f("fk_commitments_clinic")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitments")),
        sa.UniqueConstraint("request_key", name=op.f("uq_commitments_request_key")),
    )
    with op.batch_alter_table("commitments", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_commitments_state"), ["state"], unique=False)

    op.create_table(
        "procedure_steps",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("clinic", sa.String(length=64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("performed", sa.JSON(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["clinic"], ["clinics.name"], name=op.f("fk_procedure_steps_clinic")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_procedure_steps")),
        sa.UniqueConstraint("clinic", "sop_instance_uid", name=op.f("uq_procedure_steps_clinic_sop_instance_uid")),
    )
    with op.batch_alter_table("procedure_steps", schema=None) as batch_op:
        batch_op.create_index("ix_procedure_steps_clinic_study", ["clinic", "study_instance_uid"], unique=False)

    with op.batch_alter_table("instances", schema=None) as batch_op:
        batch_op.add_column(sa.Column("removed_at", UtcDateTime(), nullable=True))
        batch_op.alter_column("content_sha256", existing_type=sa.VARCHAR(length=64), nullable=True)

    with op.batch_alter_table("quarantine", schema=None) as batch_op:
        batch_op.add_column(sa.Column("peer_address", sa.String(length=64), nullable=False, server_default=""))
        batch_op.alter_column("clinic", existing_type=sa.VARCHAR(length=64), nullable=True)


def downgrade() -> None:
    with op.batch_alter_table("quarantine", schema=None) as batch_op:
        batch_op.alter_column("clinic", existing_type=sa.VARCHAR(length=64), nullable=False)
        batch_op.drop_column("peer_address")

    with op.batch_alter_table("instances", schema=None) as batch_op:
        batch_op.alter_column("content_sha256", existing_type=sa.VARCHAR(length=64), nullable=False)
        batch_op.drop_column("removed_at")

    with op.batch_alter_table("procedure_steps", schema=None) as batch_op:
        batch_op.drop_index("ix_procedure_steps_clinic_study")

    op.drop_table("procedure_steps")
    with op.batch_alter_table("commitments", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_commitments_state"))

    op.drop_table("commitments")
    op.drop_table("receivers")
