"""The migrations lead to the tables that the code uses, on both engines, however often they are run."""

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from domain.errors import Misconfigured
from storage.database import Database
from storage.tables import metadata


def test_the_migrated_schema_is_the_one_in_the_code(database: Database) -> None:
    with database.write() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []


def test_migrating_again_changes_nothing(database: Database) -> None:
    with database.read() as connection:
        before = sorted(sa.inspect(connection).get_table_names())
    database.migrate()
    with database.read() as connection:
        assert sorted(sa.inspect(connection).get_table_names()) == before


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
