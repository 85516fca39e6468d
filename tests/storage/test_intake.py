"""What becomes of an instance that came: the verdicts, and the generation that it belongs to."""

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

import pytest
import sqlalchemy as sa
from pydicom.uid import ImplicitVRLittleEndian

from domain.completion import CompletionRules
from domain.identity import INSTANCE_CREATOR_UID
from domain.states import StudyState
from domain.study import InstanceFacts
from storage.content import content_sha256, is_same_content
from storage.database import Database, utc_now
from storage.headers import StoredInstance
from storage.instances import Spool
from storage.intake import (
    Recorded,
    Verdict,
    record_instances,
    record_release,
    replaces_lost,
    sync_clinics,
    unknown_keys,
)
from storage.studies import OpenStudy, close_study, open_studies, read_study, save_results
from storage.study_keys import KeyNotThere, MasterKey, StudyKeys
from storage.tables import clinics, instances, quarantine, results, studies
from tests.factories.arrivals import CHEST, NO_SPOOL, REPORT, arrival, provenance, read_back, spooled
from tests.factories.sources import radiograph
from tests.portal_api.rows import result

AT_ONCE = CompletionRules(after_release_s=0.0)


def record(database: Database, *stored: StoredInstance, spool: Spool = NO_SPOOL) -> list[Recorded]:
    return record_instances(database, spool, stored)


def came(spool: Spool, content: str = "Chest PA", *, clinic: str = "st-mary") -> StoredInstance:
    """An instance with its file; each time it comes over another association. The same text, the same data set."""
    dataset = radiograph(1)
    dataset.StudyDescription = content
    return read_back(spool, spooled(spool, dataset, how=provenance(clinic=clinic, association=token_hex(8))))


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


def test_an_identical_re_send_is_dropped_and_counted(database: Database, spool: Spool) -> None:
    first = came(spool)
    record(database, first, spool=spool)
    for _ in range(2):
        (recorded,) = record(database, came(spool), spool=spool)
        assert (recorded.verdict, recorded.keeps_file) == (Verdict.DUPLICATE, False)
    (row,) = rows(database, instances)
    assert (row.spool_key, row.times_sent_again) == (first.spool_key, 2)


def test_a_re_send_within_one_batch_is_a_re_send(database: Database, spool: Spool) -> None:
    recorded = record(database, came(spool), came(spool), spool=spool)
    assert [one.verdict for one in recorded] == [Verdict.KEPT, Verdict.DUPLICATE]


def test_a_re_send_after_the_study_was_closed_opens_nothing(database: Database, spool: Spool) -> None:
    (first,) = record(database, came(spool), spool=spool)
    closed(database, first.study_id or 0)
    assert record(database, came(spool), spool=spool)[0].verdict is Verdict.DUPLICATE
    assert len(rows(database, studies)) == 1


@pytest.mark.parametrize("content", ["Chest AP", "Chest"], ids=["of the same size", "shorter"])
def test_other_content_under_a_known_uid_is_quarantined_and_the_first_is_kept(
    database: Database, spool: Spool, content: str
) -> None:
    first, second = came(spool, "Chest PA"), came(spool, content)
    record(database, first, spool=spool)
    (recorded,) = record(database, second, spool=spool)
    assert (recorded.verdict, recorded.keeps_file) == (Verdict.CONFLICTING, True)
    assert [row.spool_key for row in rows(database, instances)] == [first.spool_key]
    (aside,) = rows(database, quarantine)
    assert (aside.spool_key, aside.reason, aside.sop_instance_uid) == (
        second.spool_key,
        "conflicting",
        "2.25.4711.1.1.1",
    )
    assert aside.peer_address == "192.0.2.10"


def test_what_is_quarantined_already_is_not_kept_again_however_often_it_comes(database: Database, spool: Spool) -> None:
    record(database, came(spool, "Chest PA"), spool=spool)
    record(database, aside := came(spool, "Chest AP"), spool=spool)
    again = record(database, came(spool, "Chest AP"), came(spool, "Chest AP"), spool=spool)
    assert [(one.verdict, one.keeps_file) for one in again] == [(Verdict.CONFLICTING, False)] * 2
    third = came(spool, "Chest XX")
    assert [one.keeps_file for one in record(database, third, spool=spool)] == [True]
    assert [row.spool_key for row in rows(database, quarantine)] == [aside.spool_key, third.spool_key]


def test_nobody_waits_for_a_transaction_while_large_files_are_compared(
    database: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ends one that is silent for fifteen seconds; it would be tried again for ever, and nothing else."""
    open_while_compared = []

    def compare(spool: Spool, spool_key: str, other_key: str) -> bool:
        open_while_compared.append(database.engine.pool.checkedout())  # type: ignore[attr-defined]
        return is_same_content(spool, spool_key, other_key)

    monkeypatch.setattr("storage.intake.is_same_content", compare)
    sent = [came(spool, content) for content in ("Chest PA", "Chest PA", "Chest AP", "Chest AP")]
    verdicts = [(one.verdict, one.is_aside_already) for one in record_instances(database, spool, sent)]
    assert verdicts == [("kept", False), ("duplicate", False), ("conflicting", False), ("conflicting", True)]
    assert set(open_while_compared) == {0}


def test_what_an_unknown_caller_sends_again_is_not_kept_again(database: Database, spool: Spool) -> None:
    verdicts = []
    for association in ("a1", "a2"):
        key = spooled(spool, radiograph(1), how=provenance(clinic="", association=association))
        (recorded,) = record_instances(database, spool, [read_back(spool, key)])
        verdicts.append((recorded.verdict, recorded.is_aside_already))
    assert verdicts == [("unknown_caller", False), ("unknown_caller", True)]


def test_what_is_quarantined_at_another_clinic_or_for_another_reason_is_kept_once_more(
    database: Database, spool: Spool
) -> None:
    for clinic in ("st-mary", "mercy"):
        damaged = replace(came(spool, clinic=clinic), problem="StudyInstanceUID is missing")
        assert [one.keeps_file for one in record(database, damaged, spool=spool)] == [True]
        again = replace(came(spool, clinic=clinic), problem="StudyInstanceUID is missing")
        assert [one.keeps_file for one in record(database, again, spool=spool)] == [False]
    record(database, came(spool, "Chest AP"), spool=spool)
    assert [one.keeps_file for one in record(database, came(spool), spool=spool)] == [True]


def test_a_re_send_takes_the_place_of_an_instance_whose_file_is_lost(database: Database, spool: Spool) -> None:
    """Who asked the node to commit to it was told that it is not here, and sends it once more."""
    first = came(spool)
    record(database, first, spool=spool)
    spool.path(first.spool_key).unlink()
    again = came(spool)
    (recorded,) = record(database, again, spool=spool)
    assert replaces_lost(database, spool, recorded)
    assert [row.spool_key for row in rows(database, instances)] == [again.spool_key]
    assert rows(database, quarantine) == []


@pytest.mark.parametrize("content", ["Chest AP", "Chest lateral"], ids=["as long", "longer"])
def test_what_is_not_what_the_row_of_a_lost_file_says_does_not_take_its_place(
    database: Database, spool: Spool, content: str
) -> None:
    first = came(spool, "Chest PA")
    record(database, first, spool=spool)
    spool.path(first.spool_key).unlink()
    (recorded,) = record(database, came(spool, content), spool=spool)
    assert (recorded.verdict, recorded.keeps_file) == (Verdict.CONFLICTING, True)
    assert not replaces_lost(database, spool, recorded)
    assert [row.spool_key for row in rows(database, instances)] == [first.spool_key]


def cut_to_nothing(path: Path) -> None:
    os.truncate(path, 0)


def flip_the_first_bit(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


def cut_its_end(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 2)


def flip_its_last_bit(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
    ("encrypts", "damage"),
    [
        (False, cut_to_nothing),
        (False, cut_its_end),
        (True, cut_to_nothing),
        (True, cut_its_end),
        (True, flip_the_first_bit),
        (True, flip_its_last_bit),
    ],
)
def test_a_re_send_takes_the_place_of_an_instance_whose_file_is_damaged(
    database: Database, tmp_path: Path, encrypts: bool, damage: Callable[[Path], None]
) -> None:
    spool = Spool(tmp_path, keys=StudyKeys(tmp_path, [MasterKey(secret=b"m" * 32)]) if encrypts else None)
    first, again, other = came(spool), came(spool), arrival("k3", "1.2.3.3")
    record(database, first, spool=spool)
    damage(spool.path(first.spool_key))
    recorded = record(database, again, other, spool=spool)
    assert [one.verdict for one in recorded] == [Verdict.DUPLICATE, Verdict.KEPT]
    assert replaces_lost(database, spool, recorded[0])
    assert [row.spool_key for row in rows(database, instances)] == [again.spool_key, other.spool_key]
    assert (spool.has(first.spool_key), spool.has(again.spool_key)) == (False, True)
    assert not replaces_lost(database, spool, recorded[0])
    assert spool.has(again.spool_key)


@pytest.mark.parametrize("encrypts", [False, True])
def test_what_differs_from_an_instance_whose_file_is_damaged_is_not_thrown_away(
    database: Database, tmp_path: Path, encrypts: bool
) -> None:
    spool = Spool(tmp_path, keys=StudyKeys(tmp_path, [MasterKey(secret=b"m" * 32)]) if encrypts else None)
    first, again = came(spool, "Chest PA"), came(spool, "Chest AP")
    record(database, first, spool=spool)
    cut_to_nothing(spool.path(first.spool_key))
    (recorded,) = record(database, again, spool=spool)
    assert (recorded.verdict, recorded.keeps_file) == (Verdict.CONFLICTING, True)
    assert rows(database, quarantine)[0].detail == (
        "it cannot be compared with the instance that is here already: there is no File Meta of this node"
    )


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EIO, "Input/output error"), KeyNotThere(errno.ENOKEY, "its master key is not in the key file")],
)
def test_a_first_that_cannot_be_read_now_is_not_given_up(
    database: Database, spool: Spool, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    first, again = came(spool), came(spool)
    record(database, first, spool=spool)
    opened = Spool.open

    def cannot_be_read(spool: Spool, key: str) -> BinaryIO:
        if key == first.spool_key:
            raise error
        return opened(spool, key)

    monkeypatch.setattr(Spool, "open", cannot_be_read)
    (recorded,) = record(database, again, spool=spool)
    assert (recorded.verdict, spool.has(first.spool_key)) == (Verdict.CONFLICTING, True)


def test_a_re_send_that_cannot_be_read_is_not_thrown_away_either(database: Database, tmp_path: Path) -> None:
    spool = Spool(tmp_path, keys=StudyKeys(tmp_path, [MasterKey(secret=b"m" * 32)]))
    first, again = came(spool), came(spool)
    record(database, first, spool=spool)
    with database.write() as connection:
        connection.execute(sa.update(instances).values(content_sha256="0" * 64, removed_at=utc_now()))
    os.truncate(spool.path(again.spool_key), 100)
    assert [one.verdict for one in record(database, again, spool=spool)] == [Verdict.CONFLICTING]


def test_a_re_send_that_another_process_dropped_already_is_no_conflict(database: Database, spool: Spool) -> None:
    record(database, came(spool), spool=spool)
    again = came(spool)
    spool.remove(again.spool_key)
    assert record(database, again, spool=spool)[0].verdict is Verdict.DUPLICATE


def test_pixels_that_were_removed_are_known_again_by_their_digest(database: Database, spool: Spool) -> None:
    first = came(spool)
    record(database, first, spool=spool)
    digest = content_sha256(spool, first.spool_key)
    with database.write() as connection:
        connection.execute(sa.update(instances).values(content_sha256=digest, removed_at=utc_now()))
    spool.remove(first.spool_key)
    again, other = came(spool), came(spool, "Chest AP")
    recorded = record(database, again, other, spool=spool)
    assert [one.verdict for one in recorded] == [Verdict.DUPLICATE, Verdict.CONFLICTING]
    assert [row.times_sent_again for row in rows(database, instances)] == [1]


def test_what_was_erased_does_not_come_back_by_itself(database: Database, spool: Spool) -> None:
    record(database, came(spool), spool=spool)
    with database.write() as connection:
        connection.execute(sa.update(instances).values(removed_at=utc_now()))
    (recorded,) = record(database, came(spool), spool=spool)
    assert (recorded.verdict, recorded.keeps_file) == (Verdict.ERASED, True)


def test_a_file_that_a_crash_left_behind_its_removal_is_found_and_dropped(database: Database, spool: Spool) -> None:
    first = came(spool)
    record(database, first, spool=spool)
    assert unknown_keys(database, [first.spool_key]) == []
    with database.write() as connection:
        connection.execute(sa.update(instances).values(content_sha256="0" * 64, removed_at=utc_now()))
    assert unknown_keys(database, [first.spool_key]) == [first.spool_key]
    (recorded,) = record(database, first, spool=spool)
    assert not recorded.keeps_file
    assert [row.times_sent_again for row in rows(database, instances)] == [0]


@pytest.mark.parametrize("problem", ["", "StudyInstanceUID is missing"], ids=["sound", "unreadable"])
def test_what_an_unknown_caller_sent_is_quarantined_for_no_clinic(database: Database, problem: str) -> None:
    (recorded,) = record(database, arrival("k1", clinic="", problem=problem))
    assert (recorded.verdict, recorded.keeps_file, recorded.study_id) == (Verdict.UNKNOWN_CALLER, True, None)
    (aside,) = rows(database, quarantine)
    assert (aside.clinic, aside.reason, aside.peer_address) == (None, "unknown_caller", "192.0.2.10")
    assert aside.detail == "MODALITY1 is a caller of no clinic"
    assert rows(database, studies) == []


def test_the_same_uid_at_another_clinic_is_another_instance(database: Database) -> None:
    recorded = record(database, arrival("k1"), arrival("k2", clinic="mercy"))
    assert [one.verdict for one in recorded] == [Verdict.KEPT, Verdict.KEPT]
    assert {row.clinic for row in rows(database, studies)} == {"st-mary", "mercy"}


def test_an_own_result_that_comes_back_is_dropped_and_counted(database: Database) -> None:
    (kept,) = record(database, arrival("k1"))
    with database.write() as connection:
        save_results(connection, kept.study_id or 0, [result("overlay", "2.25.7")], {"standard": ["pacs"]})
    (recorded,) = record(database, arrival("k2", "2.25.7", is_own_result=True))
    assert (recorded.verdict, recorded.keeps_file) == (Verdict.OWN_RESULT, False)
    assert rows(database, results)[0].times_sent_back == 1
    assert [row.spool_key for row in rows(database, instances)] == ["k1"]


@pytest.mark.parametrize(
    ("clinic", "verdict"), [("st-mary", Verdict.OWN_RESULT), ("mercy", Verdict.KEPT)], ids=["its clinic", "another"]
)
def test_an_own_result_is_known_by_its_uid_where_a_relay_took_the_rest(
    database: Database, clinic: str, verdict: Verdict
) -> None:
    (kept,) = record(database, arrival("k1"))
    with database.write() as connection:
        save_results(connection, kept.study_id or 0, [result("overlay", "2.25.7")], {"standard": ["pacs"]})
    new, returned = arrival("k3", "1.2.3.3", clinic=clinic), arrival("k2", "2.25.7", clinic=clinic)
    assert [one.verdict for one in record(database, new, returned)] == [Verdict.KEPT, verdict]
    assert rows(database, results)[0].times_sent_back == (verdict is Verdict.OWN_RESULT)


def test_an_own_result_is_known_even_when_a_relay_wrote_another_file_meta(database: Database, spool: Spool) -> None:
    result = radiograph(1)
    result.InstanceCreatorUID = INSTANCE_CREATOR_UID
    relay = provenance(calling_ae_title="RELAY", association="another")
    returned = read_back(spool, spooled(spool, result, transfer_syntax_uid=ImplicitVRLittleEndian, how=relay))
    (recorded,) = record(database, returned, spool=spool)
    assert (recorded.verdict, recorded.keeps_file) == (Verdict.OWN_RESULT, False)


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
    assert [study.reason for study in open_studies(database, AT_ONCE).complete] == ["released"]
    record(database, arrival("k2", "1.2.3.2"))
    assert rows(database, studies)[0].released_at is None
    assert open_studies(database, AT_ONCE).complete == ()


def test_a_release_does_not_touch_a_study_that_was_closed(database: Database) -> None:
    (first,) = record(database, arrival("k1"))
    with database.write() as connection:
        connection.execute(sa.update(studies).values(state=StudyState.QUEUED))
    record_release(database, [first.study_id or 0])
    assert rows(database, studies)[0].released_at is None


def test_a_study_is_closed_once(database: Database) -> None:
    (first,) = record(database, arrival("k1"))
    record_release(database, [first.study_id or 0])
    open_study = open_studies(database, AT_ONCE).complete[0]
    with database.write() as connection:
        assert close_study(connection, open_study, AT_ONCE)
        assert not close_study(connection, open_study, AT_ONCE)


def test_a_study_is_not_closed_when_an_image_came_meanwhile(database: Database) -> None:
    (first,) = record(database, arrival("k1", "1.2.3.1"))
    record_release(database, [first.study_id or 0])
    open_study = open_studies(database, AT_ONCE).complete[0]
    record(database, arrival("k2", "1.2.3.2"))
    with database.write() as connection:
        assert not close_study(connection, open_study, AT_ONCE)
    assert rows(database, studies)[0].state == "receiving"


def test_an_image_that_comes_while_its_study_is_being_closed_opens_the_next_generation(database: Database) -> None:
    (first,) = record(database, arrival("k1", "1.2.3.1"))
    record_release(database, [first.study_id or 0])
    open_study = open_studies(database, AT_ONCE).complete[0]
    late = threading.Thread(target=record, args=(database, arrival("k2", "1.2.3.2")))
    with database.write() as connection:
        assert close_study(connection, open_study, AT_ONCE)
        late.start()
        late.join(timeout=0.5)
        assert late.is_alive()
    late.join(timeout=30)
    assert [(row.generation, row.state) for row in rows(database, studies)] == [(1, "queued"), (2, "receiving")]
    assert [row.study_id for row in rows(database, instances)] == [1, 2]


def test_many_receivers_bring_one_study_and_it_is_one_study(database: Database, spool: Spool) -> None:
    def bring(number: int) -> None:
        image = radiograph(1)
        image.SOPInstanceUID = f"1.2.3.{number}"
        record(database, *(read_back(spool, spooled(spool, image)) for _ in range(2)), spool=spool)

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
