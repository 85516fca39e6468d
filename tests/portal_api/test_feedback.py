"""What readers say of findings: kept with the model that made them, one last word a person, all of it as history."""

from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from storage.database import Database
from storage.studies import save_analyses
from storage.tables import feedback
from tests.factories.runs import analysis
from tests.portal_api.rows import ANALYSIS, MERCY_STUDY, ST_MARY_STUDY, complete

FEEDBACK = f"/api/v1/studies/{ST_MARY_STUDY}/feedback"


@pytest.fixture
def say(client: TestClient, keys: dict[str, str]) -> Any:
    """Says something of a finding with the key of this name."""

    def say(label: str, verdict: str, note: str = "", *, who: str = "viewer", **more: str) -> httpx.Response:
        word = {"label": label, "verdict": verdict, "note": note, **more}
        answer: httpx.Response = client.post(FEEDBACK, json=word, headers={"X-API-Key": keys[who]})
        return answer

    return say


@pytest.fixture
def heard(client: TestClient, keys: dict[str, str]) -> Any:
    """(label, verdict, note, who, is last word), the last word first."""

    def heard() -> list[tuple[str, ...]]:
        lines = client.get(FEEDBACK, headers={"X-API-Key": keys["admin"]}).json()
        return [tuple(line[k] for k in ("label", "verdict", "note", "given_by", "is_last_word")) for line in lines]

    return heard


def test_a_word_is_kept_with_the_model_and_the_study_that_it_is_about(say: Any) -> None:
    answer = say("Pneumonia", "disagree", "A skin fold.")
    assert answer.status_code == 201
    line = answer.json()
    assert line.pop("given_at")
    assert line == {
        "clinic": "st-mary",
        "study_instance_uid": ST_MARY_STUDY,
        "generation": 1,
        "package": "chest",
        "model_version": "1.0.0",
        "device_uid": "2.25.1",
        "sop_instance_uid": "1.2.3.1.1",
        "label": "Pneumonia",
        "verdict": "disagree",
        "note": "A skin fold.",
        "given_by": "viewer",
        "is_last_word": True,
    }


def test_the_last_word_of_each_person_counts_and_the_others_stay(say: Any, heard: Any) -> None:
    say("Pneumonia", "agree")
    say("Pneumonia", "disagree", "On second thoughts.")
    say("Pneumonia", "agree", who="operator")
    say("Effusion", "agree")
    assert heard() == [
        ("Effusion", "agree", "", "viewer", True),
        ("Pneumonia", "agree", "", "operator", True),
        ("Pneumonia", "disagree", "On second thoughts.", "viewer", True),
        ("Pneumonia", "agree", "", "viewer", False),
    ]


def test_a_measured_value_is_a_finding_as_well(say: Any) -> None:
    assert say("Cobb angle", "agree").status_code == 201


def test_a_label_on_two_images_needs_the_image(say: Any, filled: Database) -> None:
    study_id = 2  # the late image's generation
    complete(filled, study_id)
    with filled.write() as connection:
        save_analyses(connection, study_id, [ANALYSIS, analysis(1, 0.7, version="1.1.0"), ANALYSIS])
    answer = say("Pneumonia", "agree")
    assert answer.status_code == 409
    assert answer.json()["detail"].endswith("(name package and sop_instance_uid as well)")


def test_words_are_about_the_newest_generation_that_was_analysed(say: Any, filled: Database) -> None:
    assert say("Pneumonia", "agree").json()["generation"] == 1
    complete(filled, 2)
    with filled.write() as connection:
        save_analyses(connection, 2, [analysis(1, 0.7, version="1.1.0")])
    line = say("Pneumonia", "agree", sop_instance_uid="1.2.3.1.1", package="chest").json()
    assert (line["generation"], line["model_version"]) == (2, "1.1.0")


@pytest.mark.parametrize(
    ("word", "status", "detail"),
    [
        ({"label": "Gout", "verdict": "agree"}, 404, "the study has no such finding"),
        ({"label": "Pneumonia", "verdict": "agree", "package": "spine"}, 404, "the study has no such finding"),
        ({"label": "Pneumonia", "verdict": "maybe"}, 422, "verdict: Input should be 'agree' or 'disagree'"),
        ({"label": "Pneumonia"}, 422, "verdict: Field required"),
        ({"label": "Pneumonia", "verdict": "agree", "note": "x" * 2001}, 422, "note: String should have at most 2000"),
        ({"label": "Pneumonia", "verdict": "agree", "note": "a\0b"}, 422, "note: String should match pattern"),
        ({"label": "Pneumonia", "verdict": "agree", "sop_instance_uid": "1' OR"}, 422, "sop_instance_uid: String"),
        ({"label": "Pneumonia", "verdict": "agree", "by": "somebody else"}, 422, "by: Extra inputs"),
    ],
)
def test_a_word_that_cannot_be_kept_is_answered_with_the_reason(
    client: TestClient, keys: dict[str, str], heard: Any, word: dict[str, str], status: int, detail: str
) -> None:
    answer = client.post(FEEDBACK, json=word, headers={"X-API-Key": keys["viewer"]})
    assert answer.status_code == status
    assert answer.json()["detail"].startswith(detail)
    assert heard() == []


@pytest.mark.parametrize("uid", [MERCY_STUDY, "1.2.3.999"])
def test_a_study_of_another_clinic_is_as_unknown_as_one_that_never_came(
    client: TestClient, keys: dict[str, str], uid: str
) -> None:
    headers = {"X-API-Key": keys["st-mary"]}
    route = f"/api/v1/studies/{uid}/feedback"
    word = {"label": "Pneumonia", "verdict": "agree"}
    for answer in (client.get(route, headers=headers), client.post(route, json=word, headers=headers)):
        assert answer.status_code == 404
        assert answer.json()["detail"].startswith(f"there is no study '{uid}'")


def test_more_than_a_form_needs_is_refused_before_it_is_read(client: TestClient, keys: dict[str, str]) -> None:
    answer = client.post(FEEDBACK, content=b'{"note": "' + b"x" * 70_000, headers={"X-API-Key": keys["viewer"]})
    assert answer.status_code == 413
    assert answer.json() == {"detail": "a request has at most 65536 bytes"}


def test_a_note_is_data_that_no_browser_runs_and_no_log_holds(
    say: Any, heard: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    note = "<script>alert('Müller')</script>"
    assert say("Pneumonia", "agree", note).headers["Content-Type"] == "application/json"
    assert heard()[0][2] == note
    assert "Müller" not in "".join(capfd.readouterr())


def test_the_note_is_kept_word_for_word_under_its_key(say: Any, filled: Database) -> None:
    say("Pneumonia", "disagree", "Zeile 1\nLine 2", who="st-mary")
    with filled.read() as connection:
        row = connection.execute(sa.select(feedback)).one()
    assert (row.note, row.given_by) == ("Zeile 1\nLine 2", "bound")
