"""The migrations lead to the tables that the code uses, on both engines, however often they are run."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from domain.errors import Misconfigured
from storage.database import Database, _alembic
from storage.studies import save_results
from storage.tables import commitments, deliveries, metadata
from tests.portal_api.rows import complete, receive, result


def test_the_migrated_schema_is_the_one_in_the_code(database: Database) -> None:
    with database.write() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []


def test_migrating_again_changes_nothing(database: Database) -> None:
    with database.read() as connection:
        before = sorted(sa.inspect(connection).get_table_names())
    database.migrate()
    with database.read() as connection:
        assert sorted(sa.inspect(connection).get_table_names()) == before


def test_machines_that_migrate_at_once_come_to_the_same(postgresql_url: str) -> None:
    databases = [Database(postgresql_url) for _ in range(4)]
    start = threading.Barrier(len(databases))

    def migrate(database: Database) -> None:
        start.wait()
        database.migrate()

    with ThreadPoolExecutor(len(databases)) as machines:
        list(machines.map(migrate, databases))
    with databases[0].read() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []
    for database in databases:
        database.close()


def test_of_requests_under_one_transaction_uid_the_last_stays(database: Database) -> None:
    row = (
        "INSERT INTO commitments (clinic, request_key, transaction_uid, calling_ae_title, peer_address, asked, state,"
        " attempts, last_error, requested_at, due_at) VALUES ('st-mary', '{0}', '2.25.{1}', 'CT1', '192.0.2.7', '[]',"
        " '{2}', 1, '', '2026-11-21 12:00:00', '2026-11-21 12:05:00')"
    )
    with database.write() as connection:
        command.downgrade(_alembic(connection), "0002")
        for key, transaction, state in (("a", 1, "reported"), ("b", 1, "waiting"), ("c", 2, "given_up")):
            connection.execute(sa.text(row.format(key, transaction, state)))
    database.migrate()
    with database.read() as connection:
        rows = connection.execute(sa.select(commitments).order_by(commitments.c.id)).all()
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []
    five_past = datetime(2026, 11, 21, 12, 5, tzinfo=UTC)
    assert [(row.transaction_uid, row.state, row.ended_at) for row in rows] == [
        ("2.25.1", "waiting", None),
        ("2.25.2", "given_up", five_past),
    ]


def test_an_earlier_version_sends_again_what_waits_for_its_commitment(database: Database) -> None:
    states = ("pending", "delivered", "stored", "committed", "uncommitted", "refused")
    study_id = complete(database, receive(database, "st-mary", "1.2.3", "1.2.3.1"))
    with database.write() as connection:
        rows = [result("overlay", f"2.25.{number}") for number, _ in enumerate(states)]
        save_results(connection, study_id, rows, {"standard": ["pacs"]})
        for number, state in enumerate(states):
            connection.execute(sa.update(deliveries).where(deliveries.c.id == number + 1).values(state=state))
        command.downgrade(_alembic(connection), "0005")
        before = connection.execute(sa.text("SELECT state FROM deliveries ORDER BY id")).scalars().all()
    assert before == ["pending", "delivered", "pending", "delivered", "refused", "refused"]
    database.migrate()
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []


def test_the_embedded_database_keeps_what_it_committed_when_the_power_goes(sqlite: Database) -> None:
    with sqlite.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_write_that_fails_leaves_nothing(database: Database) -> None:
    def cut_short() -> None:
        with database.write() as connection:
            connection.execute(sa.text("INSERT INTO clinics (name, tier) VALUES ('half', 'basic')"))
            raise InterruptedError

    with pytest.raises(InterruptedError):
        cut_short()
    with database.read() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM clinics WHERE name = 'half'")) == 0


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://u:geheim@h/x", "node.database_url begins with 'mysql'"),
        ("postgresql://u:geheim@h:port/x", "node.database_url is not a database URL"),
    ],
)
def test_a_database_url_that_is_none_is_said_to_be_so_without_its_password(url: str, said: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        Database(url)
    assert caught.value.message == said
    assert "geheim" not in caught.value.message + caught.value.hint


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    database = Database("postgresql://u:geheim@127.0.0.1:1/x")
    assert not database.is_reachable()
    with pytest.raises(Misconfigured) as caught:
        database.migrate()
    assert "127.0.0.1:1" in caught.value.message
    assert "geheim" not in caught.value.message
