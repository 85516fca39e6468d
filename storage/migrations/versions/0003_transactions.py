"""a Transaction UID stands for one request of storage commitment; when a request has ended is known for all of them"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "DELETE FROM commitments WHERE id NOT IN"
        " (SELECT max(id) FROM commitments GROUP BY clinic, calling_ae_title, transaction_uid)"
    )
    with op.batch_alter_table("commitments", schema=None) as batch_op:
        batch_op.alter_column("reported_at", new_column_name="ended_at", existing_type=sa.DateTime())
        batch_op.drop_constraint("uq_commitments_request_key", type_="unique")
        batch_op.drop_column("request_key")
        batch_op.create_unique_constraint(
            "uq_commitments_transaction", ["clinic", "calling_ae_title", "transaction_uid"]
        )
    # What was given up has ended, too: at the latest when it would have been tried again.
    op.execute("UPDATE commitments SET ended_at = due_at WHERE state = 'given_up'")


def downgrade() -> None:
    with op.batch_alter_table("commitments", schema=None) as batch_op:
        batch_op.drop_constraint("uq_commitments_transaction", type_="unique")
        batch_op.add_column(sa.Column("request_key", sa.String(length=32), nullable=True))
        batch_op.alter_column("ended_at", new_column_name="reported_at", existing_type=sa.DateTime())
    op.execute("UPDATE commitments SET request_key = CAST(id AS VARCHAR(32))")
    with op.batch_alter_table("commitments", schema=None) as batch_op:
        batch_op.alter_column("request_key", existing_type=sa.VARCHAR(length=32), nullable=False)
        batch_op.create_unique_constraint("uq_commitments_request_key", ["request_key"])
