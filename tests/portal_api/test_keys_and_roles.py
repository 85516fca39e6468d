"""Who gets in, by key and by role."""

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from domain.errors import Refuse
from storage.api_keys import create_key, find_key, revoke_key
from storage.database import Database
from storage.tables import api_keys
from tests.portal_api.rows import ST_MARY_STUDY

STUDIES, STUDY = "/api/v1/studies", f"/api/v1/studies/{ST_MARY_STUDY}"
FEEDBACK = f"{STUDY}/feedback"
CLINICS, USAGE, QUARANTINE, METRICS = "/api/v1/clinics", "/api/v1/usage", "/api/v1/quarantine", "/metrics"
COMPARISON = "/api/v1/models/chest/comparison"
LEDGER, INVOICES, INVOICE = "/api/v1/ledger", "/api/v1/invoices", "/api/v1/invoices/INV-000001"
BILLING = "/api/v1/billing"
INVOICE_FILES = (f"{INVOICE}/pdf", f"{INVOICE}/csv")
MONEY = (USAGE, f"{USAGE}/studies", f"{USAGE}/studies.csv", LEDGER, INVOICES, INVOICE, *INVOICE_FILES, BILLING)
CREDITS, LINKS = "/api/v1/credits", {f"{BILLING}/checkout", f"{BILLING}/portal"}  # see test_billing.py
GUARDED = (STUDIES, STUDY, FEEDBACK, CLINICS, QUARANTINE, METRICS, COMPARISON, *MONEY)
OPEN = ("/health", "/docs", "/docs/start.js", "/docs/assets/swagger-ui.css", "/openapi.json")

MAY_READ = {
    "viewer": {STUDIES, STUDY, FEEDBACK, CLINICS, COMPARISON},
    "operator": {STUDIES, STUDY, FEEDBACK, CLINICS, QUARANTINE, METRICS, COMPARISON},
    "admin": {STUDIES, STUDY, FEEDBACK, CLINICS, QUARANTINE, METRICS, COMPARISON, *MONEY},
    "billing": {CLINICS, *MONEY},
    "auditor": {STUDIES, STUDY, FEEDBACK, CLINICS, QUARANTINE, COMPARISON, *MONEY},
}


@pytest.mark.parametrize("route", GUARDED)
@pytest.mark.parametrize("role", MAY_READ)
def test_a_role_reads_what_the_table_allows_and_nothing_else(
    client: TestClient, keys: dict[str, str], role: str, route: str
) -> None:
    answer = client.get(route, headers={"Authorization": f"Bearer {keys[role]}"})
    # Only one version of chest has run here, so that there is nothing to compare, and no period was closed.
    there = 404 if route == COMPARISON or route.startswith(INVOICE) else 200
    assert answer.status_code == (there if route in MAY_READ[role] else 403)


@pytest.mark.parametrize("verb", ["retry", "cancel", "reanalyse", "withdraw"])
@pytest.mark.parametrize("role", MAY_READ)
def test_only_operator_and_admin_may_do_something_for_a_study(
    client: TestClient, keys: dict[str, str], role: str, verb: str
) -> None:
    said = {"rejection": "safety"} if verb == "withdraw" else None
    bearer = {"Authorization": f"Bearer {keys[role]}"}
    answer = client.post(f"/api/v1/studies/1.2.3.999/{verb}", headers=bearer, json=said)
    assert answer.status_code == (404 if role in ("operator", "admin") else 403)
    assert client.post(f"{STUDY}/{verb}").status_code == 401


@pytest.mark.parametrize("role", MAY_READ)
def test_viewer_operator_and_admin_may_say_something_of_a_finding(
    client: TestClient, keys: dict[str, str], role: str
) -> None:
    word = {"label": "Pneumonia", "verdict": "agree"}
    answer = client.post(FEEDBACK, json=word, headers={"Authorization": f"Bearer {keys[role]}"})
    assert answer.status_code == (201 if role in ("viewer", "operator", "admin") else 403)
    assert client.post(FEEDBACK, json=word).status_code == 401


@pytest.mark.parametrize("role", MAY_READ)
def test_only_admin_and_billing_may_take_a_charge_back(client: TestClient, keys: dict[str, str], role: str) -> None:
    wanted = {"clinic": "st-mary", "study_instance_uid": "1.2.3.999", "why": "wrong patient"}
    answer = client.post(CREDITS, json=wanted, headers={"Authorization": f"Bearer {keys[role]}"})
    assert answer.status_code == (404 if role in ("admin", "billing") else 403)
    assert client.post(CREDITS, json=wanted).status_code == 401


def test_every_route_is_in_the_matrix_above(client: TestClient) -> None:
    described = client.get("/openapi.json").json()["paths"]
    one = "/api/v1/studies/{study_instance_uid}"
    asked = {f"{one}/{verb}" for verb in ("retry", "cancel", "reanalyse", "withdraw")}
    bill = "/api/v1/invoices/{number}"
    filled_in = {STUDY, FEEDBACK, COMPARISON, INVOICE, f"{INVOICE}/pdf", f"{INVOICE}/csv"}
    templates = {one, f"{one}/feedback", "/api/v1/models/{package}/comparison", bill, f"{bill}/pdf", f"{bill}/csv"}
    assert set(described) == {"/health", CREDITS, *GUARDED} - filled_in | templates | asked | LINKS
    changing = {route for route, methods in described.items() if set(methods) != {"get"}}
    assert changing == asked | {f"{one}/feedback", CREDITS} | LINKS


@pytest.mark.parametrize("route", OPEN)
def test_health_and_the_documentation_are_open(client: TestClient, route: str) -> None:
    assert client.get(route).status_code == 200


@pytest.mark.parametrize("route", GUARDED)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer clm_wrong"},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"X-API-Key": ""},
        {"X-API-Key": "' OR 1=1 --"},
    ],
    ids=["none", "empty bearer", "wrong bearer", "basic", "empty header", "SQL"],
)
def test_without_a_valid_key_the_answer_says_how_to_send_one(
    client: TestClient, route: str, headers: dict[str, str]
) -> None:
    answer = client.get(route, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="collimator"'
    assert "API key" in answer.json()["detail"]


def test_the_key_may_come_in_either_header(client: TestClient, keys: dict[str, str]) -> None:
    assert client.get(STUDIES, headers={"X-API-Key": keys["viewer"]}).status_code == 200
    assert client.get(STUDIES, headers={"Authorization": f"Bearer {keys['viewer']}"}).status_code == 200


def test_a_revoked_key_is_not_valid_from_the_next_request_on(
    client: TestClient, filled: Database, keys: dict[str, str]
) -> None:
    headers = {"X-API-Key": keys["viewer"]}
    assert client.get(STUDIES, headers=headers).status_code == 200
    revoke_key(filled, "viewer")
    assert client.get(STUDIES, headers=headers).status_code == 401


def test_a_role_that_this_version_does_not_know_may_nothing(client: TestClient, filled: Database) -> None:
    key = create_key(filled, name="odd", role="emperor")
    assert client.get(CLINICS, headers={"X-API-Key": key}).status_code == 403


def test_a_key_is_256_random_bits_behind_its_prefix_and_only_its_hash_is_kept(database: Database) -> None:
    key = create_key(database, name="one", role="viewer")
    assert key.startswith("clm_")
    assert len(key.removeprefix("clm_")) == 43  # 32 bytes in base64
    with database.read() as connection:
        row = connection.execute(sa.select(api_keys)).one()
    assert not any(key.removeprefix("clm_") in str(value) for value in row)
    assert find_key(database, key) is not None


def test_a_name_is_used_for_one_key_only_even_after_it_was_revoked(database: Database) -> None:
    create_key(database, name="one", role="viewer")
    revoke_key(database, "one")
    with pytest.raises(Refuse, match="is or was a key named 'one'"):
        create_key(database, name="one", role="admin")


def test_a_key_cannot_be_bound_to_a_clinic_that_is_not_there(database: Database) -> None:
    with pytest.raises(Refuse, match="no clinic 'nowhere'"):
        create_key(database, name="one", role="viewer", clinic="nowhere")
