"""A destination that does not take a SOP class of its profile gets the next form that it takes, and that is said.

standard = overlay + measurement_sr + text_sr  ->  text = text_sr  ->  sc_only = overlay
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from domain.clinics import Clinic, ResultForm
from domain.errors import Refuse
from metering.ledger import read_ledger
from reports.write import next_profile
from storage.database import Database
from storage.studies import ResultRow
from storage.study_keys import study_name
from tests.portal_api.rows import result
from tests.workflow.conftest import Puts
from tests.workflow.test_delivery import Pacs, delay_of, events, run_newest, states, waiting_study
from workflow.rooms import Rooms
from workflow.written import Written

CLASSES = {
    "overlay": "1.2.840.10008.5.1.4.1.1.7",
    "measurement_sr": "1.2.840.10008.5.1.4.1.1.88.33",
    "text_sr": "1.2.840.10008.5.1.4.1.1.88.22",
}
EXTRA = {"gsps": "1.2.840.10008.5.1.4.1.1.11.1"}


@pytest.fixture
def pacs(monkeypatch: pytest.MonkeyPatch) -> Pacs:
    pacs = Pacs()
    monkeypatch.setattr("workflow.sending.store_association", pacs)
    return pacs


def row(kind: str, number: int, profile: str = "standard") -> ResultRow:
    return replace(result(kind, f"2.25.10{number}"), sop_class_uid={**CLASSES, **EXTRA}[kind], profile=profile)


def standard() -> list[ResultRow]:
    return [row(kind, number) for number, kind in enumerate(CLASSES)]


def with_profile(rooms: Rooms, profile: str) -> Rooms:
    def changed(clinic: Clinic) -> Clinic:
        return replace(clinic, destinations=tuple(replace(d, profile=profile) for d in clinic.destinations))

    return replace(rooms, clinics=tuple(map(changed, rooms.clinics)))


@pytest.mark.parametrize(
    ("profile", "refused", "form"),
    [
        ("standard", ["measurement_sr"], "text"),
        ("standard", ["overlay"], "text"),
        ("standard", ["text_sr"], "sc_only"),
        ("standard", ["measurement_sr", "text_sr"], "sc_only"),
        ("standard", ["overlay", "text_sr"], None),
        ("text", ["text_sr"], "sc_only"),
        ("sc_only", ["overlay"], None),
        ("air", ["air_sr"], "standard"),
        ("air", ["overlay"], "text"),
        ("air", ["text_sr"], "sc_only"),
        ("ohif", ["region_sr"], "text"),
        ("standard", ["gsps", "seg"], None),
        ("standard", ["gsps", "measurement_sr"], "text"),
    ],
)
def test_the_next_form_is_the_first_one_behind_that_needs_nothing_of_what_is_refused(
    profile: str, refused: Sequence[str], form: str | None
) -> None:
    assert next_profile(profile, refused) == form


@pytest.mark.parametrize(
    ("takes_not", "after", "form"),
    [
        (["measurement_sr"], ["delivered", "replaced", "delivered"], "text"),
        (["overlay"], ["replaced", "delivered", "delivered"], "text"),
        (["measurement_sr", "text_sr"], ["delivered", "replaced", "replaced"], "sc_only"),
    ],
)
def test_where_the_next_form_has_arrived_the_study_is_done(
    database: Database,
    rooms: Rooms,
    puts: Puts,
    pacs: Pacs,
    takes_not: Sequence[str],
    after: list[str],
    form: str,
) -> None:
    waiting_study(rooms, 1, standard())
    pacs.takes_not = {CLASSES[kind] for kind in takes_not}
    run_newest(rooms, puts)
    assert states(database) == ("done", after)
    assert events(database, "fell back") == [f"pacs gets the form {form}: does not take it"]
    assert len(read_ledger(database)) == 1


def test_an_extra_that_is_not_taken_stays_away_and_changes_nothing_else(
    database: Database, rooms: Rooms, puts: Puts, pacs: Pacs
) -> None:
    waiting_study(rooms, 1, [*standard(), row("gsps", 4, "gsps")])
    pacs.takes_not = set(EXTRA.values())
    run_newest(rooms, puts)
    assert states(database) == ("done", ["delivered", "delivered", "delivered", "replaced"])
    assert events(database, "fell back") == []
    assert len(read_ledger(database)) == 1


def test_a_destination_that_takes_no_form_leaves_the_study_failed_and_free(
    database: Database, rooms: Rooms, puts: Puts, pacs: Pacs
) -> None:
    waiting_study(rooms, 1, standard())
    pacs.takes_not = set(CLASSES.values())
    run_newest(rooms, puts)
    assert states(database) == ("failed", ["refused"] * 3)
    assert (events(database, "fell back"), read_ledger(database)) == ([], [])


def test_a_result_that_is_refused_for_what_it_says_is_not_replaced(
    database: Database, rooms: Rooms, puts: Puts, pacs: Pacs
) -> None:
    waiting_study(rooms, 1, standard())
    pacs.says = {"2.25.101": [0xA900]}
    run_newest(rooms, puts)
    assert states(database) == ("failed", ["delivered", "refused", "delivered"])


def test_a_status_that_says_the_class_is_not_supported_counts_like_a_context_that_is_not_accepted(
    database: Database, rooms: Rooms, puts: Puts, pacs: Pacs
) -> None:
    waiting_study(rooms, 1, standard())
    pacs.says = {"2.25.101": [0x0122]}
    run_newest(rooms, puts)
    assert states(database) == ("done", ["delivered", "replaced", "delivered"])


def test_a_picture_is_drawn_and_sent_at_once_to_who_does_not_take_the_text(
    database: Database, rooms: Rooms, puts: Puts, pacs: Pacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = row("overlay", 7, "sc_only")
    written: list[str] = []

    def draw(rooms: Rooms, *_: object, form: ResultForm) -> Written:
        written.append(form.name)
        rooms.results.put(picture.sop_instance_uid, b"a picture", study=study_name("st-mary", "1.2.3.1"))
        return Written(rows=(picture,))

    monkeypatch.setattr("workflow.next_form.write_form", draw)
    rooms = with_profile(rooms, "text")
    waiting_study(rooms, 1, [row("text_sr", 1, "text")])
    pacs.takes_not = {CLASSES["text_sr"]}
    run_newest(rooms, puts)
    assert states(database) == ("delivering", ["replaced", "pending"])
    assert delay_of(puts) == 0.0
    run_newest(rooms, puts)
    assert (written, pacs.stored) == (["sc_only"], ["2.25.107"])
    assert states(database) == ("done", ["replaced", "delivered"])
    assert len(read_ledger(database)) == 1


def test_where_the_picture_cannot_be_drawn_any_more_the_study_has_failed(
    database: Database, rooms: Rooms, puts: Puts, pacs: Pacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Written:
        raise Refuse("the images are gone", reason="unreadable_pixels")

    monkeypatch.setattr("workflow.next_form.write_form", refuse)
    rooms = with_profile(rooms, "text")
    waiting_study(rooms, 1, [row("text_sr", 1, "text")])
    pacs.takes_not = {CLASSES["text_sr"]}
    run_newest(rooms, puts)
    assert states(database) == ("failed", ["refused"])
