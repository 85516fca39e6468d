"""What a hostile or careless client sends is refused with one clear sentence, and comes back in none of it."""

from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from storage.database import Database
from tests.portal_api.rows import ST_MARY_STUDY, receive

SCRIPT, SQL, LINES = "<script>alert(1)</script>", "1.2' OR '1'='1", "1.2\r\nSet-Cookie: a=b"
BAD_PARAMETERS = [
    ("/api/v1/studies", {"limit": "501"}, "limit: Input should be less than or equal to 500"),
    ("/api/v1/studies", {"limit": "0"}, "limit: Input should be greater than or equal to 1"),
    ("/api/v1/studies", {"limit": "1" * 30}, "limit: Input should be less than or equal to 500"),
    ("/api/v1/studies", {"limit": "many"}, "limit: Input should be a valid integer"),
    ("/api/v1/studies", {"offset": "-1"}, "offset: Input should be greater than or equal to 0"),
    ("/api/v1/studies", {"offset": "9223372036854775808"}, "offset: Input should be less than or equal to 1000000"),
    ("/api/v1/studies", {"state": SCRIPT}, "state: Input should be 'receiving', 'queued'"),
    ("/api/v1/studies", {"clinic": SQL}, "clinic: String should match pattern"),
    ("/api/v1/studies", {"study_instance_uid": SQL}, "study_instance_uid: String should match pattern"),
    ("/api/v1/studies", {"accession_number": "A\0B"}, "accession_number: String should match pattern"),
    ("/api/v1/studies", {"accession_number": LINES}, "accession_number: String should match pattern"),
    ("/api/v1/studies", {"accession_number": "9" * 65}, "accession_number: String should match pattern"),
    ("/api/v1/usage", {"period": "2026-13"}, "period: String should match pattern"),
    ("/api/v1/usage", {"period": "2026-11\n"}, "period: String should match pattern"),
    ("/api/v1/quarantine", {"limit": "501"}, "limit: Input should be less than or equal to 500"),
    ("/api/v1/quarantine", {"reason": SCRIPT}, "reason: String should match pattern"),
    (f"/api/v1/studies/{quote(SCRIPT, safe='')}", {}, None),
    (f"/api/v1/studies/{quote(SQL)}", {}, "study_instance_uid: String should match pattern"),
    (f"/api/v1/studies/{quote(LINES)}", {}, "study_instance_uid: String should match pattern"),
    ("/api/v1/studies/" + "1" * 65, {}, "study_instance_uid: String should match pattern"),
    ("/api/v1/studies/%00", {}, "study_instance_uid: String should match pattern"),
]


@pytest.fixture
def admin(client: TestClient, keys: dict[str, str]) -> TestClient:
    client.headers["X-API-Key"] = keys["admin"]
    return client


@pytest.mark.parametrize(("route", "asked", "complaint"), BAD_PARAMETERS)
def test_a_bad_parameter_is_named_and_not_repeated(
    admin: TestClient, route: str, asked: dict[str, str], complaint: str | None
) -> None:
    answer = admin.get(route, params=asked)
    # A UID with a slash in it is another path, and there is no such path.
    assert answer.status_code == (404 if complaint is None else 422)
    assert answer.json()["detail"].startswith(complaint or "Not Found")
    assert "script" not in answer.text
    assert "OR '1'" not in answer.text
    assert "Set-Cookie" not in answer.text + str(answer.headers)


def test_a_quote_in_an_accession_number_is_only_a_quote(admin: TestClient) -> None:
    assert admin.get("/api/v1/studies", params={"accession_number": "x' OR 1=1 --"}).json() == []
    assert admin.get("/api/v1/studies", params={"accession_number": "東京-12"}).json() == []


def test_hostile_text_from_a_peer_is_data_in_json_that_no_browser_runs(admin: TestClient, filled: Database) -> None:
    receive(filled, "mercy", SCRIPT, "1.2.3.7", problem=SCRIPT)
    answer = admin.get("/api/v1/quarantine", params={"limit": 1})
    assert answer.json()[0]["detail"] == SCRIPT
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("route", ["/api/v1/studies", f"/api/v1/studies/{ST_MARY_STUDY}", "/health", "/metrics"])
def test_what_is_only_to_be_read_cannot_be_changed(admin: TestClient, method: str, route: str) -> None:
    assert admin.request(method, route).status_code == 405


@pytest.mark.parametrize(
    "path", ["/docs/assets/../../__init__.py", "/docs/assets/%2e%2e/%2e%2e/__init__.py", "/nowhere"]
)
def test_nothing_but_what_the_portal_offers_can_be_read(admin: TestClient, path: str) -> None:
    assert admin.get(path).status_code == 404


@pytest.mark.parametrize("route", ["/health", "/docs", "/docs/assets/swagger-ui.css", "/api/v1/studies", "/nowhere"])
def test_every_answer_carries_the_security_headers(client: TestClient, route: str) -> None:
    headers = client.get(route).headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"


def test_the_documentation_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs").text + client.get("/docs/start.js").text
    assert "http" not in page
    assert "//" not in page
    for asset in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"):
        assert f"docs/assets/{asset}" in page
        assert client.get(f"/docs/assets/{asset}").status_code == 200


def test_the_description_is_of_a_version_that_the_documentation_page_can_show(client: TestClient) -> None:
    described = client.get("/openapi.json")
    assert described.json()["openapi"] == "3.0.3"
    assert '"null"' not in described.text  # a type of OpenAPI 3.1
    line = described.json()["components"]["schemas"]["StudyLine"]["properties"]
    assert line["completed_at"]["nullable"] is True


def test_the_log_of_a_request_holds_no_identifier(admin: TestClient, capfd: pytest.CaptureFixture[str]) -> None:
    admin.get(f"/api/v1/studies/{ST_MARY_STUDY}", params={"clinic": "st-mary"})
    logged = "".join(capfd.readouterr())
    assert "/api/v1/studies/{study_instance_uid}" in logged
    assert ST_MARY_STUDY not in logged
    assert "st-mary" not in logged
