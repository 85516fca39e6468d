"""Kills the receiver again and again while four senders store, and then asks for everything that it acknowledged.

    python -m tests.kill_loop --kills 1000

The processes are those of `collimator receiver`; only the pause before a listener is started again is left out, which
would otherwise grow with each kill.
"""

import argparse
import itertools
import os
import random
import signal
import struct
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import sqlalchemy as sa

from storage.file_meta import read_file_meta
from storage.instances import Spool
from storage.tables import instances
from tests.factories.hostile import P_DATA, Peer, an_instance, elements, store, uid_value
from tests.journeys.house import Node, Process, wait_until

SENDERS = 4
TEMPLATE_UID = "2.25.10000000000000000000"
ROLE = "import cli.children as c, cli.__main__ as m; c.RESTART_DELAYS_S = (0.0,); raise SystemExit(m.main())"
LATEST_S = 0.25  # after the first acknowledgement of a listener; the moment in between is drawn by chance
WHOLE_ROLE_EVERY = 25  # kills; in between only a listener dies, and its parent forks another


@dataclass
class Outcome:
    """`acknowledged`: SHA-256 of each data set that was answered 0x0000, by SOP Instance UID."""

    kills: int = 0
    acknowledged: dict[str, str] = field(default_factory=dict)
    sent: set[str] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)
    without_row: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    half_written: list[str] = field(default_factory=list)

    def is_clean(self) -> bool:
        return not (self.lost or self.without_row or self.foreign or self.half_written)


class Sender(threading.Thread):
    """Stores one instance after the other, from 10 to 600 kB, and connects again whenever it is cut off."""

    def __init__(self, number: int, port: int, outcome: Outcome, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._port, self._outcome, self._halt = port, outcome, stop
        self._uids = (f"2.25.1{number}{serial:018}" for serial in itertools.count())
        self._templates = [an_instance(TEMPLATE_UID, pixels=size) for size in (10_000, 64_000, 600_000)]

    def run(self) -> None:
        while not self._halt.is_set():
            try:
                with Peer(self._port, timeout_s=5.0) as peer:
                    peer.associate()
                    while not self._halt.is_set():
                        self._store_one(peer)
            except (OSError, AssertionError, struct.error):
                time.sleep(0.005)

    def _store_one(self, peer: Peer) -> None:
        uid = next(self._uids)
        data_set = random.choice(self._templates).replace(uid_value(TEMPLATE_UID), uid_value(uid))
        data_set = data_set[:-16] + os.urandom(16)
        digest = sha256(data_set).hexdigest()
        self._outcome.sent.add(digest)
        kind, content = peer.say(*store(uid, data_set)).hear()
        if kind != P_DATA:
            raise ConnectionError
        if elements(content[6:])[0x0900] == b"\0\0":
            self._outcome.acknowledged[uid] = digest


def kill_loop(folder: Path, kills: int) -> Outcome:
    """Run it in `folder`, which is empty."""
    node, outcome, stop = Node(folder, pacs_port=1), Outcome(), threading.Event()
    role = start(node)
    senders = [Sender(number, node.receiver_port, outcome, stop) for number in range(SENDERS)]
    for sender in senders:
        sender.start()
    try:
        while outcome.kills < kills:
            wait_for_one_more(outcome)
            time.sleep(random.uniform(0.0, LATEST_S))
            if outcome.kills % WHOLE_ROLE_EVERY == WHOLE_ROLE_EVERY - 1:
                role.stop(signal.SIGKILL)
                role = start(node)
                outcome.kills += 1
            elif (listener := child_of(role.process.pid, "listener")) is not None:
                os.kill(listener, signal.SIGKILL)
                outcome.kills += 1
    finally:
        stop.set()
        for sender in senders:
            sender.join()
        role.stop()
    look_for_all(node, outcome)
    node.stop()
    return outcome


def wait_for_one_more(outcome: Outcome) -> None:
    """A listener that is killed before it has taken anything would show nothing."""
    before = len(outcome.acknowledged)
    wait_until(lambda: len(outcome.acknowledged) > before, "the listener that was started again takes an instance")


def start(node: Node) -> Process:
    command = [sys.executable, "-c", ROLE, "receiver", "--config", str(node.config)]
    return node.start_command(command, "receiver")


def child_of(parent: int, name: str) -> int | None:
    """The process id of the parent's child of this name, if it lives."""
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        try:
            if Path(f"/proc/{child}/comm").read_text().startswith(name):
                return int(child)
        except OSError:
            continue
    return None


def look_for_all(node: Node, outcome: Outcome) -> None:
    """Start once more, as after the last power failure, and compare the spool and the database with what was said."""
    role = start(node)
    spool = Spool(node.data_dir)

    def rows() -> set[str]:
        with node.database.read() as connection:
            return set(connection.scalars(sa.select(instances.c.sop_instance_uid)))

    wait_until(lambda: outcome.acknowledged.keys() <= rows(), "every acknowledged instance has its row", within_s=120)
    role.stop()
    stored = dict(read(spool, key) for key in spool.stored_keys())
    outcome.lost = [uid for uid, digest in outcome.acknowledged.items() if stored.get(uid) != digest]
    outcome.without_row = sorted(outcome.acknowledged.keys() - rows())
    outcome.foreign = [uid for uid, digest in stored.items() if digest not in outcome.sent]
    outcome.half_written = [path.name for path in spool.unfinished()]


def read(spool: Spool, key: str) -> tuple[str, str]:
    with spool.open(key) as file:
        return read_file_meta(file).sop_instance_uid, sha256(file.read()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    kills = parser.parse_args().kills
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcome = kill_loop(Path(folder), kills)
    print(
        f"{outcome.kills} kills in {time.monotonic() - began:.0f} s: {len(outcome.acknowledged)} acknowledged, "
        f"{len(outcome.lost)} lost, {len(outcome.without_row)} without a row, {len(outcome.foreign)} damaged, "
        f"{len(outcome.half_written)} half written"
    )
    return 0 if outcome.is_clean() else 1


if __name__ == "__main__":
    sys.exit(main())
