"""The clinic st-mary with one unit of quota left, on both engines."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from storage.database import Database
from tests.factories.databases import ENGINES, database_on, migrated

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "node.db"
    with migrated(f"sqlite:///{path}"):
        return path


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest, template: Path, tmp_path: Path) -> Iterator[Database]:
    """The clinics st-mary (professional, 300 a month) and mercy (basic, 100)."""
    with database_on(request.param, request, template, tmp_path) as database:
        yield database
