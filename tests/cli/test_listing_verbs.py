"""The verbs that list and look, as a person or a script calls them."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from cli.__main__ import main
from domain.commitment import CommitmentRequest, Reference
from domain.study import InstanceFacts
from storage.database import Database
from storage.jobs import migrate_jobs
from storage.requests.commitments import record_commitment
from storage.tables import commitments
from tests.factories.databases import copied
from tests.portal_api.rows import MERCY_STUDY, ST_MARY_STUDY, complete, enter_everything, receive

CONFIGURATION = """\
[node]
data_dir = "{data_dir}"
[[clinics]]
name = "st-mary"
tier = "professional"
[[clinics]]
name = "mercy"
tier = "basic"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "collimator.toml"
    path.write_text(CONFIGURATION.format(data_dir=tmp_path / "var"), encoding="utf-8")
    return path


@pytest.fixture
def database(sqlite_template: Path, tmp_path: Path) -> Iterator[Database]:
    """The node's database, with rows."""
    with copied(sqlite_template, tmp_path / "var" / "collimator.db") as database:
        enter_everything(database)
        yield database


@pytest.fixture
def collimator(config: Path, capsys: pytest.CaptureFixture[str]) -> "Collimator":
    return Collimator(config, capsys)


class Collimator:
    """Runs a verb with the configuration behind its last word, and returns its exit status, stdout and stderr."""

    def __init__(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._config, self._capsys = config, capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        try:
            status = main([*arguments, "--config", str(self._config)])
        except SystemExit as exit_:  # argparse, for wrong usage
            status = int(str(exit_.code))
        captured = self._capsys.readouterr()
        return status, captured.out, captured.err


def test_studies_are_a_table_with_one_aligned_line_each(collimator: Collimator, database: Database) -> None:
    status, out, err = collimator("studies")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 4
    assert {line.index("1.2.3.") for line in lines[1:]} == {lines[0].index("STUDY INSTANCE UID")}


def test_studies_as_json_are_a_list_of_objects_with_stable_keys(collimator: Collimator, database: Database) -> None:
    status, out, _ = collimator("studies", "--json")
    studies = json.loads(out)
    assert status == 0
    assert [(s["study_instance_uid"], s["generation"]) for s in studies] == [
        (MERCY_STUDY, 1),
        (ST_MARY_STUDY, 2),
        (ST_MARY_STUDY, 1),
    ]
    assert list(studies[0]) == [
        "clinic", "study_instance_uid", "generation", "state", "reason", "calling_ae_title", "accession_number",
        "instances", "opened_at", "completed_at", "completion_reason", "finished_at", "is_charged",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "found"),
    [(["--clinic", "mercy"], 1), (["--state", "receiving"], 1), (["--clinic", "nowhere"], 0), (["--limit", "0"], 0)],
)
def test_studies_are_narrowed_by_clinic_and_state(
    collimator: Collimator, database: Database, arguments: list[str], found: int
) -> None:
    assert len(json.loads(collimator("studies", "--json", *arguments)[1])) == found


def test_a_list_that_was_cut_says_so(collimator: Collimator, database: Database) -> None:
    status, out, err = collimator("studies", "--json", "--limit", "2")
    assert (status, len(json.loads(out))) == (0, 2)
    assert err == "collimator: these are the newest 2 of 3; --limit shows more\n"


def test_a_study_is_told_whole(collimator: Collimator, database: Database) -> None:
    status, out, _ = collimator("study", ST_MARY_STUDY)
    assert status == 0
    for told in (
        f"{ST_MARY_STUDY}  generation 1  delivering",
        f"{ST_MARY_STUDY}  generation 2  receiving",
        "accession  A-77",
        "so rule 'chest of an adult' sends it to chest",
        "Pneumonia: detected (0.83, threshold 0.50, 2 places)  chest 1.0.0",
        "Cobb angle: 24.96 deg (threshold 25)  chest 1.0.0",
        "pacs: delivered 20",
        "(attempts: 1)",
        "charged    first result accepted by pacs",
    ):
        assert told in out


def test_a_study_as_json_is_a_list_with_one_object_a_generation(collimator: Collimator, database: Database) -> None:
    first, second = json.loads(collimator("study", ST_MARY_STUDY, "--json")[1])
    assert (first["generation"], second["generation"]) == (1, 2)
    assert {"explanation", "findings", "measurements", "results", "events", "is_charged"} < set(first)


def test_an_unknown_study_is_one_clear_line_and_status_1(collimator: Collimator, database: Database) -> None:
    status, out, err = collimator("study", "1.2.3\n.999")
    assert (status, out) == (1, "")
    assert err == "collimator: there is no study '1.2.3\\n.999' (see `collimator studies`)\n"


def test_a_table_shows_what_a_hostile_peer_wrote_without_obeying_it(collimator: Collimator, database: Database) -> None:
    receive(database, "mercy", "1.2.3.7", "1.2.3.7.1", calling_ae_title="A\x1b[2J\nB")
    out = collimator("study", "1.2.3.7")[1]
    assert "\x1b" not in out
    assert "A\\x1b[2J\\nB" in out


@pytest.fixture
def asked(database: Database) -> Database:
    """Two modalities asked for storage commitment; the one of st-mary has been away since."""
    for number, clinic in enumerate(("st-mary", "mercy")):
        request = CommitmentRequest(
            clinic=clinic,
            calling_ae_title="CT1",
            peer_address="192.0.2.7",
            transaction_uid=f"2.25.{number}",
            asked=(Reference(sop_class_uid="1.2.840.10008.5.1.4.1.1.2", sop_instance_uid="1.2.3.1"),),
            requested_at=datetime(2026, 11, 21, 12, number, tzinfo=UTC),
        )
        with database.write() as connection:
            record_commitment(connection, request)
    with database.write() as connection:
        connection.execute(
            sa.update(commitments)
            .where(commitments.c.clinic == "st-mary")
            .values(state="pending", attempts=3, last_error="cannot be reached")
        )
    return database


def test_requests_for_commitment_are_told_with_why_their_callers_do_not_know(
    collimator: Collimator, asked: Database
) -> None:
    status, out, err = collimator("commitments")
    assert (status, err) == (0, "")
    heading, first, second = (line.split() for line in out.splitlines())
    assert heading[-2:] == ["LAST", "ERROR"]
    assert " ".join(first) == "2026-11-21 12:00:00 st-mary CT1 192.0.2.7 1 pending 3 cannot be reached"
    assert second[-3:] == ["waiting", "0", "-"]


def test_requests_for_commitment_as_json_are_a_list_of_objects_with_stable_keys(
    collimator: Collimator, asked: Database
) -> None:
    (told,) = json.loads(collimator("commitments", "--json", "--clinic", "mercy")[1])
    assert list(told) == [
        "clinic", "calling_ae_title", "peer_address", "transaction_uid", "instances", "state", "attempts",
        "last_error", "requested_at", "next_attempt_at", "ended_at",
    ]  # fmt: skip
    assert (told["transaction_uid"], told["state"], told["next_attempt_at"]) == ("2.25.1", "waiting", None)


def test_the_ledger_has_a_line_for_each_charged_study(collimator: Collimator, database: Database) -> None:
    status, out, _ = collimator("ledger")
    assert status == 0
    header, line = out.splitlines()
    assert header.startswith("CHARGED (UTC)")
    assert line.endswith(f"st-mary  professional  chest     pacs         {ST_MARY_STUDY}")


def test_the_ledger_as_json_and_as_csv_say_the_same(collimator: Collimator, database: Database) -> None:
    (row,) = json.loads(collimator("ledger", "--json")[1])
    (line,) = csv.DictReader(io.StringIO(collimator("ledger", "--csv")[1]))
    assert list(row) == list(line)
    assert row["packages"] == ["chest"]
    assert line["packages"] == "chest"
    for key in ("clinic", "study_instance_uid", "period", "tier", "result_sop_instance_uid", "destination"):
        assert row[key] == line[key]


@pytest.mark.parametrize(
    "arguments", [["--month", "2001-01"], ["--clinic", "mercy"]], ids=["another month", "another clinic"]
)
def test_the_ledger_is_narrowed_by_clinic_and_month(
    collimator: Collimator, database: Database, arguments: list[str]
) -> None:
    assert json.loads(collimator("ledger", "--json", *arguments)[1]) == []


@pytest.mark.parametrize("month", ["2026-13", "2026", "november", "2026-11-01", "'; DROP TABLE ledger"])
def test_a_bad_month_is_wrong_usage(collimator: Collimator, database: Database, month: str) -> None:
    status, out, err = collimator("ledger", "--month", month)
    assert (status, out) == (2, "")
    assert "is not a month (write it as YYYY-MM, for example 2026-11)" in err


def test_json_and_csv_at_once_are_wrong_usage(collimator: Collimator) -> None:
    assert collimator("ledger", "--json", "--csv")[0] == 2


@pytest.mark.parametrize("verb", ["studies", "ledger"])
def test_a_node_where_nothing_happened_yet_has_empty_lists(collimator: Collimator, verb: str) -> None:
    assert collimator(verb, "--json")[:2] == (0, "[]\n")
    assert len(collimator(verb)[1].splitlines()) == 1


def test_a_key_is_shown_once_and_never_again(collimator: Collimator) -> None:
    status, out, _ = collimator("keys", "create", "grafana", "--role", "operator", "--clinic", "mercy")
    key = out.strip()
    assert status == 0
    assert key.startswith("clm_")
    listed = collimator("keys", "list", "--json")[1]
    assert key not in listed
    (row,) = json.loads(listed)
    assert (row["name"], row["role"], row["clinic"], row["revoked_at"]) == ("grafana", "operator", "mercy", None)


def test_a_key_is_a_viewers_unless_told_otherwise(collimator: Collimator) -> None:
    collimator("keys", "create", "somebody")
    assert json.loads(collimator("keys", "list", "--json")[1])[0]["role"] == "viewer"


def test_a_revoked_key_stays_in_the_list(collimator: Collimator) -> None:
    collimator("keys", "create", "somebody")
    assert collimator("keys", "revoke", "somebody") == (0, "somebody is revoked\n", "")
    assert json.loads(collimator("keys", "list", "--json")[1])[0]["revoked_at"] is not None


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["revoke", "nobody"], 1, "there is no valid key named 'nobody'"),
        (["create", "k", "--clinic", "nowhere"], 1, "there is no clinic 'nowhere'"),
        (["create", "two\nlines"], 2, "'two\\nlines' is no name for a key"),
        (["create", "k", "--role", "emperor"], 2, "invalid choice: 'emperor'"),
        ([], 2, "required"),
    ],
)
def test_what_cannot_be_done_with_keys_is_said_in_one_line(
    collimator: Collimator, arguments: list[str], status: int, says: str
) -> None:
    told = collimator("keys", *arguments)
    assert told[0] == status
    assert says in told[2]


# The care of a study


def test_a_held_study_is_tried_again_from_the_command_line(collimator: Collimator, database: Database) -> None:
    migrate_jobs(database)
    said = f"{MERCY_STUDY} of mercy, generation 1, is queued"
    assert collimator("study", MERCY_STUDY, "--retry") == (0, f"{said}\n", "")
    assert collimator("study", MERCY_STUDY, "--retry") == (0, f"{said} already\n", "")
    assert "requeued   asked for from the command line" in collimator("study", MERCY_STUDY)[1]


def test_care_as_json_is_a_list_with_the_studys_newest_generation(collimator: Collimator, database: Database) -> None:
    status, out, _ = collimator("study", ST_MARY_STUDY, "--cancel", "--json")
    assert status == 0
    assert json.loads(out) == [
        {
            "clinic": "st-mary",
            "study_instance_uid": ST_MARY_STUDY,
            "generation": 2,
            "state": "cancelled",
            "is_changed": True,
        }
    ]


def test_what_cannot_be_done_is_one_clear_line_and_status_1(collimator: Collimator, database: Database) -> None:
    status, out, err = collimator("study", MERCY_STUDY, "--cancel")
    assert (status, out) == (1, "")
    assert err == (
        "collimator: the study is held and cannot be cancelled "
        "(a study can be cancelled until its results are written)\n"
    )


def test_two_verbs_at_once_are_wrong_usage(collimator: Collimator, database: Database) -> None:
    assert collimator("study", MERCY_STUDY, "--retry", "--cancel")[0] == 2


def test_other_rules_are_tried_on_the_stored_studies_before_they_go_live(
    collimator: Collimator, config: Path, database: Database, tmp_path: Path
) -> None:
    proposed = tmp_path / "proposed.toml"
    rule = '[[routing.rules]]\nname = "all chests"\npackage = "pediatric_chest"\nbody_parts = ["chest"]\n'
    proposed.write_text(config.read_text(encoding="utf-8") + rule, encoding="utf-8")
    before = collimator("study", ST_MARY_STUDY, "--json")
    status, out, err = collimator("rules", "dry-run", str(proposed))
    assert (status, err) == (0, "")
    header, *lines, summary = out.splitlines()
    assert header.split() == ["CLINIC", "STUDY", "NOW", "PROPOSED", "IMAGES", "REFUSED", "WHY"]
    assert sorted(line.split()[:7] for line in lines) == [
        ["mercy", MERCY_STUDY, "nowhere", "pediatric_chest", "1", "of", "1"],
        ["st-mary", ST_MARY_STUDY, "nowhere", "pediatric_chest", "1", "of", "1"],
    ]
    refused = "age unknown where 1 to 5 completed years is accepted"
    assert all(f"  1: {refused}  " in line for line in lines)
    assert all("so rule 'all chests' sends it to pediatric_chest" in line for line in lines)
    assert summary == "2 of the last 2 studies would go elsewhere"
    assert collimator("study", ST_MARY_STUDY, "--json") == before

    (change,) = json.loads(collimator("rules", "dry-run", str(proposed), "--json", "--last", "1")[1])
    assert (change["study_instance_uid"], change["packages_proposed"]) == (MERCY_STUDY, ["pediatric_chest"])
    (moved,) = change["images_changed"]
    assert (moved["package_now"], moved["package_proposed"], moved["refused_proposed"]) == (
        "", "pediatric_chest", refused,
    )  # fmt: skip
    assert collimator("rules", "dry-run", str(config))[1] == "0 of the last 2 studies would go elsewhere\n"


def test_a_dry_run_shows_an_image_that_changes_in_a_study_that_keeps_its_packages(
    collimator: Collimator, config: Path, database: Database, tmp_path: Path
) -> None:
    """The chests go nowhere and the hands to bone_fracture, as before; but not the same ones."""
    own = config.read_text(encoding="utf-8") + "[routing.terms]\n"
    for number, term in enumerate(("CHEST", "HAND"), start=1):
        facts = InstanceFacts(modality="DX", body_part_examined=term, has_pixels=True)
        study_id = receive(database, "mercy", "1.2.3.8", f"1.2.3.8.{number}", facts=facts)
    complete(database, study_id)
    proposed = tmp_path / "proposed.toml"
    proposed.write_text(own + 'CHEST = "bone"\nTHORAX = "bone"\nHAND = "chest"\n', encoding="utf-8")
    (change,) = json.loads(collimator("rules", "dry-run", str(proposed), "--json", "--last", "1")[1])
    assert change["packages_now"] == change["packages_proposed"] == ["bone_fracture"]
    assert [(one["package_now"], one["package_proposed"]) for one in change["images_changed"]] == [
        ("", "bone_fracture"),
        ("bone_fracture", ""),
    ]
    assert [one["reason_proposed"] for one in change["images_changed"]] == [
        "Body Part Examined (0018,0015) 'CHEST' says bone, so rule 'bones of the limbs, shoulder and pelvis' sends it "
        "to bone_fracture",
        "Body Part Examined (0018,0015) 'HAND' says chest, and no rule takes it: rule 'chest of a small child' wants "
        "Patient's Age (0010,1010) 1 to 5 years, and it is unknown",
    ]


def test_the_table_of_a_dry_run_says_why_an_image_would_go_nowhere_though_others_of_its_study_go_on(
    collimator: Collimator, config: Path, database: Database, tmp_path: Path
) -> None:
    for number, term in enumerate(("CHEST", "HAND"), start=1):
        facts = InstanceFacts(modality="DX", body_part_examined=term, has_pixels=True, patient_age_years=40.0)
        study_id = receive(database, "mercy", "1.2.3.8", f"1.2.3.8.{number}", facts=facts)
    complete(database, study_id)
    proposed = tmp_path / "proposed.toml"
    rule = '[[routing.rules]]\nname = "chests"\npackage = "chest"\nbody_parts = ["chest"]\n'
    proposed.write_text(config.read_text(encoding="utf-8") + rule, encoding="utf-8")
    (line,) = [line for line in collimator("rules", "dry-run", str(proposed))[1].splitlines() if "1.2.3.8" in line]
    assert line.split()[:7] == ["mercy", "1.2.3.8", "chest,", "bone_fracture", "chest", "1", "of"]
    assert line.endswith("'HAND' says bone, and no rule takes it: no rule is about this body part")


@pytest.mark.parametrize("last", ["-3", "0", "all"])
def test_a_dry_run_over_no_number_of_studies_is_wrong_usage(
    collimator: Collimator, config: Path, database: Database, last: str
) -> None:
    status, out, err = collimator("rules", "dry-run", str(config), f"--last={last}")
    assert (status, out) == (2, "")
    assert "is not a number of studies: 1 or more is expected" in err


def test_a_dry_run_where_nothing_is_stored_says_so_and_sets_nothing_up(
    collimator: Collimator, config: Path, tmp_path: Path
) -> None:
    status, out, err = collimator("rules", "dry-run", str(config))
    assert (status, out) == (1, "")
    assert f"there is nothing to run on: no study was ever stored in {tmp_path / 'var'}" in err
    assert not (tmp_path / "var").exists()


def test_rules_that_name_no_model_are_refused_before_they_go_live(
    collimator: Collimator, database: Database, tmp_path: Path
) -> None:
    proposed = tmp_path / "proposed.toml"
    proposed.write_text('[[routing.rules]]\nname = "x"\npackage = "pediatric_chst"\n', encoding="utf-8")
    status, out, err = collimator("rules", "dry-run", str(proposed))
    assert (status, out) == (2, "")
    assert "routing.rules, 'x': no model package is named 'pediatric_chst'" in err


def test_rules_that_are_none_are_refused_before_anything_is_read(collimator: Collimator, tmp_path: Path) -> None:
    proposed = tmp_path / "proposed.toml"
    proposed.write_text('[[routing.rules]]\nname = "x"\n', encoding="utf-8")
    status, out, err = collimator("rules", "dry-run", str(proposed))
    assert (status, out) == (2, "")
    assert "routing.rules.0.package: Field required" in err
