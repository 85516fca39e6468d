"""Databases for tests: tables and clinics are made once, and each test gets a copy of its own.

A test of SQLite gets a copy of a file; one of PostgreSQL, a database that the server makes from a template.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from storage.database import Database
from storage.intake import sync_clinics

ENGINES = ("sqlite", "postgresql")
TIERS = {"st-mary": "professional", "mercy": "basic"}


@contextmanager
def migrated(url: str, tiers: Mapping[str, str] = TIERS) -> Iterator[Database]:
    """Tables and clinics in an empty database."""
    with opened(url) as database:
        database.migrate()
        sync_clinics(database, tiers)
        yield database


@contextmanager
def opened(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()


@contextmanager
def copied(template: Path, path: Path) -> Iterator[Database]:
    """A SQLite database, to lie at `path`, from one that was migrated before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened(f"sqlite:///{shutil.copy(template, path)}") as database:
        yield database


def create(server: str, *, template: str = "template1") -> str:
    """The URL of a new database on a PostgreSQL server: a copy of the one that `template` names."""
    name = f"test_{os.urandom(6).hex()}"
    run(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    return str(sa.make_url(server).set(database=name).render_as_string(hide_password=False))


def run(server: str, *statements: str) -> None:
    """Statements that PostgreSQL runs in no transaction."""
    engine = sa.create_engine(server.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()
