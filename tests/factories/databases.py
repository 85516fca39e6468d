"""A migrated database with clinics in it, on SQLite or on a real PostgreSQL."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage.database import Database
from storage.intake import sync_clinics

ENGINES = ("SQLite", "PostgreSQL")
TIERS = {"st-mary": "professional", "mercy": "basic"}


@contextmanager
def migrated(url: str, tiers: Mapping[str, str] = TIERS) -> Iterator[Database]:
    database = Database(url)
    database.migrate()
    sync_clinics(database, tiers)
    yield database
    database.close()


@contextmanager
def copied(template: Path, folder: Path) -> Iterator[Database]:
    """A SQLite database from one that was migrated before."""
    database = Database(f"sqlite:///{shutil.copy(template, folder)}")
    yield database
    database.close()


@contextmanager
def database_on(engine: str, request: pytest.FixtureRequest, template: Path, folder: Path) -> Iterator[Database]:
    """Tables and two clinics on the engine of that name."""
    if engine == "SQLite":
        with copied(template, folder) as database:
            yield database
    else:
        with migrated(request.getfixturevalue("postgresql_url")) as database:
            yield database
