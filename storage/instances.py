"""Files that must not be lost: received instances in the spool, result objects beside them.

    spool/incoming/<pid>-<key>   being received; nobody reads it
    spool/<xx>/<key>.dcm         durable: written, synced, renamed, directory synced. Only then is 0x0000 answered
    results/<xx>/<uid>.dcm       objects that the node made

The spool is the node's write-ahead log: a row in the database follows each file, and a sweep finds files without one.
File names are the node's own random keys, never anything that a peer sent.
"""

import os
import re
import secrets
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

INCOMING_NAME = re.compile(r"(?P<process_id>\d{1,9})-[0-9a-f]{32}")
SHARDS = tuple(f"{number:02x}" for number in range(256))


class IncomingFile:
    """One instance while it is being received. Nothing shows under its final name before `commit`."""

    def __init__(self, spool: "Spool") -> None:
        self._spool = spool
        self.key = secrets.token_hex(16)
        self._path = spool.incoming / f"{os.getpid()}-{self.key}"
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)

    def write(self, content: bytes | bytearray | memoryview) -> None:
        """Append; a short write (the disk is nearly full) goes on from where it stopped, or raises OSError."""
        view = memoryview(content)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def commit(self) -> str:
        """Make the file durable under its key, which is returned: sync, rename, sync the directory, in this order."""
        os.fdatasync(self._descriptor)
        self._close()
        final = self._spool.path(self.key)
        os.rename(self._path, final)
        _sync_directory(final.parent)
        return self.key

    def discard(self) -> None:
        """Leave nothing behind; harmless after a commit."""
        self._close()
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Spool:
    """The folder of received instances."""

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir / "spool"
        self.incoming = self.root / "incoming"
        _make_directories(self.root, self.incoming)

    def receive(self) -> IncomingFile:
        return IncomingFile(self)

    def path(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}.dcm"

    def remove(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def stored_keys(self) -> Iterator[str]:
        """The key of every durable instance."""
        for shard in SHARDS:
            for path in (self.root / shard).glob("*.dcm"):
                yield path.stem

    def remove_leftovers(self) -> int:
        """Remove what receivers that are no longer alive had begun to write, and return how many files that were."""
        leftovers = [
            path
            for path in self.incoming.iterdir()
            if (begun := INCOMING_NAME.fullmatch(path.name)) and _is_over(int(begun["process_id"]))
        ]
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)


class ResultFolder:
    """The folder of result objects, by their SOP Instance UID, which is the node's own."""

    def __init__(self, data_dir: Path) -> None:
        self.root = data_dir / "results"
        _make_directories(self.root)

    def path(self, sop_instance_uid: str) -> Path:
        return self.root / sha256(sop_instance_uid.encode()).hexdigest()[:2] / f"{sop_instance_uid}.dcm"

    def put(self, sop_instance_uid: str, content: bytes) -> Path:
        """Keep one object durably. The same UID always has the same bytes, so writing it again changes nothing."""
        final = self.path(sop_instance_uid)
        temporary = final.with_name(f".{secrets.token_hex(8)}")
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fdatasync(file.fileno())
        os.rename(temporary, final)
        _sync_directory(final.parent)
        return final


def _make_directories(root: Path, *more: Path) -> None:
    for directory in (root, *more, *(root / shard for shard in SHARDS)):
        directory.mkdir(parents=True, exist_ok=True)
    _sync_directory(root)


def _sync_directory(directory: Path) -> None:
    """A rename is durable only when its directory is (POSIX; ext4 happens to do more)."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_over(process_id: int) -> bool:
    """Whether the receiver of this process id is gone. Our own id, before we received anything, is an earlier one's:
    a container that is started again gives its first process the same id.
    """
    if process_id == os.getpid():
        return True
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
