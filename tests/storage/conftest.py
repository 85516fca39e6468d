"""A migrated database on both engines, and an empty spool."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.database import Database
from storage.instances import Spool
from tests.factories.databases import ENGINES, copied, database_on, migrated


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "node.db"
    with migrated(f"sqlite:///{path}"):
        return path


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest, template: Path, tmp_path: Path) -> Iterator[Database]:
    """Tables and the clinics st-mary and mercy, on SQLite and on PostgreSQL."""
    with database_on(request.param, request, template, tmp_path) as database:
        yield database


@pytest.fixture
def sqlite(template: Path, tmp_path: Path) -> Iterator[Database]:
    """The same on SQLite, for what does not depend on the engine."""
    with copied(template, tmp_path) as database:
        yield database


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path)
