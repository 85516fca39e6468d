"""A full disk: senders are told to come again later, nothing is left half written, and space alone heals it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage.instances import Spool
from storage.tables import instances
from tests.conftest import skip_or_fail
from tests.factories import hostile
from tests.journeys.house import Node, wait_until

DISK_MB = 64
OUT_OF_RESOURCES = 0xA700
LARGE_BYTES = 4 << 20


class SmallDisk:
    """The node's data lie on a file system of their own, with something else in its way."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.spool = Spool(node.data_dir)
        self._ballast = node.data_dir / "ballast"
        self._sent = 0

    def free_bytes(self) -> int:
        disk = os.statvfs(self.node.data_dir)
        return disk.f_bavail * disk.f_frsize

    def fill(self, *, leave_bytes: int) -> None:
        with open(self._ballast, "wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, self.free_bytes() - leave_bytes)

    def empty(self) -> None:
        self._ballast.unlink()

    def store(self, *, pixels: int = 1_000) -> int:
        """Store one more instance; the Status."""
        self._sent += 1
        uid = f"2.25.{self._sent}"
        with hostile.Peer(self.node.receiver_port, timeout_s=30.0) as peer:
            return peer.associate().say(*hostile.store(uid, hostile.an_instance(uid, pixels=pixels))).status()

    def rows(self) -> int:
        with self.node.database.read() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(instances)) or 0

    def start(self, *, minimum_free_mb: int) -> None:
        command = [sys.executable, "-m", "cli", "receiver", "--config", str(self.node.config)]
        self.node.start_command(
            command,
            "receiver",
            COLLIMATOR_RECEIVER__MINIMUM_FREE_GB=str(minimum_free_mb / 1000),
            COLLIMATOR_RECEIVER__MINIMUM_FREE_PERCENT="0",
        )


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    node = Node(tmp_path, pacs_port=1)
    node.data_dir.mkdir(exist_ok=True)
    if os.geteuid():
        skip_or_fail("mounting a small file system needs root")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(node.data_dir)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        skip_or_fail(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    migrated = node.run("migrate")
    assert migrated.returncode == 0, migrated.stderr
    yield SmallDisk(node)
    node.stop()
    subprocess.run(["umount", str(node.data_dir)], check=True)


def test_below_the_watermark_senders_are_put_off_while_there_is_room_left_for_the_rest(disk: SmallDisk) -> None:
    disk.start(minimum_free_mb=20)
    assert disk.store() == 0x0000
    disk.fill(leave_bytes=15 << 20)
    wait_until(lambda: disk.store() == OUT_OF_RESOURCES, "the watermark is noticed", within_s=10.0)
    stored = len(list(disk.spool.stored_keys()))
    assert disk.store(pixels=LARGE_BYTES) == OUT_OF_RESOURCES
    assert len(list(disk.spool.stored_keys())) == stored
    assert list(disk.spool.unfinished()) == []
    assert disk.node.answers_echo()
    assert disk.free_bytes() > 10 << 20

    disk.empty()
    wait_until(lambda: disk.store() == 0x0000, "senders are served again", within_s=10.0)
    stored = len(list(disk.spool.stored_keys()))
    wait_until(lambda: disk.rows() == stored, "what was acknowledged has its rows")


def test_a_disk_that_runs_full_in_the_middle_of_an_object_takes_nothing_of_it(disk: SmallDisk) -> None:
    disk.start(minimum_free_mb=0)
    assert disk.store() == 0x0000
    wait_until(lambda: disk.rows() == 1, "the first has its row")
    disk.fill(leave_bytes=2 << 20)
    before = disk.free_bytes()
    for _ in range(5):
        assert disk.store(pixels=LARGE_BYTES) == OUT_OF_RESOURCES
    assert list(disk.spool.unfinished()) == []
    assert len(list(disk.spool.stored_keys())) == 1
    assert disk.free_bytes() > before - (1 << 20)
    assert disk.store() == 0x0000, "what fits is taken"

    disk.empty()
    assert disk.store(pixels=LARGE_BYTES) == 0x0000
    wait_until(lambda: disk.rows() == 3, "what was acknowledged has its rows")


def test_a_disk_without_a_byte_left_takes_nothing_and_heals_when_there_is_space(disk: SmallDisk) -> None:
    """The embedded database is on the same disk: what it could not take is brought in afterwards."""
    disk.start(minimum_free_mb=0)
    assert disk.store() == 0x0000
    wait_until(lambda: disk.rows() == 1, "the first has its row")
    disk.fill(leave_bytes=100_000)
    acknowledged = 1
    while disk.store(pixels=20_000) == 0x0000:
        acknowledged += 1
    assert acknowledged < 10
    assert disk.store(pixels=LARGE_BYTES) == OUT_OF_RESOURCES
    assert disk.node.answers_echo()
    assert list(disk.spool.unfinished()) == []
    assert len(list(disk.spool.stored_keys())) == acknowledged

    disk.empty()
    assert disk.store() == 0x0000
    wait_until(lambda: disk.rows() == acknowledged + 1, "every acknowledged instance has its row")
