"""What the database does for those who do not let go of it."""

import time

import pytest
import sqlalchemy as sa

import storage.database
from storage.database import Database
from storage.tables import clinics
from tests.factories.databases import migrated


def rename(connection: sa.Connection, tier: str) -> None:
    connection.execute(sa.update(clinics).where(clinics.c.name == "mercy").values(tier=tier))


def test_whoever_falls_silent_in_a_transaction_lets_go_of_its_locks(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a machine does that freezes, or loses its power."""
    monkeypatch.setattr(storage.database, "SILENT_IN_TRANSACTION_S", 0.5)
    with migrated(postgresql_url) as database:
        silent = Database(postgresql_url)
        with pytest.raises(sa.exc.DBAPIError), silent.write() as connection:
            rename(connection, "basic")
            with database.write() as other:
                other.execute(sa.text("SET LOCAL lock_timeout = '20s'"))
                rename(other, "enterprise")
            time.sleep(0.1)
            rename(connection, "professional")
        silent.close()
        with database.read() as connection:
            assert connection.scalar(sa.select(clinics.c.tier).where(clinics.c.name == "mercy")) == "enterprise"
