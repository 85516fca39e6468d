"""St. Mary's pays by Stripe; its subscription there began at noon of 20 November, on both engines."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.database import Database
from tests.factories.databases import ENGINES, database_on, migrated
from tests.factories.stripe_house import StripeHouse
from tests.stripe_server.server import StripeServer


@pytest.fixture
def server() -> Iterator[StripeServer]:
    with StripeServer() as server:
        yield server


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "node.db"
    with migrated(f"sqlite:///{path}"):
        return path


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest, template: Path, tmp_path: Path) -> Iterator[Database]:
    with database_on(request.param, request, template, tmp_path) as database:
        yield database


@pytest.fixture
def house(database: Database, server: StripeServer) -> StripeHouse:
    house = StripeHouse(database, server)
    house.subscribe()
    return house
