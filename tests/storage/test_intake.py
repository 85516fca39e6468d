"""What becomes of an instance that came: the verdicts, and the generation that it belongs to."""

import threading

import pytest
import sqlalchemy as sa

from domain.completion import CompletionRules
from domain.states import StudyState
from domain.study import InstanceFacts
from storage.database import Database
from storage.instances import Spool
from storage.intake import Recorded, Verdict, record_instances, record_release, sync_clinics, unknown_keys
from storage.studies import OpenStudy, ResultRow, close_study, complete_studies, read_study, save_results
from storage.tables import clinics, instances, quarantine, results, studies
from tests.factories.arrivals import CHEST, REPORT, arrival

AT_ONCE = CompletionRules(after_release_s=0.0)


def record(database: Database, *stored: object) -> list[Recorded]:
    return record_instances(database, stored)  # type: ignore[arg-type]


def rows(database: Database, table: sa.Table) -> list[sa.Row[tuple[object, ...]]]:
    with database.read() as connection:
        return list(connection.execute(sa.select(table).order_by(table.c[0])))


def closed(database: Database, study_id: int) -> None:
    record_release(database, [study_id])
    with database.write() as connection:
        assert close_study(connection, OpenStudy(study_id=study_id, clinic="", reason="released"), AT_ONCE)


def test_a_new_instance_is_kept_in_a_new_study(database: Database) -> None:
    (recorded,) = record(database, arrival("k1", accession_number="A-77"))
    (study,) = rows(database, studies)
    assert (recorded.verdict, recorded.keeps_file, recorded.study_id) == (Verdict.KEPT, True, study.id)
    assert (study.clinic, study.study_instance_uid, study.generation) == ("st-mary", "1.2.3", 1)
    assert (study.state, study.accession_number, study.calling_ae_title) == ("receiving", "A-77", "MODALITY1")
    assert [row.spool_key for row in rows(database, instances)] == ["k1"]


def test_an_identical_re_send_is_dropped_and_counted(database: Database) -> None:
    record(database, arrival("k1"))
    for key in ("k2", "k3"):
        (recorded,) = record(database, arrival(key))
        assert (recorded.verdict, recorded.keeps_file) == (Verdict.DUPLICATE, False)
    (row,) = rows(database, instances)
    assert (row.spool_key, row.times_sent_again) == ("k1", 2)


def test_a_re_send_within_one_batch_is_a_re_send(database: Database) -> None:
    recorded = record(database, arrival("k1"), arrival("k2"))
    assert [one.verdict for one in recorded] == [Verdict.KEPT, Verdict.DUPLICATE]


def test_a_re_send_after_the_study_was_closed_opens_nothing(database: Database) -> None:
    (first,) = record(database, arrival("k1"))
    closed(database, first.study_id or 0)
    assert record(database, arrival("k2"))[0].verdict is Verdict.DUPLICATE
    assert len(rows(database, studies)) == 1


def test_other_content_under_a_known_uid_is_quarantined_and_the_first_is_kept(database: Database) -> None:
    record(database, arrival("k1", content="a"))
    (recorded,) = record(database, arrival("k2", content="b"))
    assert (recorded.verdict, recorded.keeps_file) == (Verdict.CONFLICTING, True)
    assert [row.spool_key for row in rows(database, instances)] == ["k1"]
    (aside,) = rows(database, quarantine)
    assert (aside.spool_key, aside.reason, aside.sop_instance_uid) == ("k2", "conflicting", "1.2.3.1")


def test_the_same_uid_at_another_clinic_is_another_instance(database: Database) -> None:
    recorded = record(database, arrival("k1"), arrival("k2", clinic="mercy", content="b"))
    assert [one.verdict for one in recorded] == [Verdict.KEPT, Verdict.KEPT]
    assert [row.clinic for row in rows(database, studies)] == ["st-mary", "mercy"]


def test_an_own_result_that_comes_back_is_dropped_and_counted(database: Database) -> None:
    (kept,) = record(database, arrival("k1"))
    row = ResultRow(
        kind="overlay",
        profile="standard",
        is_note=False,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.7",
        sop_instance_uid="2.25.7",
        series_instance_uid="2.25.8",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
    )
    with database.write() as connection:
        save_results(connection, kept.study_id or 0, [row], {"standard": ["pacs"]})
    (recorded,) = record(database, arrival("k2", "2.25.7", is_own_result=True))
    assert (recorded.verdict, recorded.keeps_file) == (Verdict.OWN_RESULT, False)
    assert rows(database, results)[0].times_sent_back == 1
    assert [row.spool_key for row in rows(database, instances)] == ["k1"]


def test_what_cannot_be_read_is_quarantined_with_its_reason(database: Database) -> None:
    (recorded,) = record(database, arrival("k1", problem="StudyInstanceUID is missing"))
    assert (recorded.verdict, recorded.keeps_file, recorded.study_id) == (Verdict.UNREADABLE, True, None)
    (aside,) = rows(database, quarantine)
    assert (aside.reason, aside.detail) == ("unreadable", "StudyInstanceUID is missing")
    assert rows(database, studies) == []


@pytest.mark.parametrize("problem", ["", "StudyInstanceUID is missing"], ids=["kept", "unreadable"])
def test_recording_a_file_twice_changes_nothing(database: Database, problem: str) -> None:
    first = record(database, arrival("k1", problem=problem))
    assert record(database, arrival("k1", problem=problem)) == first
    assert len(rows(database, instances)) + len(rows(database, quarantine)) == 1


def test_a_study_is_open_for_more_until_it_is_closed(database: Database) -> None:
    record(database, arrival("k1", "1.2.3.1"), arrival("k2", "1.2.3.2"))
    assert [row.generation for row in rows(database, studies)] == [1]


def test_an_image_that_comes_later_opens_the_next_generation_which_holds_all(database: Database, spool: Spool) -> None:
    (first,) = record(database, arrival("k1", "1.2.3.1"))
    closed(database, first.study_id or 0)
    (second,) = record(database, arrival("k2", "1.2.3.2"))
    assert [(row.generation, row.state) for row in rows(database, studies)] == [(1, "queued"), (2, "receiving")]
    closed(database, second.study_id or 0)
    uids = [
        [instance.sop_instance_uid for instance in read_study(database, spool, study_id or 0).instances]
        for study_id in (first.study_id, second.study_id)
    ]
    assert uids == [["1.2.3.1"], ["1.2.3.1", "1.2.3.2"]]


def test_a_report_that_is_filed_later_does_not_start_the_analysis_again(database: Database) -> None:
    (first,) = record(database, arrival("k1", "1.2.3.1"))
    closed(database, first.study_id or 0)
    (later,) = record(database, arrival("k2", "1.2.3.2", facts=REPORT))
    assert (later.verdict, later.study_id) == (Verdict.KEPT, first.study_id)
    assert [row.state for row in rows(database, studies)] == ["queued"]


def test_a_released_study_is_complete_and_another_arrival_opens_it_again(database: Database) -> None:
    (first,) = record(database, arrival("k1", "1.2.3.1"))
    record_release(database, [first.study_id or 0])
    assert [study.reason for study in complete_studies(database, AT_ONCE)] == ["released"]
    record(database, arrival("k2", "1.2.3.2"))
    assert rows(database, studies)[0].released_at is None
    assert complete_studies(database, AT_ONCE) == []


def test_a_release_does_not_touch_a_study_that_was_closed(database: Database) -> None:
    (first,) = record(database, arrival("k1"))
    with database.write() as connection:
        connection.execute(sa.update(studies).values(state=StudyState.QUEUED))
    record_release(database, [first.study_id or 0])
    assert rows(database, studies)[0].released_at is None


def test_a_study_is_closed_once(database: Database) -> None:
    (first,) = record(database, arrival("k1"))
    record_release(database, [first.study_id or 0])
    open_study = complete_studies(database, AT_ONCE)[0]
    with database.write() as connection:
        assert close_study(connection, open_study, AT_ONCE)
        assert not close_study(connection, open_study, AT_ONCE)


def test_a_study_is_not_closed_when_an_image_came_meanwhile(database: Database) -> None:
    (first,) = record(database, arrival("k1", "1.2.3.1"))
    record_release(database, [first.study_id or 0])
    open_study = complete_studies(database, AT_ONCE)[0]
    record(database, arrival("k2", "1.2.3.2"))
    with database.write() as connection:
        assert not close_study(connection, open_study, AT_ONCE)
    assert rows(database, studies)[0].state == "receiving"


def test_an_image_that_comes_while_its_study_is_being_closed_opens_the_next_generation(database: Database) -> None:
    (first,) = record(database, arrival("k1", "1.2.3.1"))
    record_release(database, [first.study_id or 0])
    open_study = complete_studies(database, AT_ONCE)[0]
    late = threading.Thread(target=record, args=(database, arrival("k2", "1.2.3.2")))
    with database.write() as connection:
        assert close_study(connection, open_study, AT_ONCE)
        late.start()
        late.join(timeout=0.5)
        assert late.is_alive()
    late.join(timeout=30)
    assert [(row.generation, row.state) for row in rows(database, studies)] == [(1, "queued"), (2, "receiving")]
    assert [row.study_id for row in rows(database, instances)] == [1, 2]


def test_many_receivers_bring_one_study_and_it_is_one_study(database: Database) -> None:
    def bring(number: int) -> None:
        record(database, arrival(f"k{number}", f"1.2.3.{number}"), arrival(f"again{number}", f"1.2.3.{number}"))

    threads = [threading.Thread(target=bring, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(rows(database, studies)) == 1
    assert [row.times_sent_again for row in rows(database, instances)] == [1] * 8


def test_text_in_any_script_comes_back_as_it_was(database: Database, spool: Spool) -> None:
    facts = InstanceFacts(modality="DX", study_description="胸部 Грудь 🫁 \\ ' \" --", has_pixels=True)
    (first,) = record(database, arrival("k1", facts=facts, accession_number="受付-7"))
    closed(database, first.study_id or 0)
    assert read_study(database, spool, first.study_id or 0).instances[0].facts == facts
    assert rows(database, studies)[0].accession_number == "受付-7"


def test_keys_without_a_row_are_unknown(database: Database) -> None:
    record(database, arrival("kept"), arrival("aside", problem="damaged"))
    assert unknown_keys(database, ["kept", "new", "aside", "newer"]) == ["new", "newer"]
    assert unknown_keys(database, []) == []


def test_a_clinic_that_left_the_configuration_keeps_its_row_and_another_gets_its_new_tier(database: Database) -> None:
    sync_clinics(database, {"mercy": "enterprise", "new": "basic"})
    assert [(row.name, row.tier) for row in sorted(rows(database, clinics))] == [
        ("mercy", "enterprise"),
        ("new", "basic"),
        ("st-mary", "professional"),
    ]


def test_a_facts_row_keeps_all_that_routing_needs(database: Database, spool: Spool) -> None:
    (first,) = record(database, arrival("k1"))
    closed(database, first.study_id or 0)
    study = read_study(database, spool, first.study_id or 0)
    assert study.instances[0].facts == CHEST
    assert study.completion_reason == "released"
    assert study.completed_at.tzinfo is not None
