"""What the portal tells of a model's versions."""

import pytest
from fastapi.testclient import TestClient

from domain.versions import Role
from storage.database import Database
from tests.factories.runs import age_weeks, count, ran, study

COMPARISON = "/api/v1/models/chest/comparison"


@pytest.fixture
def compared(client: TestClient, filled: Database) -> TestClient:
    """Two versions have looked at a study of each clinic."""
    for number, clinic in ((51, "st-mary"), (52, "mercy")):
        study_id = study(filled, number, clinic)
        ran(filled, study_id, number, 0.6, version="1.0.0")
        ran(filled, study_id, number, 0.9, version="1.1.0", role=Role.SHADOW)
    return client


def test_two_versions_are_compared(compared: TestClient, keys: dict[str, str]) -> None:
    answer = compared.get(COMPARISON, headers={"X-API-Key": keys["viewer"]}).json()
    assert (answer["from_version"]["version"], answer["to_version"]["version"]) == ("1.0.0", "1.1.0")
    assert answer["studies"] == 2
    (pneumonia,) = [label for label in answer["labels"] if label["label"] == "Pneumonia"]
    assert (pneumonia["agreement"], pneumonia["both"]) == (1.0, 2)


@pytest.mark.parametrize(
    ("asked", "studies"),
    [({"clinic": "mercy"}, 1), ({"from": "1.1.0", "to": "1.0.0"}, 2), ({"since": "2026-01-01"}, 2)],
)
def test_what_is_compared_may_be_narrowed(
    compared: TestClient, keys: dict[str, str], asked: dict[str, str], studies: int
) -> None:
    answer = compared.get(COMPARISON, params=asked, headers={"X-API-Key": keys["admin"]})
    assert answer.json()["studies"] == studies


def test_a_key_that_is_bound_to_a_clinic_compares_its_studies_only(compared: TestClient, keys: dict[str, str]) -> None:
    headers = {"X-API-Key": keys["st-mary"]}
    assert compared.get(COMPARISON, headers=headers).json()["studies"] == 1
    assert compared.get(COMPARISON, params={"clinic": "mercy"}, headers=headers).status_code == 404


def test_where_there_is_nothing_to_compare_the_answer_says_what_there_is(
    client: TestClient, keys: dict[str, str]
) -> None:
    answer = client.get("/api/v1/models/spine/comparison", headers={"X-API-Key": keys["admin"]})
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith("spine has no two versions to compare: there are no runs of it")


@pytest.mark.parametrize(
    ("route", "asked", "complaint"),
    [
        ("/api/v1/models/Chest%20X/comparison", {}, "package: String should match pattern"),
        (COMPARISON, {"from": "1\n2"}, "from: String should match pattern"),
        (COMPARISON, {"since": "yesterday"}, "since: Input should be a valid date"),
    ],
)
def test_a_bad_parameter_is_named(
    client: TestClient, keys: dict[str, str], route: str, asked: dict[str, str], complaint: str
) -> None:
    answer = client.get(route, params=asked, headers={"X-API-Key": keys["admin"]})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(complaint)


def test_metrics_tell_how_far_scores_have_moved(client: TestClient, filled: Database, keys: dict[str, str]) -> None:
    study_id = study(filled, 53, calling_ae_title='CT"1\n')
    count(filled, study_id, 200, mean=0.3, version="3.0.0")
    age_weeks(filled, 2)
    count(filled, study_id, 40, mean=0.8, version="3.0.0")
    lines = client.get("/metrics", headers={"X-API-Key": keys["st-mary"]}).text.splitlines()
    labels = 'caller="CT\\"1\\n",clinic="st-mary",feature="{}",package="chest",version="3.0.0"'
    assert f"collimator_model_drift_alarm{{{labels.format('score Pneumonia')}}} 1.0" in lines
    assert f"collimator_model_drift_alarm{{{labels.format('grey')}}} 0.0" in lines
    assert any(line.startswith(f"collimator_model_drift_psi{{{labels.format('score Pneumonia')}}} ") for line in lines)
