"""Rows of storage commitment: recorded once, judged by what is held now, taken by one worker, retried and given up."""

import json
import os
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

import storage.requests.commitments
from domain.commitment import CommitmentRequest, CommitmentRules, Holding, Reference, failure_reason
from storage.content import content_sha256
from storage.counts import read_counts
from storage.database import Database, utc_now
from storage.instances import Spool
from storage.intake import record_instances
from storage.plain import to_plain
from storage.requests.commitments import (
    end_waiting,
    holdings,
    record_commitments,
    record_report,
    take_due,
)
from storage.requests.files import RequestBox
from storage.sealed import BLOCK_BYTES
from storage.study_keys import MasterKey, StudyKeys
from storage.tables import commitments, instances, studies
from tests.factories.arrivals import CR, provenance, read_back, spooled
from tests.factories.sources import radiograph

ANSWERED = ""
RULES = CommitmentRules(first_retry_s=10.0, give_up_after_s=3600.0)


@pytest.fixture(autouse=True)
def _nothing_has_to_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.requests.commitments, "SETTLES_WITHIN_S", 0.0)


@pytest.fixture
def standing_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a busy machine takes between two lines, no time passes for the node and for the test."""
    now = utc_now()
    for module in ("storage.requests.commitments", __name__):
        monkeypatch.setattr(f"{module}.utc_now", lambda: now)


@pytest.fixture
def box(tmp_path: Path) -> RequestBox:
    return RequestBox(tmp_path, "commitments")


def asked(
    box: RequestBox,
    *uids: str,
    clinic: str = "st-mary",
    transaction_uid: str = "2.25.9",
    at: datetime | None = None,
    address: str = "192.0.2.10",
) -> str:
    request = CommitmentRequest(
        clinic=clinic,
        calling_ae_title="MODALITY1",
        peer_address=address,
        transaction_uid=transaction_uid,
        asked=tuple(Reference(sop_class_uid=CR, sop_instance_uid=uid) for uid in uids or ("1.2.3.1",)),
        requested_at=at or utc_now(),
    )
    return box.put(json.dumps(to_plain(request)).encode())


def states(database: Database) -> list[tuple[str, int, str]]:
    with database.read() as connection:
        rows = connection.execute(sa.select(commitments).order_by(commitments.c.id)).all()
    return [(row.state, row.attempts, row.last_error) for row in rows]


def due_in_s(database: Database) -> int:
    with database.read() as connection:
        due_at = connection.execute(sa.select(commitments.c.due_at)).scalar_one()
    seconds: float = (due_at - utc_now()).total_seconds()
    return round(seconds)


def change(database: Database, **values: object) -> None:
    with database.write() as connection:
        connection.execute(sa.update(commitments).values(**values))


def keep(
    database: Database,
    spool: Spool,
    number: int = 1,
    *,
    clinic: str = "st-mary",
    rows: int = 64,
    pixels: int | None = None,
) -> str:
    """An instance through the indexer's hands; its SOP Instance UID."""
    dataset = radiograph(number)
    dataset.Rows = rows
    if pixels is not None:
        dataset.PixelData = bytes(pixels)
    key = spooled(spool, dataset, how=provenance(clinic=clinic), study=f"{clinic}/{number}")
    record_instances(database, spool, [read_back(spool, key)])
    return str(dataset.SOPInstanceUID)


def test_a_request_is_recorded_once_though_its_file_is_found_again(database: Database, box: RequestBox) -> None:
    key = asked(box)
    content = box.read(key) or b""
    assert record_commitments(database, box) == 1
    (box.root / f"{key}.json").write_bytes(content)  # the worker died before it removed the file
    assert record_commitments(database, box) == 1
    assert (states(database), box.waiting()) == ([("waiting", 0, "")], [])


def test_the_request_of_a_clinic_without_a_row_waits_for_it(sqlite: Database, box: RequestBox) -> None:
    key = asked(box, clinic="new")
    assert record_commitments(sqlite, box) == 0
    assert (states(sqlite), box.waiting()) == ([], [key])


def test_an_instance_is_held_while_its_file_is_in_the_spool(database: Database, spool: Spool) -> None:
    uid = keep(database, spool)
    held = Holding(sop_class_uid=radiograph(1).SOPClassUID, is_in_spool=True, is_contested=False)
    assert holdings(database, spool, "st-mary", [uid, "1.2.3.404"]) == {uid: held}
    assert holdings(database, spool, "mercy", [uid]) == {}
    with database.read() as connection:
        spool.remove(connection.execute(sa.select(instances.c.spool_key)).scalar_one())
    assert not holdings(database, spool, "st-mary", [uid])[uid].is_in_spool


def cut_to_nothing(path: Path, other: Path) -> None:
    os.truncate(path, 0)


def cut(path: Path, other: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def lengthen(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes() + b"?" * 100)


def put_another_in_its_place(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def flip_a_bit(path: Path, other: Path) -> None:
    """In its first block."""
    content = bytearray(path.read_bytes())
    content[BLOCK_BYTES // 2] ^= 1
    path.write_bytes(content)


def exchange_two_blocks(path: Path, other: Path) -> None:
    content = path.read_bytes()
    first, second, rest = content[:BLOCK_BYTES], content[BLOCK_BYTES : 2 * BLOCK_BYTES], content[2 * BLOCK_BYTES :]
    path.write_bytes(second + first + rest)


def without_its_key(path: Path, other: Path) -> None:
    for key in path.parents[1].joinpath("keys").rglob("*.key"):
        key.unlink()


KEYS = (MasterKey(secret=b"m" * 32),)
DAMAGES = [
    *((is_sealed, damage) for is_sealed in (False, True) for damage in (cut_to_nothing, cut, lengthen)),
    *((is_sealed, put_another_in_its_place) for is_sealed in (False, True)),
    *((True, damage) for damage in (flip_a_bit, exchange_two_blocks, without_its_key)),
]


@pytest.mark.parametrize(("is_sealed", "damage"), DAMAGES)
def test_a_file_that_is_not_what_came_is_damaged_and_the_log_says_so(
    sqlite: Database, tmp_path: Path, is_sealed: bool, damage: Callable[[Path, Path], None]
) -> None:
    """Whoever is told that it is kept may delete the only other copy."""
    spool = Spool(tmp_path, keys=StudyKeys(tmp_path, KEYS) if is_sealed else None)
    uids = [keep(sqlite, spool, number, pixels=200_000) for number in (1, 2)]
    with sqlite.read() as connection:
        paths = {row.sop_instance_uid: spool.path(row.spool_key) for row in connection.execute(sa.select(instances))}
    assert not any(one.is_damaged for one in holdings(sqlite, spool, "st-mary", uids).values())
    damage(paths[uids[0]], paths[uids[1]])
    if spool.keys is not None:
        spool = Spool(tmp_path, keys=StudyKeys(tmp_path, KEYS))  # another process, which has no key in memory
    with capture_logs() as log:
        found = holdings(sqlite, spool, "st-mary", uids)[uids[0]]
    assert (found.is_in_spool, found.is_damaged) == (True, True)
    assert ("error", "spool_file_unreadable") in [(line["log_level"], line["event"]) for line in log]
    assert (
        failure_reason(Reference(sop_class_uid=found.sop_class_uid, sop_instance_uid=uids[0]), found, RULES) == 0x0110
    )


def test_where_the_digest_of_an_instance_is_known_it_is_compared(sqlite: Database, spool: Spool) -> None:
    uid = keep(sqlite, spool)
    with sqlite.write() as connection:
        key = connection.scalars(sa.select(instances.c.spool_key)).one()
        connection.execute(sa.update(instances).values(content_sha256=content_sha256(spool, key)))
    assert not holdings(sqlite, spool, "st-mary", [uid])[uid].is_damaged
    content = spool.path(key).read_bytes()
    spool.path(key).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert holdings(sqlite, spool, "st-mary", [uid])[uid].is_damaged


def test_an_instance_whose_pixels_were_removed_is_not_held(sqlite: Database, spool: Spool) -> None:
    uid = keep(sqlite, spool)
    with sqlite.write() as connection:
        connection.execute(sa.update(instances).values(removed_at=utc_now()))
    assert not holdings(sqlite, spool, "st-mary", [uid])[uid].is_in_spool


def test_an_instance_that_came_with_two_contents_is_contested(database: Database, spool: Spool) -> None:
    uid = keep(database, spool)
    keep(database, spool, rows=65)
    assert holdings(database, spool, "st-mary", [uid])[uid].is_contested


def test_an_instance_under_whose_uid_something_unreadable_lies_aside_is_contested(
    database: Database, spool: Spool
) -> None:
    uid = keep(database, spool)
    other = radiograph(1)
    other.StudyInstanceUID, other.Rows = "none", 65
    aside = read_back(spool, spooled(spool, other))
    assert [one.verdict for one in record_instances(database, spool, [aside])] == ["unreadable"]
    assert holdings(database, spool, "st-mary", [uid])[uid].is_contested


def test_ten_thousand_instances_are_looked_up(sqlite: Database, spool: Spool) -> None:
    uid = keep(sqlite, spool)
    assert list(holdings(sqlite, spool, "st-mary", [*(f"1.2.3.{n}" for n in range(9999)), uid])) == [uid]


def test_a_report_is_due_as_soon_as_every_instance_is_known(database: Database, spool: Spool, box: RequestBox) -> None:
    one, two = (str(radiograph(number).SOPInstanceUID) for number in (1, 2))
    asked(box, one, two)
    record_commitments(database, box)
    keep(database, spool, 1)
    assert (end_waiting(database), take_due(database, for_s=60.0)) == (0, [])
    keep(database, spool, 2)
    assert end_waiting(database) == 1
    assert [due.attempts for due in take_due(database, for_s=60.0)] == [1]


@pytest.mark.usefixtures("standing_clock")
def test_the_indexer_is_waited_for_and_not_for_ever(sqlite: Database, spool: Spool, box: RequestBox) -> None:
    asked(box, "1.2.3.404")
    record_commitments(sqlite, box)
    assert due_in_s(sqlite) == 30
    assert end_waiting(sqlite) == 0
    change(sqlite, due_at=utc_now())
    assert end_waiting(sqlite) == 1


@pytest.mark.usefixtures("standing_clock")
def test_a_request_from_before_an_outage_waits_for_the_sweep_after_it(sqlite: Database, box: RequestBox) -> None:
    asked(box, at=utc_now() - timedelta(days=3))
    record_commitments(sqlite, box)
    assert due_in_s(sqlite) == 30


@pytest.mark.usefixtures("standing_clock")
def test_nothing_is_judged_before_a_re_send_of_a_moment_ago_is_compared(
    sqlite: Database, spool: Spool, box: RequestBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.requests.commitments, "SETTLES_WITHIN_S", 2.0)
    asked(box, keep(sqlite, spool))
    record_commitments(sqlite, box)
    assert end_waiting(sqlite) == 0
    change(sqlite, requested_at=utc_now() - timedelta(seconds=2))
    assert end_waiting(sqlite) == 0, "it was asked for during an outage, and has its row since a moment ago"
    change(sqlite, due_at=utc_now() + timedelta(seconds=28))
    assert end_waiting(sqlite) == 1


def test_a_report_that_is_due_is_taken_by_one_worker(database: Database, box: RequestBox) -> None:
    for number in range(5):
        asked(box, transaction_uid=f"2.25.{number}")
    record_commitments(database, box)
    change(database, state="pending", due_at=utc_now())
    taken: list[str] = []

    def take() -> None:
        taken.extend(due.request.transaction_uid for due in take_due(database, for_s=60.0))

    workers = [threading.Thread(target=take) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert sorted(taken) == [f"2.25.{number}" for number in range(5)]


def test_what_a_dead_worker_had_taken_is_due_again(sqlite: Database, box: RequestBox) -> None:
    asked(box)
    record_commitments(sqlite, box)
    change(sqlite, state="pending", due_at=utc_now())
    (first,) = take_due(sqlite, for_s=0.0)
    (second,) = take_due(sqlite, for_s=60.0)
    assert (first.attempts, second.attempts) == (1, 2)
    assert take_due(sqlite, for_s=60.0) == []


def test_a_report_that_arrived_is_done(database: Database, box: RequestBox) -> None:
    asked(box)
    record_commitments(database, box)
    change(database, state="pending", due_at=utc_now())
    (due,) = take_due(database, for_s=60.0)
    assert record_report(database, due, ANSWERED, RULES) == "reported"
    assert record_report(database, due, "too late", RULES) == "pending"  # another worker's attempt was slower
    assert states(database) == [("reported", 1, "")]
    with database.read() as connection:
        assert connection.execute(sa.select(commitments.c.ended_at)).scalar_one() is not None


# The same request again


def report(database: Database, error: str = ANSWERED) -> None:
    change(database, state="pending", due_at=utc_now())
    (due,) = take_due(database, for_s=60.0)
    record_report(database, due, error, RULES)


def test_who_asks_again_before_the_report_is_out_gets_one(database: Database, spool: Spool, box: RequestBox) -> None:
    asked(box, keep(database, spool))
    asked(box, keep(database, spool))
    record_commitments(database, box)
    assert states(database) == [("waiting", 0, "")]
    assert end_waiting(database) == 1
    asked(box, keep(database, spool))
    record_commitments(database, box)
    assert end_waiting(database) == 1
    report(database)
    assert states(database) == [("reported", 1, "")]


@pytest.mark.parametrize("error", [ANSWERED, "away"])
def test_who_asks_again_after_the_end_is_answered_anew(database: Database, box: RequestBox, error: str) -> None:
    asked(box, at=utc_now() - timedelta(hours=2))
    record_commitments(database, box)
    report(database, error)
    asked(box)
    record_commitments(database, box)
    with database.read() as connection:
        row = connection.execute(sa.select(commitments)).one()
    assert (row.state, row.attempts, row.last_error, row.ended_at) == ("waiting", 0, "", None)


@pytest.mark.usefixtures("standing_clock")
def test_who_asks_every_few_seconds_is_answered_all_the_same(sqlite: Database, spool: Spool, box: RequestBox) -> None:
    asked(box, "1.2.3.404")
    record_commitments(sqlite, box)
    change(sqlite, due_at=utc_now() + timedelta(seconds=5))
    asked(box, "1.2.3.404")
    record_commitments(sqlite, box)
    assert due_in_s(sqlite) == 5


def test_an_older_copy_of_a_request_changes_nothing(database: Database, box: RequestBox) -> None:
    content = box.read(asked(box)) or b""
    record_commitments(database, box)
    report(database)
    box.put(content)
    record_commitments(database, box)
    assert states(database) == [("reported", 1, "")]


def test_a_report_that_was_under_way_when_the_caller_asked_again_does_not_answer_that(
    database: Database, box: RequestBox
) -> None:
    asked(box)
    record_commitments(database, box)
    change(database, state="pending", due_at=utc_now())
    (under_way,) = take_due(database, for_s=60.0)
    asked(box)
    record_commitments(database, box)
    record_report(database, under_way, ANSWERED, RULES)
    assert states(database) == [("waiting", 0, "")]
    report(database)
    assert states(database) == [("reported", 1, "")]


def test_the_report_goes_to_where_was_asked_from_last(sqlite: Database, box: RequestBox) -> None:
    asked(box)
    asked(box, address="192.0.2.11")
    record_commitments(sqlite, box)
    change(sqlite, state="pending", due_at=utc_now())
    assert [due.request.peer_address for due in take_due(sqlite, for_s=60.0)] == ["192.0.2.11"]


def test_how_long_ago_a_study_was_delivered_counts_from_its_last_generation(database: Database, spool: Spool) -> None:
    uid = keep(database, spool)
    assert holdings(database, spool, "st-mary", [uid])[uid].delivered_days == 0.0
    ten_days_ago = utc_now() - timedelta(days=10)
    with database.write() as connection:
        connection.execute(sa.update(studies).values(state="done", finished_at=ten_days_ago))
    assert holdings(database, spool, "st-mary", [uid])[uid].delivered_days == pytest.approx(10.0, abs=0.01)
    with database.write() as connection:
        first = dict(connection.execute(sa.select(studies)).mappings().one())
        second = first | {"id": None, "generation": 2, "finished_at": utc_now() - timedelta(days=1)}
        del second["id"]
        connection.execute(sa.insert(studies).values(**second))
    assert holdings(database, spool, "st-mary", [uid])[uid].delivered_days == pytest.approx(1.0, abs=0.01)
    with database.write() as connection:
        connection.execute(sa.update(studies).where(studies.c.generation == 2).values(state="queued"))
    assert holdings(database, spool, "st-mary", [uid])[uid].delivered_days == 0.0


def test_requests_are_counted_by_clinic_and_state(sqlite: Database, box: RequestBox) -> None:
    asked(box)
    asked(box, clinic="mercy")
    record_commitments(sqlite, box)
    counts = read_counts(sqlite, clinics=None).commitments
    assert [(count.labels, count.value) for count in counts] == [
        (("mercy", "waiting"), 1.0),
        (("st-mary", "waiting"), 1.0),
    ]


@pytest.mark.usefixtures("standing_clock")
def test_a_report_that_did_not_arrive_is_tried_later_and_later_until_it_is_given_up(
    database: Database, box: RequestBox
) -> None:
    asked(box)
    record_commitments(database, box)
    change(database, state="pending", due_at=utc_now())
    for delay_s in (10, 20, 40):
        (due,) = take_due(database, for_s=60.0)
        assert record_report(database, due, "away", RULES) == "pending"
        assert due_in_s(database) == delay_s
        change(database, due_at=utc_now())
    change(database, requested_at=utc_now() - timedelta(hours=1))
    (due,) = take_due(database, for_s=60.0)
    assert record_report(database, due, "away", RULES) == "given_up"
    assert states(database) == [("given_up", 4, "away")]
    assert take_due(database, for_s=60.0) == []
