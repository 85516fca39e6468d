"""A study that is tried again, cancelled or analysed anew by REST, with real jobs in the queue."""

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from storage.database import Database
from tests.portal_api.rows import MERCY, MERCY_STUDY, ST_MARY, ST_MARY_STUDY, receive

RETRY = f"/api/v1/studies/{MERCY_STUDY}/retry"


@pytest.fixture
def operator(client: TestClient, keys: dict[str, str]) -> TestClient:
    client.headers["X-API-Key"] = keys["operator"]
    return client


def jobs(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.scalars(sa.text("SELECT workflow_uuid FROM workflow_status")))


def test_a_held_study_is_tried_again_and_its_history_names_the_key(operator: TestClient, filled: Database) -> None:
    answer = operator.post(RETRY)
    assert answer.status_code == 200
    assert answer.json() == {
        "clinic": MERCY,
        "study_instance_uid": MERCY_STUDY,
        "generation": 1,
        "state": "queued",
        "is_changed": True,
    }
    assert len(jobs(filled)) == 1
    (history,) = operator.get(f"/api/v1/studies/{MERCY_STUDY}").json()["generations"]
    assert [(event["event"], event["detail"]) for event in history["events"]][-1] == (
        "requeued",
        "asked for by the API key operator",
    )


def test_the_same_request_once_more_changes_nothing_and_says_so(operator: TestClient, filled: Database) -> None:
    first, second = operator.post(RETRY).json(), operator.post(RETRY).json()
    assert (first["is_changed"], second["is_changed"]) == (True, False)
    assert (first["state"], second["state"]) == ("queued", "queued")
    assert len(jobs(filled)) == 1


def test_what_cannot_be_done_in_this_state_is_a_conflict_that_says_which_state_it_is(operator: TestClient) -> None:
    answer = operator.post(f"/api/v1/studies/{MERCY_STUDY}/reanalyse")
    assert answer.status_code == 409
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.json()["detail"].startswith("the study is held and cannot be analysed anew (")


def test_a_study_that_is_being_received_can_be_cancelled(operator: TestClient) -> None:
    answer = operator.post(f"/api/v1/studies/{ST_MARY_STUDY}/cancel")
    assert (answer.json()["state"], answer.json()["generation"]) == ("cancelled", 2)


WITHDRAW = f"/api/v1/studies/{ST_MARY_STUDY}/withdraw"


def test_results_are_taken_back_and_the_history_says_by_whom_and_why(operator: TestClient, filled: Database) -> None:
    operator.post(f"/api/v1/studies/{ST_MARY_STUDY}/cancel")  # of the late image; what was sent before stays
    answer = operator.post(WITHDRAW, json={"rejection": "quality", "why": "the film was a phantom"})
    assert (answer.status_code, answer.json()["state"]) == (200, "withdrawn")
    assert [job.split(":")[0] for job in jobs(filled)] == ["withdraw"]
    history = operator.get(f"/api/v1/studies/{ST_MARY_STUDY}").json()["generations"][-1]
    assert (history["state"], history["reason"]) == ("withdrawn", "quality")
    assert history["events"][-1]["event"] == "withdrawn"
    assert history["events"][-1]["detail"] == (
        "for quality reasons, asked for by the API key operator: the film was a phantom"
    )


def test_a_study_that_is_still_received_is_cancelled_first(operator: TestClient, filled: Database) -> None:
    answer = operator.post(WITHDRAW, json={"rejection": "safety"})
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("the study is receiving and cannot be withdrawn (cancel it first;")
    assert jobs(filled) == []


def test_what_was_never_sent_cannot_be_taken_back(operator: TestClient) -> None:
    answer = operator.post(f"/api/v1/studies/{MERCY_STUDY}/withdraw", json={"rejection": "safety"})
    assert (answer.status_code, answer.json()["detail"]) == (
        409,
        "no destination has, or will get, a result of the study (there is nothing to withdraw)",
    )


@pytest.mark.parametrize("said", [{}, {"rejection": "because"}, {"rejection": "safety", "why": "x" * 401}, None])
def test_a_reason_has_to_be_one_that_a_pacs_understands(operator: TestClient, said: object) -> None:
    assert operator.post(WITHDRAW, json=said).status_code == 422


def test_a_study_of_two_clinics_has_to_be_told_apart(operator: TestClient, filled: Database) -> None:
    receive(filled, ST_MARY, MERCY_STUDY, "1.2.3.2.77")
    answer = operator.post(RETRY)
    assert (answer.status_code, answer.json()["detail"]) == (
        409,
        "more than one clinic has this study (name the clinic as well)",
    )
    assert operator.post(RETRY, params={"clinic": MERCY}).status_code == 200


def test_another_clinics_study_is_as_unknown_as_one_that_never_came(
    client: TestClient, keys: dict[str, str], filled: Database
) -> None:
    headers = {"X-API-Key": keys[ST_MARY]}
    foreign = client.post(RETRY, headers=headers)
    absent = client.post("/api/v1/studies/1.2.3.999/retry", headers=headers)
    assert foreign.status_code == absent.status_code == 404
    assert foreign.json()["detail"].replace(MERCY_STUDY, "1.2.3.999") == absent.json()["detail"]
    assert client.post(RETRY, params={"clinic": MERCY}, headers=headers).status_code == 404
    assert jobs(filled) == []


def test_a_problem_is_described_as_what_it_is(client: TestClient) -> None:
    described = client.get("/openapi.json").json()["paths"]["/api/v1/studies/{study_instance_uid}/retry"]["post"]
    for status in ("401", "403", "404", "409", "422"):
        assert list(described["responses"][status]["content"]) == ["application/problem+json"]
    assert list(described["responses"]["200"]["content"]) == ["application/json"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/nowhere"), ("GET", "/api/v1/studies"), ("GET", RETRY)])
def test_every_error_is_a_problem_document(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert answer.status_code in (401, 404, 405)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(answer.json()) == {"detail"}
