"""A request that was answered with success is on disk until it has its row."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

import storage.requests.files
from storage.database import Database
from storage.durable_files import LEFT_BEHIND_AFTER_S
from storage.requests.files import DAMAGED_KEPT_FOR_S, RequestBox


@pytest.fixture
def box(tmp_path: Path) -> RequestBox:
    return RequestBox(tmp_path, "commitments")


class Rows:
    """What was recorded, and what `record` says to it."""

    def __init__(self, *, answer: bool = True) -> None:
        self.recorded: list[str] = []
        self.answer = answer

    def record(self, _connection: sa.Connection, content: str) -> bool:
        self.recorded.append(content)
        return self.answer


def test_requests_are_brought_in_in_their_order_and_once(box: RequestBox, sqlite: Database) -> None:
    for content in (b'"one"', b'"two"', b'"three"'):
        box.put(content)
        time.sleep(0.02)  # file systems count time in ticks
    rows = Rows()
    assert [box.bring_in(sqlite, str, rows.record), box.bring_in(sqlite, str, rows.record)] == [3, 0]
    assert rows.recorded == ["one", "two", "three"]


def test_a_request_that_gets_no_row_stays(box: RequestBox, sqlite: Database) -> None:
    key = box.put(b'"one"')
    assert box.bring_in(sqlite, str, Rows(answer=False).record) == 0
    assert box.waiting() == [key]


def test_a_request_whose_follower_died_is_brought_in_by_the_next(box: RequestBox, sqlite: Database) -> None:
    box.put(b'"one"')

    def die(_connection: sa.Connection, _content: str) -> bool:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        box.bring_in(sqlite, str, die)
    rows = Rows()
    box.bring_in(sqlite, str, rows.record)
    assert rows.recorded == ["one"]


def test_a_damaged_request_is_set_aside_and_holds_up_no_other(box: RequestBox, sqlite: Database) -> None:
    damaged = box.put(b"\xff\xff")
    box.put(b'"good"')
    rows = Rows()
    assert box.bring_in(sqlite, str, rows.record) == 1
    assert rows.recorded == ["good"]
    assert sorted(path.name for path in box.root.iterdir()) == [f"{damaged}.damaged"]


def test_a_request_that_cannot_be_read_now_holds_up_no_other(box: RequestBox, sqlite: Database) -> None:
    """A folder stands for a file that the disk does not give."""
    (box.root / "first.json").mkdir()
    (box.root / "loop.json").symlink_to(box.root / "loop.json")
    box.put(b'"second"')
    rows = Rows()
    assert box.bring_in(sqlite, str, rows.record) == 1
    assert rows.recorded == ["second"]
    assert len(box.waiting()) == 2


def test_a_request_that_another_follower_took_is_none(box: RequestBox) -> None:
    key = box.put(b"one")
    box.remove(key)
    box.remove(key)
    box.set_aside(key)
    assert box.read(key) is None


def test_what_a_dead_process_had_begun_is_no_request_and_goes_after_an_hour(box: RequestBox) -> None:
    begun, fresh = box.root / ".0011", box.root / ".0022"
    for path in (begun, fresh):
        path.write_bytes(b"hal")
    long_ago = time.time() - LEFT_BEHIND_AFTER_S - 1
    os.utime(begun, (long_ago, long_ago))
    assert box.waiting() == []
    assert box.remove_leftovers() == 1
    assert list(box.root.iterdir()) == [fresh]


def test_a_damaged_request_goes_after_ninety_days(box: RequestBox) -> None:
    old, fresh = box.put(b"\xff"), box.put(b"\xff")
    for key in (old, fresh):
        box.set_aside(key)
    long_ago = time.time() - DAMAGED_KEPT_FOR_S - 1
    os.utime(box.root / f"{old}.damaged", (long_ago, long_ago))
    assert box.remove_leftovers() == 1
    assert [path.name for path in box.root.iterdir()] == [f"{fresh}.damaged"]


def test_too_many_waiting_requests_are_refused_and_leave_nothing(
    box: RequestBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.requests.files, "MOST_WAITING", 2)
    box.put(b"one")
    box.put(b"two")
    with pytest.raises(OSError, match="too many requests"):
        box.put(b"three")
    assert len(list(box.root.iterdir())) == 2


def test_a_request_is_synced_before_it_has_its_name_and_its_directory_after(
    box: RequestBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def noted(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(*arguments: object) -> object:
            done.append(name)
            return real(*arguments)

        return call

    for name in ("fdatasync", "rename", "fsync"):
        monkeypatch.setattr(os, name, noted(name))
    box.put(b"one")
    assert done == ["fdatasync", "rename", "fsync"]
