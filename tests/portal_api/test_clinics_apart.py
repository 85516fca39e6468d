"""A key that is bound to a clinic never learns anything of another one, not even that it exists."""

import pytest
from fastapi.testclient import TestClient

from tests.portal_api.rows import MERCY, MERCY_STUDY, ST_MARY, ST_MARY_STUDY

LISTS = ("/api/v1/studies", "/api/v1/usage", "/api/v1/quarantine", "/api/v1/ledger", "/api/v1/usage/studies")
# mercy has not been charged.
ONLY_OF_ST_MARY = (f"/api/v1/studies/{ST_MARY_STUDY}", "/api/v1/ledger")
EVERYTHING = (*LISTS, "/api/v1/clinics", "/metrics", f"/api/v1/studies/{ST_MARY_STUDY}")


@pytest.fixture
def bound(client: TestClient, keys: dict[str, str]) -> TestClient:
    """A client with st-mary's key."""
    client.headers["X-API-Key"] = keys[ST_MARY]
    return client


@pytest.mark.parametrize("route", EVERYTHING)
def test_nothing_of_another_clinic_is_in_any_answer(bound: TestClient, route: str) -> None:
    answer = bound.get(route)
    assert answer.status_code == 200
    assert ST_MARY in answer.text
    assert MERCY not in answer.text
    assert MERCY_STUDY not in answer.text
    assert "B-88" not in answer.text


@pytest.mark.parametrize("route", EVERYTHING)
def test_a_key_for_all_clinics_sees_them_all(client: TestClient, keys: dict[str, str], route: str) -> None:
    answer = client.get(route, headers={"X-API-Key": keys["admin"]})
    assert ST_MARY in answer.text
    assert (MERCY in answer.text) == (route not in ONLY_OF_ST_MARY)


@pytest.mark.parametrize("route", LISTS)
def test_another_clinic_and_a_clinic_that_is_not_there_look_the_same(bound: TestClient, route: str) -> None:
    foreign, absent = (bound.get(route, params={"clinic": name}) for name in (MERCY, "nowhere"))
    assert foreign.status_code == absent.status_code == 200
    assert foreign.json() == absent.json() == []
    assert foreign.headers.get("X-Total-Count") == absent.headers.get("X-Total-Count")


def test_another_clinics_study_is_as_unknown_as_one_that_never_came(bound: TestClient) -> None:
    foreign, absent = bound.get(f"/api/v1/studies/{MERCY_STUDY}"), bound.get("/api/v1/studies/1.2.3.999")
    assert foreign.status_code == absent.status_code == 404
    assert foreign.json() == {"detail": f"there is no study {MERCY_STUDY}"}
    assert absent.json() == {"detail": "there is no study 1.2.3.999"}


@pytest.mark.parametrize(("asked_for", "status"), [(ST_MARY, 200), (MERCY, 404)])
def test_naming_a_clinic_does_not_widen_what_a_key_sees(bound: TestClient, asked_for: str, status: int) -> None:
    answer = bound.get(f"/api/v1/studies/{ST_MARY_STUDY}", params={"clinic": asked_for})
    assert answer.status_code == status


def test_another_clinics_study_is_not_found_by_its_accession_number(bound: TestClient) -> None:
    assert bound.get("/api/v1/studies", params={"accession_number": "B-88"}).json() == []
    assert len(bound.get("/api/v1/studies", params={"accession_number": "A-77"}).json()) == 2
