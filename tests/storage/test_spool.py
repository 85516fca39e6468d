"""The spool keeps what was acknowledged, and nothing else."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.instances import ResultFolder, Spool
from tests.conftest import ROOT
from tests.factories.arrivals import files_in

UNUSED_PROCESS_ID = 2**22 + 1  # above the largest that Linux gives (PID_MAX_LIMIT)
KEY = "0123456789abcdef" * 2
SHARD = KEY[:2]


def test_an_instance_is_synced_before_it_is_renamed_and_its_folder_after(
    require_program: Callable[[str], str], tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    calls = "trace=fdatasync,fsync,rename,renameat,renameat2"
    command = [require_program("strace"), "-f", "-y", "-o", str(trace), "-e", calls]
    command += [sys.executable, "-m", "tests.storage.receive_one", str(tmp_path / "data")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    if "ptrace" in done.stderr:
        pytest.skip("this machine does not let a process be traced")
    key = done.stdout
    folder = tmp_path / "data" / "spool" / key[:2]
    seen = [line for line in trace.read_text(encoding="utf-8").splitlines() if key in line or f"<{folder}>" in line]
    assert [re.sub(r"^\d+ +(\w+).*", r"\1", line) for line in seen[-3:]] == ["fdatasync", "rename", "fsync"]
    assert f"<{folder}>" in seen[-1]


def test_nothing_shows_under_its_final_name_before_the_commit(spool: Spool) -> None:
    file = spool.receive()
    file.write(b"half of it")
    assert list(spool.stored_keys()) == []
    assert [path.name for path in files_in(spool.root)] == [f"{file.key}.{os.getpid()}.part"]
    file.discard()


def test_a_committed_instance_lies_under_its_key_with_its_bytes(spool: Spool) -> None:
    file = spool.receive()
    file.write(b"first ")
    file.write(memoryview(b"second"))
    key = file.commit()
    assert re.fullmatch(r"[0-9a-f]{32}", key)
    assert list(spool.stored_keys()) == [key]
    assert files_in(spool.root) == [spool.root / key[:2] / f"{key}.dcm"]
    assert spool.path(key).read_bytes() == b"first second"


def test_a_discarded_instance_leaves_nothing(spool: Spool) -> None:
    file = spool.receive()
    file.write(b"cut short")
    file.discard()
    file.discard()
    assert files_in(spool.root) == []


def test_discarding_after_the_commit_keeps_the_instance(spool: Spool) -> None:
    file = spool.receive()
    key = file.commit()
    file.discard()
    assert spool.path(key).exists()


def test_a_short_write_goes_on_from_where_it_stopped(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, bytes(content)[:3]))
    file = spool.receive()
    file.write(b"0123456789")
    assert spool.path(file.commit()).read_bytes() == b"0123456789"


def test_what_a_dead_receiver_left_is_removed_and_what_a_living_one_writes_is_kept(spool: Spool) -> None:
    (spool.root / SHARD / f"{KEY}.{UNUSED_PROCESS_ID}.part").write_bytes(b"left behind")
    (spool.root / SHARD / f"{KEY}.{os.getppid()}.part").write_bytes(b"on its way")
    assert spool.remove_leftovers() == 1
    assert [path.name for path in spool.unfinished()] == [f"{KEY}.{os.getppid()}.part"]


def test_what_bears_this_process_id_at_the_start_is_an_earlier_ones(spool: Spool) -> None:
    (spool.root / SHARD / f"{KEY}.{os.getpid()}.part").write_bytes(b"left behind in a container")
    assert spool.remove_leftovers() == 1


def test_a_strangers_file_is_left_alone(spool: Spool) -> None:
    folder = spool.root / SHARD
    for name in (".nfs0000001", "lost+found", f"{KEY}.99999999999999999999.part", f"x{KEY}.1.part", f"{KEY}.part"):
        (folder / name).write_bytes(b"?")
    assert spool.remove_leftovers() == 0
    assert len(files_in(folder)) == 5


def test_a_folder_or_a_link_under_a_name_of_the_nodes_own_stops_neither_receiver_nor_strangers(tmp_path: Path) -> None:
    spool = Spool(tmp_path, strangers_maximum_bytes=10**9)
    folder, loop = spool.root / "ff" / f"{'f' * 32}.4194303.part", spool.root / "ff" / "loop.dcm"
    folder.mkdir()
    loop.symlink_to(loop)
    assert spool.remove_leftovers() == 0
    assert spool.has_room_for_strangers()


def test_an_instance_is_removed_once_and_twice(spool: Spool) -> None:
    key = spool.receive().commit()
    spool.remove(key)
    spool.remove(key)
    assert list(spool.stored_keys()) == []


def test_a_second_spool_in_the_same_folder_finds_what_the_first_has_stored(spool: Spool, tmp_path: Path) -> None:
    key = spool.receive().commit()
    assert list(Spool(tmp_path).stored_keys()) == [key]


@pytest.mark.parametrize(
    ("minimum_free_bytes", "minimum_free_share", "has_room"),
    [(0, 0.0, True), (1, 0.000001, True), (1 << 60, 0.0, False), (0, 1.0, False), (1 << 60, 0.000001, False)],
    ids=["no limit", "under neither", "too few bytes", "too small a share", "one is enough to refuse"],
)
def test_there_is_room_while_the_disk_is_under_neither_limit(
    tmp_path: Path, minimum_free_bytes: int, minimum_free_share: float, has_room: bool
) -> None:
    spool = Spool(tmp_path, minimum_free_bytes=minimum_free_bytes, minimum_free_share=minimum_free_share)
    assert spool.has_room() is has_room


class Clock:
    """In the place of the spool's: no time passes but by `sleep`."""

    def __init__(self) -> None:
        self._now_s = 100.0

    def monotonic(self) -> float:
        return self._now_s

    def sleep(self, seconds: float) -> None:
        self._now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("storage.instances.time", clock)
    return clock


def test_room_that_was_made_is_seen_within_half_a_second(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, real = Spool(tmp_path, minimum_free_bytes=1), os.statvfs(tmp_path)
    fields = list(real)
    fields[4] = 0  # f_bavail
    with monkeypatch.context() as full:
        full.setattr(os, "statvfs", lambda folder: os.statvfs_result(fields))
        assert not spool.has_room()
    assert not spool.has_room()
    clock.sleep(0.6)
    assert spool.has_room()


def test_a_result_that_a_crash_left_half_written_is_cleared_away_once_it_is_old(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path)
    results.put("2.25.7", b"result", study="st-mary/1.2.3")
    for name, age_s in (("old", 7200), ("new", 60)):
        half = results.root / "incoming" / name
        half.write_bytes(b"half")
        os.utime(half, (time.time() - age_s, time.time() - age_s))
    os.utime(results.path("2.25.7"), (1, 1))
    assert results.remove_leftovers() == 1
    assert {path.name for path in files_in(results.root)} == {"new", "2.25.7.dcm"}


def test_a_result_written_twice_is_there_once(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path)
    for _ in range(2):
        results.put("2.25.7", b"result", study="st-mary/1.2.3")
    assert files_in(results.root) == [results.path("2.25.7")]
    assert results.path("2.25.7").read_bytes() == b"result"


def test_what_strangers_send_lies_apart_and_is_limited_for_them_alone(tmp_path: Path, clock: Clock) -> None:
    spool = Spool(tmp_path, strangers_maximum_bytes=1000)
    keys = []
    for _ in range(2):
        assert spool.has_room_for_strangers()
        file = spool.receive(is_strangers=True)
        file.write(b"x" * 500)
        keys.append(file.commit())
        clock.sleep(0.6)  # longer than a count holds
    assert {key[:2] for key in keys} == {"ff"}
    assert not spool.has_room_for_strangers()
    assert spool.has_room()
    spool.remove(keys[0])
    clock.sleep(0.6)
    assert spool.has_room_for_strangers()


def test_nobody_elses_file_is_counted_for_strangers(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.instances.secrets.token_hex", lambda size: "ff" * size)
    assert spool.receive().commit() == "00" + "ff" * 15


def test_a_strangers_large_object_is_ended_when_it_has_filled_what_strangers_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.instances.ROOM_IS_KNOWN_FOR_S", 0.0)
    file = Spool(tmp_path, strangers_maximum_bytes=3 << 20).receive(is_strangers=True)
    for _ in range(2):
        file.write(bytes(1 << 20))
    with pytest.raises(OSError, match="unknown callers have sent as much as they may"):
        file.write(bytes(1 << 20))
    file.discard()


def test_strangers_may_leave_so_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.instances.MOST_OF_STRANGERS", 2)
    spool = Spool(tmp_path, strangers_maximum_bytes=1000)
    for _ in range(2):
        spool.receive(is_strangers=True).commit()
    assert not spool.has_room_for_strangers()
