"""St. Mary's pays by Stripe; its subscription there began at noon of 20 November, on both engines."""

from collections.abc import Iterator

import pytest

from storage.database import Database
from tests.factories.stripe_house import StripeHouse
from tests.stripe_server.server import StripeServer


@pytest.fixture
def server() -> Iterator[StripeServer]:
    with StripeServer() as server:
        yield server


@pytest.fixture
def house(database: Database, server: StripeServer) -> StripeHouse:
    house = StripeHouse(database, server)
    house.subscribe()
    return house
