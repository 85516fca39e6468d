"""What finance reads is never rewritten: the database itself refuses, whatever a program or a person types."""

import pytest
import sqlalchemy as sa

from storage import audit
from storage.database import Database, _alembic
from storage.tables import invoices, ledger
from tests.metering.rows import NOW, pay


@pytest.fixture
def filled(database: Database) -> Database:
    """A row in each table that only grows."""
    pay(database, "1.2.3")
    with database.write() as connection:
        audit.enter(connection, at=NOW, who="me", act="tried", detail="to change it")
        connection.execute(
            sa.insert(invoices).values(
                number=1,
                clinic="mercy",
                period="2026-10",
                issued_at=NOW,
                due_at=NOW,
                total_usd_cents=2900,
                document={},
                pdf=b"",
                csv=b"",
            )
        )
    return database


@pytest.mark.parametrize("table", ["ledger", "invoices", "audit"])
@pytest.mark.parametrize("change", ["UPDATE {0} SET clinic = 'st-mary'", "DELETE FROM {0}"])
def test_no_row_is_changed_or_removed(filled: Database, table: str, change: str) -> None:
    before = rows_of(filled, table)

    def try_it() -> None:
        with filled.write() as connection:
            connection.execute(sa.text(change.format(table)))

    with pytest.raises(sa.exc.DBAPIError, match=f"{table} only grows"):
        try_it()
    assert rows_of(filled, table) == before != []


def rows_of(database: Database, table: str) -> list[tuple[object, ...]]:
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(sa.text(f"SELECT * FROM {table}"))]


def test_not_even_the_whole_table_is_emptied(filled: Database) -> None:
    if filled.is_sqlite:
        pytest.skip("SQLite has no TRUNCATE")

    def try_it() -> None:
        with filled.write() as connection:
            connection.execute(sa.text("TRUNCATE ledger CASCADE"))

    with pytest.raises(sa.exc.DBAPIError, match="ledger only grows"):
        try_it()


def test_one_study_has_one_charge_whoever_writes_it(filled: Database) -> None:
    """Not only the function that charges: a second row does not fit into the table."""
    with filled.read() as connection:
        row = dict(connection.execute(sa.select(ledger)).one()._mapping)

    def try_it() -> None:
        with filled.write() as connection:
            connection.execute(sa.insert(ledger).values({**row, "id": 99, "destination": "archive"}))

    with pytest.raises(sa.exc.IntegrityError):
        try_it()


def test_what_an_earlier_version_charged_is_kept_with_its_place_in_the_month(database: Database) -> None:
    from alembic import command

    for number in range(3):
        pay(database, f"1.2.{number}")
    with database.write() as connection:
        command.downgrade(_alembic(connection), "0010")
        assert connection.scalar(sa.text("SELECT count(*) FROM ledger")) == 3
    database.migrate()
    with database.read() as connection:
        rows = connection.execute(sa.select(ledger).order_by(ledger.c.id)).all()
    assert [(row.kind, row.basis, row.number, row.plan) for row in rows] == [
        ("charge", "included", number, {}) for number in (1, 2, 3)
    ]
