"""What each route says about a node's work."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from portal_api.app import build_app
from storage.database import Database
from storage.tables import executors, receivers
from tests.portal_api.conftest import care_over
from tests.portal_api.rows import MERCY_STUDY, ST_MARY_STUDY, beat, receive, show_receiver


@pytest.fixture
def admin(client: TestClient, keys: dict[str, str]) -> TestClient:
    client.headers["X-API-Key"] = keys["admin"]
    return client


def test_studies_are_listed_with_the_newest_first(admin: TestClient) -> None:
    answer = admin.get("/api/v1/studies")
    assert [(s["study_instance_uid"], s["generation"], s["state"], s["is_charged"]) for s in answer.json()] == [
        (MERCY_STUDY, 1, "held", False),
        (ST_MARY_STUDY, 2, "receiving", False),
        (ST_MARY_STUDY, 1, "delivering", True),
    ]
    assert answer.headers["X-Total-Count"] == "3"


@pytest.mark.parametrize(
    ("asked", "generations"),
    [
        ({"state": "held"}, [(MERCY_STUDY, 1)]),
        ({"clinic": "mercy"}, [(MERCY_STUDY, 1)]),
        ({"study_instance_uid": ST_MARY_STUDY}, [(ST_MARY_STUDY, 2), (ST_MARY_STUDY, 1)]),
        ({"accession_number": "B-88"}, [(MERCY_STUDY, 1)]),
        ({"accession_number": "nobody's"}, []),
        ({"state": "held", "clinic": "st-mary"}, []),
        ({"limit": 1}, [(MERCY_STUDY, 1)]),
        ({"limit": 1, "offset": 2}, [(ST_MARY_STUDY, 1)]),
        ({"offset": 3}, []),
    ],
)
def test_a_list_holds_what_was_asked_for(
    admin: TestClient, asked: dict[str, str], generations: list[tuple[str, int]]
) -> None:
    answer = admin.get("/api/v1/studies", params=asked)
    assert [(study["study_instance_uid"], study["generation"]) for study in answer.json()] == generations


def test_a_studys_history_says_what_was_done_and_why(admin: TestClient) -> None:
    answer = admin.get(f"/api/v1/studies/{ST_MARY_STUDY}").json()
    first, second = answer["generations"]
    assert (first["generation"], second["generation"]) == (1, 2)
    assert (first["instances"], first["is_charged"], second["is_charged"]) == (1, True, False)
    assert first["explanation"][0].endswith("so rule 'chest of an adult' sends it to chest")
    assert [(f["label"], f["certainty"], f["is_detected"]) for f in first["findings"]] == [
        ("Pneumonia", 0.83, True),
        ("Effusion", 0.12, False),
    ]
    assert [finding["regions"] for finding in first["findings"]] == [2, 0]
    (measured,) = first["measurements"]
    assert (measured["label"], measured["value"], measured["unit"]) == ("Cobb angle", 24.96, "deg")
    assert (measured["threshold"], measured["is_detected"]) == (25.0, False)
    assert first["findings"][0]["code"] == {"value": "233604007", "scheme": "SCT", "meaning": "Pneumonia"}
    overlay, text_sr = first["results"]
    assert (overlay["kind"], overlay["times_sent_back"]) == ("overlay", 2)
    assert overlay["deliveries"][0]["state"] == "delivered"
    assert text_sr["deliveries"][0]["state"] == "pending"
    assert [event["event"] for event in first["events"]] == [
        "received", "complete", "routed", "analysed", "written", "charged",
    ]  # fmt: skip


def test_a_held_study_says_why_it_is_held(admin: TestClient) -> None:
    (held,) = admin.get(f"/api/v1/studies/{MERCY_STUDY}").json()["generations"]
    assert (held["state"], held["reason"], held["is_charged"]) == ("held", "not_configured", False)
    assert held["events"][-1]["detail"] == "chest is not configured: no weights"


def test_clinics_are_told_as_they_are_configured(admin: TestClient) -> None:
    st_mary, mercy = admin.get("/api/v1/clinics").json()
    assert st_mary["callers"] == [
        {
            "ae_title": "MODALITY1",
            "host": "192.0.2.10",
            "certificate_subject": "",
            "commitment_port": 0,
            "commitment_tls": False,
            "commitment_tls_name": "",
            "stat": False,
        }
    ]
    assert st_mary["destinations"][0]["ae_title"] == "ORTHANC"
    assert (mercy["name"], mercy["tier"], mercy["sends_notes"]) == ("mercy", "basic", False)


def test_usage_counts_this_month_unless_asked_for_another(admin: TestClient) -> None:
    mercy, st_mary = admin.get("/api/v1/usage").json()
    this_month = datetime.now(UTC).strftime("%Y-%m")
    assert {key: st_mary[key] for key in ("clinic", "tier", "state", "period", "begins_at")} == {
        "clinic": "st-mary",
        "tier": "professional",
        "state": "active",
        "period": this_month,
        "begins_at": f"{this_month}-01T00:00:00Z",
    }
    assert (st_mary["used"], st_mary["charged"], st_mary["credited"], st_mary["waiting"]) == (1, 1, 0, 0)
    assert (st_mary["included"], st_mary["price_usd_cents"], st_mary["alert"]) == (300, 7900, None)
    assert (mercy["used"], mercy["included"]) == (0, 100)
    assert [one["charged"] for one in admin.get("/api/v1/usage", params={"period": "2001-01"}).json()] == [0, 0]


def test_quarantine_says_what_came_and_what_is_wrong_with_it(admin: TestClient) -> None:
    answer = admin.get("/api/v1/quarantine", params={"clinic": "mercy"})
    (one,) = answer.json()
    assert (one["sop_instance_uid"], one["reason"], one["detail"]) == (
        "1.2.3.2.9",
        "unreadable",
        "StudyInstanceUID is missing",
    )
    assert answer.headers["X-Total-Count"] == "1"
    assert admin.get("/api/v1/quarantine", params={"reason": "conflicting"}).json() == []


def test_metrics_are_prometheus_text_from_the_database(admin: TestClient) -> None:
    answer = admin.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    for line in (
        "collimator_receivers_alive 1.0",
        "collimator_workers_alive 1.0",
        'collimator_instances{clinic="st-mary"} 2.0',
        'collimator_studies{clinic="st-mary",state="delivering"} 1.0',
        'collimator_studies{clinic="mercy",state="held"} 1.0',
        'collimator_quarantined_instances{clinic="mercy",reason="unreadable"} 1.0',
        'collimator_deliveries{clinic="st-mary",destination="pacs",state="delivered"} 1.0',
        'collimator_deliveries{clinic="st-mary",destination="pacs",state="pending"} 1.0',
        'collimator_studies_charged_this_month{clinic="st-mary"} 1.0',
        'collimator_instances_sent_again_total{clinic="st-mary"} 0.0',
        'collimator_results_sent_back_total{clinic="st-mary"} 2.0',
        "# TYPE collimator_results_sent_back_total counter",
    ):
        assert line in answer.text.splitlines()
    assert 'collimator_receiver_seen_seconds_ago{receiver="node:11112"}' in answer.text
    assert 'collimator_oldest_pending_delivery_seconds{clinic="st-mary",destination="pacs"}' in answer.text


def test_metrics_name_no_study_and_no_instance(admin: TestClient) -> None:
    text = admin.get("/metrics").text
    assert not any(identifier in text for identifier in (ST_MARY_STUDY, MERCY_STUDY, "A-77", "2.25.100"))


def test_a_metrics_label_holds_what_a_hostile_peer_wrote_on_one_line(admin: TestClient, filled: Database) -> None:
    receive(filled, "mercy", "1.2.3.5", '1.5"} 1\nevil 1', problem="it is hostile", calling_ae_title='A"\n')
    assert "\nevil" not in admin.get("/metrics").text


def test_a_node_with_database_receiver_worker_and_disk_is_well(client: TestClient) -> None:
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert [(check["name"], check["is_well"]) for check in answer.json()["checks"]] == [
        ("database", True),
        ("receivers", True),
        ("workers", True),
        ("disk", True),
    ]


@pytest.mark.parametrize("seconds_ago", [None, 30.0], ids=["no worker ever", "beat before the lease"])
def test_a_node_without_a_living_worker_is_not_well(
    client: TestClient, filled: Database, seconds_ago: float | None
) -> None:
    with filled.write() as connection:
        connection.execute(sa.delete(executors))
    if seconds_ago is not None:
        beat(filled, seconds_ago=seconds_ago)
    answer = client.get("/health")
    assert answer.status_code == 503
    assert {"name": "workers", "is_well": False, "says": "none is alive: studies are received and wait"} in (
        answer.json()["checks"]
    )


@pytest.mark.parametrize(
    ("seen_seconds_ago", "says"),
    [
        ([], "none is alive: nothing can be received"),
        ([30.0], "0 alive, 1 silent or not indexing, for 30 s"),
        ([30.0, 1.0], "1 alive, 1 silent or not indexing, for 30 s"),
        ([2 * 3600.0], "none is alive: nothing can be received"),  # it was taken away, and is no fault any more
    ],
)
def test_a_node_without_a_living_receiver_or_with_a_silent_one_is_not_well(
    client: TestClient, filled: Database, seen_seconds_ago: list[float], says: str
) -> None:
    with filled.write() as connection:
        connection.execute(sa.delete(receivers))
    for seconds_ago in seen_seconds_ago:
        show_receiver(filled, f"node-{seconds_ago}:11112", seconds_ago=seconds_ago)
    answer = client.get("/health")
    assert answer.status_code == 503
    assert {"name": "receivers", "is_well": False, "says": says} in answer.json()["checks"]


def test_a_receiver_that_was_taken_away_is_no_fault_once_another_one_is_alive(
    client: TestClient, filled: Database
) -> None:
    show_receiver(filled, "of-yesterday:11112", seconds_ago=86400.0)
    assert client.get("/health").status_code == 200


def test_a_node_whose_disk_cannot_be_seen_is_not_well(filled: Database, tmp_path: Path) -> None:
    app = build_app(
        database=filled, clinics=(), version="0.1.0", data_dir=tmp_path / "gone", open_care=care_over(filled)
    )
    answer = TestClient(app).get("/health")
    assert answer.status_code == 503
    assert "No such file" in answer.json()["checks"][-1]["says"]


def test_a_node_without_its_database_is_not_well_and_says_to_come_again() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/nothing")
    app = build_app(database=database, clinics=(), version="0.1.0", open_care=care_over(database))
    client = TestClient(app, raise_server_exceptions=False)
    health = client.get("/health")
    assert health.status_code == 503
    assert health.json()["checks"] == [{"name": "database", "is_well": False, "says": "does not answer"}]
    answer = client.get("/api/v1/studies", headers={"X-API-Key": "clm_any"})
    assert answer.status_code == 503
    assert answer.json() == {"detail": "the database does not answer"}
    assert answer.headers["Retry-After"] == "5"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
