"""subscriptions, billing periods of a clinic's own, credits, invoices and an audit trail; what only grows is guarded"""

import sqlalchemy as sa
from alembic import op

from storage.tables import UtcDateTime

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ONLY_GROW = ("ledger", "invoices", "audit")


def upgrade() -> None:
    op.create_table(
        "period_rules",
        sa.Column("clinic", sa.String(length=64), nullable=False),
        sa.Column("begins_at", UtcDateTime(), nullable=False),
        sa.Column("anchor_day", sa.Integer(), nullable=False),
        sa.Column("time_zone", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["clinic"], ["clinics.name"], name=op.f("fk_period_rules_clinic")),
        sa.PrimaryKeyConstraint("clinic", "begins_at", name=op.f("pk_period_rules")),
    )
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("clinic", sa.String(length=64), nullable=False),
        sa.Column("tier", sa.String(length=16), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("state_since", UtcDateTime(), nullable=False),
        sa.Column("trial_ends_at", UtcDateTime(), nullable=True),
        sa.Column("payer", sa.String(length=16), nullable=True),
        sa.Column("begins_at", UtcDateTime(), nullable=False),
        sa.Column("ends_at", UtcDateTime(), nullable=True),
        sa.Column("why", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["clinic"], ["clinics.name"], name=op.f("fk_subscriptions_clinic")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscriptions")),
    )
    op.create_index("ix_subscriptions_clinic", "subscriptions", ["clinic", "begins_at"])
    op.create_index(
        "uq_subscriptions_open",
        "subscriptions",
        ["clinic"],
        unique=True,
        sqlite_where=sa.text("ends_at IS NULL"),
        postgresql_where=sa.text("ends_at IS NULL"),
    )
    op.create_table(
        "invoices",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("clinic", sa.String(length=64), nullable=False),
        sa.Column("period", sa.String(length=10), nullable=False),
        sa.Column("issued_at", UtcDateTime(), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=False),
        sa.Column("total_usd_cents", sa.Integer(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("pdf", sa.LargeBinary(), nullable=False),
        sa.Column("csv", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["clinic"], ["clinics.name"], name=op.f("fk_invoices_clinic")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_invoices")),
        sa.UniqueConstraint("clinic", "period", name=op.f("uq_invoices_clinic_period")),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("who", sa.String(length=64), nullable=False),
        sa.Column("clinic", sa.String(length=64), nullable=True),
        sa.Column("act", sa.String(length=32), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_clinic"), "audit", ["clinic"])

    with op.batch_alter_table("reservations", schema=None) as batch_op:
        batch_op.alter_column("period", existing_type=sa.String(length=7), type_=sa.String(length=10))
    _widen_ledger()
    for table in ONLY_GROW:
        _guard(table)


def downgrade() -> None:
    for table in ONLY_GROW:
        _unguard(table)
    _narrow_ledger()
    with op.batch_alter_table("reservations", schema=None) as batch_op:
        batch_op.alter_column("period", existing_type=sa.String(length=10), type_=sa.String(length=7))
    for table in ("audit", "invoices", "subscriptions", "period_rules"):
        op.drop_table(table)


def _widen_ledger() -> None:
    """What was charged so far was included in the plan, in the order in which it was charged."""
    with op.batch_alter_table("ledger", schema=None) as batch_op:
        batch_op.drop_constraint("uq_ledger_clinic_study_instance_uid", type_="unique")
        batch_op.alter_column("period", existing_type=sa.String(length=7), type_=sa.String(length=10))
        batch_op.add_column(sa.Column("kind", sa.String(length=8), nullable=False, server_default="charge"))
        batch_op.add_column(sa.Column("plan", sa.JSON(), nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("basis", sa.String(length=16), nullable=False, server_default="included"))
        batch_op.add_column(sa.Column("number", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("models", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.add_column(sa.Column("result_sop_instance_uids", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.add_column(sa.Column("corrects", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("who", sa.String(length=64), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("why", sa.Text(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("amount_usd_cents", sa.Integer(), nullable=True))
        batch_op.create_foreign_key(op.f("fk_ledger_corrects"), "ledger", ["corrects"], ["id"])
        batch_op.create_unique_constraint(op.f("uq_ledger_corrects"), ["corrects"])
    op.execute(
        "UPDATE ledger SET number = (SELECT count(*) FROM ledger AS before"
        " WHERE before.clinic = ledger.clinic AND before.period = ledger.period AND before.id <= ledger.id)"
    )
    with op.batch_alter_table("ledger", schema=None) as batch_op:
        for column in ("kind", "plan", "basis", "number", "models", "result_sop_instance_uids", "who", "why"):
            batch_op.alter_column(column, server_default=None)
    op.create_index(op.f("ix_ledger_study_id"), "ledger", ["study_id"])
    op.create_index(
        "uq_ledger_charge",
        "ledger",
        ["clinic", "study_instance_uid"],
        unique=True,
        sqlite_where=sa.text("kind = 'charge'"),
        postgresql_where=sa.text("kind = 'charge'"),
    )


def _narrow_ledger() -> None:
    """Credits go: an earlier version knows none, and would count them as charges."""
    op.drop_index("uq_ledger_charge", table_name="ledger")
    op.drop_index(op.f("ix_ledger_study_id"), table_name="ledger")
    op.execute("DELETE FROM ledger WHERE kind = 'credit'")
    op.execute("UPDATE ledger SET period = substr(period, 1, 7)")
    with op.batch_alter_table("ledger", schema=None) as batch_op:
        batch_op.drop_constraint("uq_ledger_corrects", type_="unique")
        batch_op.drop_constraint("fk_ledger_corrects", type_="foreignkey")
        for column in (
            "amount_usd_cents",
            "why",
            "who",
            "corrects",
            "result_sop_instance_uids",
            "models",
            "number",
            "basis",
            "plan",
            "kind",
        ):
            batch_op.drop_column(column)
        batch_op.alter_column("period", existing_type=sa.String(length=10), type_=sa.String(length=7))
        batch_op.create_unique_constraint("uq_ledger_clinic_study_instance_uid", ["clinic", "study_instance_uid"])


def _guard(table: str) -> None:
    """A row that is there stays as it is, whoever asks: the database refuses, not only this code."""
    says = f"{table} only grows: enter a row that corrects the other one"
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            f"CREATE OR REPLACE FUNCTION {table}_only_grows() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION '{says}'; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {table}_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {table}_only_grows()"
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table}"
            f" BEGIN SELECT RAISE(ABORT, '{says}'); END"
        )


def _unguard(table: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"DROP TRIGGER {table}_only_grows ON {table}")
        op.execute(f"DROP FUNCTION {table}_only_grows()")
        return
    for change in ("update", "delete"):
        op.execute(f"DROP TRIGGER {table}_no_{change}")
