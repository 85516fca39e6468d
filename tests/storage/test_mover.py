"""With a shared store the indexer is the mover: a row says that every machine can read the instance."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset

import storage.arrivals.indexer
from domain.errors import Away
from storage.arrivals.adoption import adopt
from storage.arrivals.indexer import Indexer
from storage.database import Database, utc_now
from storage.instances import Spool
from storage.intake import record_instances
from storage.retention import remove_delivered_pixels
from storage.shared.files import SharedFiles
from storage.shared.folder import SharedFolder
from storage.tables import instances, quarantine, studies
from tests.factories.arrivals import read_back, spooled
from tests.factories.databases import TIERS
from tests.factories.sources import radiograph
from tests.storage.following import following, keys_in, until

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.arrivals.indexer, "RETRY_S", 0.02)


class House:
    """One machine's spool, in front of a folder that stands for what all machines share."""

    def __init__(self, folder: Path, *, shares_before_commit: bool = False, machine: str = "machine") -> None:
        self.mount = folder / "mnt"
        self.mount.mkdir(exist_ok=True)
        self.spool = Spool(
            folder / machine,
            shared=SharedFiles(SharedFolder(self.mount), folder / machine / "cache"),
            shares_before_commit=shares_before_commit,
        )

    def shared(self) -> set[str]:
        return {key for key, _ in self.spool.shared_keys()}

    def local(self) -> set[str]:
        return set(self.spool.stored_keys())

    @contextmanager
    def away(self) -> Iterator[None]:
        """As when it is not mounted."""
        hidden = self.mount.with_name("hidden")
        self.mount.rename(hidden)
        yield
        hidden.rename(self.mount)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def changed(number: int) -> Dataset:
    """Other content under the same SOP Instance UID."""
    dataset = radiograph(number)
    dataset.StudyDescription = "other"
    return dataset


def test_what_has_a_row_is_in_the_store_and_no_longer_here(database: Database, house: House) -> None:
    with following(database, house.spool) as beside:
        keys = {spooled(house.spool, radiograph(number)) for number in (1, 2, 3)}
        for key in keys:
            beside.indexer.on_stored(key)
        until(lambda: keys_in(database, instances) == keys and not house.local())
    assert house.shared() == keys


def test_no_row_is_written_while_the_store_is_away_and_nothing_is_lost(sqlite: Database, house: House) -> None:
    with house.away(), following(sqlite, house.spool) as beside:
        first = spooled(house.spool, radiograph(1))
        beside.indexer.on_stored(first)
        until(lambda: beside.indexer._failures > 1)
        second = spooled(house.spool, radiograph(2))
        beside.indexer.on_stored(second)
        assert (keys_in(sqlite, instances), house.local()) == (set(), {first, second})
    with following(sqlite, house.spool):
        until(lambda: keys_in(sqlite, instances) == {first, second} and not house.local())
    assert house.shared() == {first, second}


def test_when_the_store_is_back_the_same_indexer_goes_on(sqlite: Database, house: House) -> None:
    with house.away():
        indexer = Indexer(sqlite, house.spool, tiers=TIERS)
        indexer.start()
        key = spooled(house.spool, radiograph(1))
        indexer.on_stored(key)
        until(lambda: indexer._failures > 1)
    until(lambda: keys_in(sqlite, instances) == {key} and not house.local())
    indexer.stop()


KILLED = """
import os, signal, sys
from pathlib import Path
import storage.arrivals.indexer
from storage.database import Database
from storage.arrivals.mover import Mover
from tests.factories.databases import TIERS
from tests.storage.test_mover import House

def die(*arguments, **more):
    os.kill(os.getpid(), signal.SIGKILL)

setattr({where}, {name!r}, die)
indexer = storage.arrivals.indexer.Indexer(Database(sys.argv[1]), House(Path(sys.argv[2])).spool, tiers=TIERS)
indexer.start()
signal.pause()
"""


@pytest.mark.parametrize(
    ("where", "name"),
    [("storage.arrivals.indexer", "record_instances"), ("Mover", "let_go")],
    ids=["between upload and row", "between row and letting go"],
)
def test_an_indexer_that_is_killed_leaves_nothing_that_the_next_does_not_finish(
    sqlite: Database, house: House, tmp_path: Path, where: str, name: str
) -> None:
    keys = {spooled(house.spool, radiograph(number)) for number in (1, 2, 3)}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED.format(where=where, name=name), sqlite.url, str(tmp_path)], cwd=ROOT, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL
    assert (house.shared(), house.local()) == (keys, keys)
    with following(sqlite, house.spool):
        until(lambda: keys_in(sqlite, instances) == keys and not house.local())
    assert house.shared() == keys


def test_a_re_send_to_another_machine_is_dropped_everywhere_and_a_conflict_is_kept_for_all(
    sqlite: Database, house: House, tmp_path: Path
) -> None:
    other = House(tmp_path, machine="other")
    with following(sqlite, house.spool):
        first = spooled(house.spool, radiograph(1))
    with following(sqlite, house.spool):
        until(lambda: keys_in(sqlite, instances) == {first})
    spooled(other.spool, radiograph(1))
    conflicting = spooled(other.spool, changed(1))
    with following(sqlite, other.spool):
        until(lambda: keys_in(sqlite, quarantine) == {conflicting} and not other.local())
    assert house.shared() == {first, conflicting}
    with house.spool.open(conflicting) as file:  # a person may look at it from any machine
        assert b"other" in file.read()


def test_a_re_send_is_recognised_without_fetching_what_came_first(
    sqlite: Database, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = spooled(house.spool, radiograph(1))
    with following(sqlite, house.spool):
        until(lambda: keys_in(sqlite, instances) == {first} and not house.local())
    monkeypatch.setattr(SharedFolder, "get", lambda *_: pytest.fail("it was fetched"))
    spooled(house.spool, radiograph(1))
    with following(sqlite, house.spool):
        until(lambda: not house.local())
    assert (keys_in(sqlite, instances), house.shared()) == ({first}, {first})


def test_a_re_send_of_what_the_store_has_lost_takes_its_place(database: Database, house: House) -> None:
    """Whoever is told that nothing is held sends it again, and may then delete his own."""
    with following(database, house.spool) as follower:
        first = spooled(house.spool, radiograph(1))
        follower.indexer.on_stored(first)
        until(lambda: keys_in(database, instances) == {first} and house.local() == set())
        assert house.spool.shared is not None
        house.spool.shared.remove(f"instances/{first[:2]}/{first}.dcm")
        again = spooled(house.spool, radiograph(1))
        follower.indexer.on_stored(again)
        until(lambda: keys_in(database, instances) == {again} and house.local() == set())
    assert follower.verdicts() == ["duplicate", "kept"]
    assert house.shared() == {again}


def test_what_strangers_have_in_the_store_counts_for_what_they_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From whichever machine it came: it is not in this one's spool any more, if it ever was."""
    monkeypatch.setattr("storage.instances.ROOM_IS_KNOWN_FOR_S", 0.0)
    monkeypatch.setattr("storage.instances.STORE_IS_KNOWN_FOR_S", 0.0)
    here, there = House(tmp_path, machine="here"), House(tmp_path, machine="there")
    spool = Spool(tmp_path / "here", shared=here.spool.shared, strangers_maximum_bytes=1000)
    keys = []
    for house in (here, there):
        assert spool.has_room_for_strangers()
        file = house.spool.receive(is_strangers=True)
        file.write(b"x" * 500)
        keys.append(file.commit())
        house.spool.share(keys[-1])
        house.spool.let_go(keys[-1])
    assert not spool.has_room_for_strangers()
    with here.away():
        assert not spool.has_room_for_strangers()
    spool.remove(keys[1])
    assert spool.has_room_for_strangers()


def test_an_own_result_that_came_back_is_not_even_uploaded(
    sqlite: Database, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SharedFolder, "put", lambda *_: pytest.fail("it was uploaded"))
    own = radiograph(1)
    own.Manufacturer, own.ManufacturerModelName = "Collimator project", "Collimator"
    spooled(house.spool, own)
    with following(sqlite, house.spool):
        until(lambda: not house.local())


def test_a_node_that_gets_a_shared_store_moves_what_it_has(sqlite: Database, house: House, tmp_path: Path) -> None:
    before = Spool(tmp_path / "machine")
    old = spooled(before, radiograph(1))
    record_instances(sqlite, before, [read_back(before, old)])
    with following(sqlite, house.spool):
        until(lambda: not house.local())
    assert (house.shared(), keys_in(sqlite, instances)) == ({old}, {old})


def test_an_instance_that_must_be_shared_first_is_there_when_it_is_acknowledged(
    sqlite: Database, tmp_path: Path
) -> None:
    house = House(tmp_path, shares_before_commit=True)
    key = spooled(house.spool, radiograph(1))
    assert (house.shared(), house.local()) == ({key}, {key})
    with following(sqlite, house.spool):
        until(lambda: keys_in(sqlite, instances) == {key} and not house.local())


def test_an_instance_that_must_be_shared_first_is_not_taken_while_the_store_is_away(tmp_path: Path) -> None:
    house = House(tmp_path, shares_before_commit=True)
    file = house.spool.receive()
    file.write(b"an instance")
    with house.away(), pytest.raises(Away):
        file.commit()
    file.discard()
    assert (house.shared(), house.local(), list(house.spool.unfinished())) == (set(), set(), [])


def test_what_a_machine_that_burned_had_shared_is_adopted_once(sqlite: Database, tmp_path: Path) -> None:
    burned = House(tmp_path, shares_before_commit=True, machine="burned")
    known, again, other = radiograph(1), radiograph(1), changed(1)
    first = spooled(burned.spool, known)
    time.sleep(0.02)  # the store tells their order by its clock
    spooled(burned.spool, again)
    time.sleep(0.02)
    conflicting = spooled(burned.spool, other)
    survivor = House(tmp_path, machine="survivor")
    assert adopt(sqlite, survivor.spool, older_than=timedelta(minutes=15)) == {}
    adopted = adopt(sqlite, survivor.spool, older_than=timedelta(0))
    assert adopted == {"kept": 1, "duplicate": 1, "conflicting": 1}
    assert (keys_in(sqlite, instances), keys_in(sqlite, quarantine)) == ({first}, {conflicting})
    assert survivor.shared() == {first, conflicting}
    assert adopt(sqlite, survivor.spool, older_than=timedelta(0)) == {}


def test_retention_removes_what_is_shared_and_adoption_what_it_could_not(
    sqlite: Database, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {spooled(house.spool, radiograph(number)) for number in (1, 2)}
    with following(sqlite, house.spool):
        until(lambda: keys_in(sqlite, instances) == keys and not house.local())
    with sqlite.write() as connection:
        long_ago = utc_now() - timedelta(days=2)
        connection.execute(sa.update(studies).values(state="done", completed_at=long_ago, finished_at=long_ago))
    with monkeypatch.context() as away:
        away.setattr(SharedFolder, "remove", raise_away)
        with pytest.raises(Away):
            remove_delivered_pixels(sqlite, house.spool, after=timedelta(days=1))
    remove_delivered_pixels(sqlite, house.spool, after=timedelta(days=1))
    assert len(house.shared()) == 1  # its row says that it is removed
    assert adopt(sqlite, house.spool, older_than=timedelta(0)) == {"duplicate": 1}
    assert house.shared() == set()


def raise_away(*_: object) -> None:
    raise Away("the shared store is not there")


def test_a_comparison_that_needs_the_store_waits_for_it(sqlite: Database, house: House, tmp_path: Path) -> None:
    """Only the rows of a node that had no shared store before have no digest."""
    before = Spool(tmp_path / "before")
    old = spooled(before, radiograph(1))
    record_instances(sqlite, before, [read_back(before, old)])
    again = spooled(house.spool, radiograph(1))
    stored = read_back(house.spool, again)
    with house.away(), pytest.raises(Away):
        record_instances(sqlite, house.spool, [stored])
    assert keys_in(sqlite, quarantine) == set()
