"""Files that must not be lost: received instances in the spool, result objects beside them.

    spool/<xx>/<key>.<pid>.part   being received; nobody reads it
    spool/<xx>/<key>.dcm          durable: written, synced, renamed, directory synced. Only then is 0x0000 answered
    spool/keys/                   with encryption at rest, the studies' wrapped keys (study_keys.py)
    results/incoming/             objects being written
    results/<xx>/<uid>.dcm        objects that the node made

What callers send whom nobody knows lies in spool/ff, or in that folder of the shared store, and nothing else does: so
it is known how much that is, on all machines together.

An instance is received in the folder that it stays in: in one folder for all that are coming, associations would wait
for each other, and a rename from one folder to another locks the whole file system for a moment.

The spool is the node's write-ahead log: a row in the database follows each file, and a sweep finds files without one.
With a shared store (shared.py) a file is on its way here: it moves to the store before its row is written, and what has
a row is read from there by every machine. Results go to the store at once.

File names are the node's own random keys, never anything that a peer sent.
"""

import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from hashlib import sha256
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from domain.errors import Away
from storage.durable_files import SHARDS, make_directories, remove_left_behind, sync_directory, write_synced
from storage.sealed import Seal, lent_descriptor, sealed_with, unsealed
from storage.shared.files import SharedFiles
from storage.study_keys import KeyNotThere, StudyKeys

KEY = re.compile(r"[0-9a-f]{32}")
UNFINISHED_NAME = re.compile(r"[0-9a-f]{32}\.(?P<process_id>\d{1,9})\.part")
MOST_FRAGMENTS = 512  # of one writev(2); the system takes 1024
WRITE_BACK_BYTES = 1 << 20
ROOM_IS_KNOWN_FOR_S = 0.5
STORE_IS_KNOWN_FOR_S = 5.0
OF_STRANGERS = "ff"
MOST_OF_STRANGERS = 20_000  # files; they are counted while strangers send, and so many take some 50 ms
INSTANCES, RESULTS = "instances", "results"  # folders of the shared store


class IncomingFile:
    """One instance while it is being received. Nothing shows under its final name before `commit`."""

    def __init__(self, spool: "Spool", study: str, *, is_strangers: bool = False) -> None:
        self._spool = spool
        self._is_strangers = is_strangers
        self.key = _new_key(is_strangers=is_strangers)
        self._seal = None if spool.keys is None else Seal(spool.keys, study, self.key)
        self._folder = f"{spool.root}/{self.key[:2]}"
        self._path = f"{self._folder}/{self.key}.{os.getpid()}.part"
        self._size = self._written_back = 0
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)

    def write(self, *fragments: bytes | bytearray | memoryview) -> None:
        """Append; what is given may be overwritten as soon as this returns.

        Raises:
            OSError: the disk is full.
        """
        if self._seal is None:
            self._append(*fragments)
        else:
            for sealed in self._seal.update(*fragments):
                self._append(sealed)

    def _append(self, *fragments: bytes | bytearray | memoryview) -> None:
        """A short write (the disk is nearly full) goes on from where it stopped, or raises OSError."""
        for start in range(0, len(fragments), MOST_FRAGMENTS):
            some = fragments[start : start + MOST_FRAGMENTS]
            missing = sum(map(len, some)) - os.writev(self._descriptor, some)
            if missing:
                view = memoryview(b"".join(some))[-missing:]
                while view:
                    view = view[os.write(self._descriptor, view) :]
            self._start_writing_back(sum(map(len, some)))

    def _start_writing_back(self, added: int) -> None:
        """Let the disk begin while the peer still sends (posix_fadvise(2) starts it), so that the sync at the end of
        a large object waits for its last piece only.
        """
        self._size += added
        if self._size - self._written_back >= WRITE_BACK_BYTES:
            os.posix_fadvise(
                self._descriptor, self._written_back, self._size - self._written_back, os.POSIX_FADV_DONTNEED
            )
            self._written_back = self._size
            if self._is_strangers and not self._spool.has_room_for_strangers():
                raise OSError(errno.EDQUOT, "unknown callers have sent as much as they may")

    def commit(self) -> str:
        """Make the file durable under its key, which is returned: sync, rename, sync the directory, in this order.

        Raises:
            Away: it has to be in the shared store, too, and the store is not there.
            OSError: the disk is broken, or its study was erased meanwhile.
        """
        if self._seal is not None:
            self._append(self._seal.finish())
        os.fdatasync(self._descriptor)
        self._close()
        if self._spool.shares_before_commit:
            self._spool.share(self.key, Path(self._path))
        os.rename(self._path, f"{self._folder}/{self.key}.dcm")
        sync_directory(self._folder)
        if self._seal is not None and not self._seal.still_holds():
            self._spool.path(self.key).unlink(missing_ok=True)
            raise KeyNotThere(errno.ENOKEY, "the study was erased while this came", self.key)
        return self.key

    def discard(self) -> None:
        """Leave nothing behind; harmless after a commit."""
        self._close()
        with suppress(FileNotFoundError):
            os.unlink(self._path)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Spool:
    """The folder of received instances."""

    def __init__(
        self,
        data_dir: Path,
        *,
        minimum_free_bytes: int = 0,
        minimum_free_share: float = 0.0,
        keys: StudyKeys | None = None,
        shared: SharedFiles | None = None,
        shares_before_commit: bool = False,
        strangers_maximum_bytes: int | None = None,
    ) -> None:
        """`minimum_free_share`: of the whole disk, from 0 to 1. Under either there is no room.

        strangers_maximum_bytes: what callers whom nobody knows may fill; None: all that the others may.
        keys: what is received from now on is sealed; without them it lies on the disk as it came.
        shared: where instances are once they have a row, for all machines.
        shares_before_commit: an instance is there before it is acknowledged, not only before it has a row.
        """
        self.keys = keys
        self.shared = shared
        self.shares_before_commit = shares_before_commit and shared is not None
        self.root = data_dir / "spool"
        self._minimum_free_bytes = minimum_free_bytes
        self._minimum_free_share = minimum_free_share
        self._has_room, self._look_again_at = True, 0.0
        self._strangers_maximum_bytes = strangers_maximum_bytes
        self._strangers_have_room, self._count_again_at = True, 0.0
        self._strangers_shared, self._list_again_at = (0, 0), 0.0
        make_directories(self.root)

    def has_room(self) -> bool:
        """Whether the disk has more free space than it must keep. Looked up twice a second, so it costs nothing."""
        now = time.monotonic()
        if now >= self._look_again_at:
            disk = os.statvfs(self.root)
            free = disk.f_bavail * disk.f_frsize
            least = max(self._minimum_free_bytes, self._minimum_free_share * disk.f_blocks * disk.f_frsize)
            self._has_room, self._look_again_at = free >= least, now + ROOM_IS_KNOWN_FOR_S
        return self._has_room

    def has_room_for_strangers(self) -> bool:
        """Whether there is room, and callers whom nobody knows have not yet filled what they may."""
        now = time.monotonic()
        if self._strangers_maximum_bytes is not None and now >= self._count_again_at:
            self._strangers_have_room = self._is_less_of_strangers(self._strangers_maximum_bytes)
            self._count_again_at = time.monotonic() + ROOM_IS_KNOWN_FOR_S
        return self._strangers_have_room and self.has_room()

    def _is_less_of_strangers(self, most_bytes: int) -> bool:
        count, size = self._shared_of_strangers()
        with os.scandir(self.root / OF_STRANGERS) as files:
            for file in islice(files, MOST_OF_STRANGERS):
                count += 1
                with suppress(FileNotFoundError):  # it was complete, or removed, a moment ago
                    size += file.stat(follow_symlinks=False).st_size
        return size < most_bytes and count < MOST_OF_STRANGERS

    def _shared_of_strangers(self) -> tuple[int, int]:
        """How many files they have in the shared store, and of how many bytes; while it is away, none are added."""
        if self.shared is not None and time.monotonic() >= self._list_again_at:
            with suppress(Away):
                listed = islice(self.shared.list(f"{INSTANCES}/{OF_STRANGERS}"), MOST_OF_STRANGERS)
                sizes = [one.size for one in listed]
                self._strangers_shared = len(sizes), sum(sizes)
            self._list_again_at = time.monotonic() + STORE_IS_KNOWN_FOR_S
        return self._strangers_shared

    def receive(self, study: str = "", *, is_strangers: bool = False) -> IncomingFile:
        """Begin a file. `study`: its `study_name`; "" while its clinic or Study Instance UID is unknown.

        is_strangers: its caller is known for no clinic.
        """
        return IncomingFile(self, study, is_strangers=is_strangers)

    def open(self, key: str) -> BinaryIO:
        """The durable instance, for reading: from this machine, or else from the shared store.

        Raises:
            OSError: it is not there, is damaged, or its key is not there.
            Away: the shared store is.
        """
        return unsealed(_open(self._file(key), self.shared, _shared_name(key)), key, self.keys)

    def open_at(self, path: str) -> BinaryIO:
        """The same by the path that `path` gave."""
        return self.open(Path(path).stem)

    def lend_at(self, path: str) -> AbstractContextManager[int]:
        """A descriptor of its plain text, for another process."""
        return lent_descriptor(self.open_at(path))

    def path(self, key: str) -> Path:
        return Path(self._file(key))

    def _file(self, key: str) -> str:
        return f"{self.root}/{key[:2]}/{key}.dcm"

    def sealed_with(self, key: str) -> str:
        """The name of the study key that this machine's file is sealed with; "" where it is not, or nobody can tell: it
        is gone, cannot be read, or is something else that somebody put there.
        """
        path = self._file(key)
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                return ""
            with open(path, "rb") as file:
                return sealed_with(file)
        except OSError:
            return ""

    def has(self, key: str) -> bool:
        """Whether the instance is here, or in the shared store.

        Raises:
            Away: the shared store is.
        """
        return self.path(key).is_file() or (self.shared is not None and self.shared.exists(_shared_name(key)))

    def share(self, key: str, path: Path | None = None) -> None:
        """Put an instance into the shared store. `path`: where it is, if not in its place yet.

        Raises:
            Away: the store is.
        """
        assert self.shared is not None
        self.shared.put(_shared_name(key), path or self.path(key))

    def is_shared(self, key: str) -> bool:
        assert self.shared is not None
        return self.shared.exists(_shared_name(key))

    def let_go(self, key: str) -> None:
        """Remove this machine's file of an instance that is in the shared store and has its row."""
        self.path(key).unlink(missing_ok=True)

    def remove(self, key: str) -> None:
        """Remove an instance, and its key where it had one of its own; harmless when it is gone already.

        Raises:
            Away: the shared store is; nothing was removed.
        """
        if self.shared is not None:
            self.shared.remove(_shared_name(key))
        self.path(key).unlink(missing_ok=True)
        if self.keys is not None:
            self.keys.remove(key)

    def stored_keys(self) -> Iterator[str]:
        """The key of every durable instance. What somebody else put into the folder, under a name of his, is none."""
        for shard in SHARDS:
            for path in (self.root / shard).glob("*.dcm"):
                if KEY.fullmatch(path.stem):
                    yield path.stem

    def shared_keys(self) -> Iterator[tuple[str, datetime]]:
        """The key of every instance in the shared store, and when it was put there; in any order.

        Raises:
            Away: the store is.
        """
        assert self.shared is not None
        for one in self.shared.list(INSTANCES):
            if (path := PurePosixPath(one.name)).suffix == ".dcm" and KEY.fullmatch(path.stem):
                yield path.stem, one.modified_at

    def empty_cache(self) -> None:
        """Forget what was fetched from the shared store: after a power failure it may be less than it was."""
        if self.shared is not None:
            self.shared.empty()

    def trim_cache(self) -> None:
        if self.shared is not None:
            self.shared.trim()

    def unfinished(self) -> Iterator[Path]:
        """What is being received, or was when its receiver ended."""
        for shard in SHARDS:
            yield from (self.root / shard).glob("*.part")

    def remove_leftovers(self) -> int:
        """Remove what receivers that are no longer alive had begun to write, and return how many files that were."""
        leftovers = [
            path
            for path in self.unfinished()
            if (begun := UNFINISHED_NAME.fullmatch(path.name)) and _is_over(int(begun["process_id"])) and path.is_file()
        ]
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)


class ResultFolder:
    """The folder of result objects, by their SOP Instance UID, which is the node's own. With a shared store they are
    there, and only there.
    """

    def __init__(self, data_dir: Path, *, keys: StudyKeys | None = None, shared: SharedFiles | None = None) -> None:
        self.root = data_dir / RESULTS
        self._shared = shared
        self._incoming = self.root / "incoming"
        self._keys = keys
        make_directories(self.root, self._incoming)

    def path(self, sop_instance_uid: str) -> Path:
        return self.root / sha256(sop_instance_uid.encode()).hexdigest()[:2] / f"{sop_instance_uid}.dcm"

    def put(self, sop_instance_uid: str, content: bytes, *, study: str) -> None:
        """Keep one object durably. The same UID always has the same bytes, so writing it again changes nothing.

        study: its `study_name`.

        Raises:
            Away: the shared store is.
        """
        if self._shared is not None:
            self._shared.put(self._shared_name(sop_instance_uid), content)
            return
        final = self.path(sop_instance_uid)
        temporary = self._incoming / secrets.token_hex(16)
        if self._keys is None:
            write_synced(temporary, [content])
        else:
            seal = Seal(self._keys, study, sop_instance_uid)
            write_synced(temporary, seal.all_of(content))
        os.rename(temporary, final)
        sync_directory(final.parent)

    def open(self, sop_instance_uid: str) -> BinaryIO:
        """One object, for reading.

        Raises:
            OSError: it is not there, is damaged, or its key is not there.
            Away: the shared store is.
        """
        file = _open(self.path(sop_instance_uid), self._shared, self._shared_name(sop_instance_uid))
        return unsealed(file, sop_instance_uid, self._keys)

    def lend(self, sop_instance_uid: str) -> AbstractContextManager[int]:
        """A descriptor of its plain text, for a library that reads files only."""
        return lent_descriptor(self.open(sop_instance_uid))

    def remove(self, sop_instance_uid: str) -> None:
        """Raises:
        Away: the shared store is; nothing was removed.
        """
        if self._shared is not None:
            self._shared.remove(self._shared_name(sop_instance_uid))
        self.path(sop_instance_uid).unlink(missing_ok=True)

    def move_out(self) -> int:
        """Move what was written before there was a shared store into it; how many objects that were.

        Raises:
            Away: the store is.
        """
        if self._shared is None:
            return 0
        moved = 0
        for path in (path for shard in SHARDS for path in (self.root / shard).glob("*.dcm")):
            self._shared.put(self._shared_name(path.stem), path)
            path.unlink(missing_ok=True)
            moved += 1
        return moved

    def remove_leftovers(self) -> int:
        """Remove what a crash left half written, and return how many files that were."""
        return remove_left_behind(self._incoming)

    def _shared_name(self, sop_instance_uid: str) -> str:
        return f"{RESULTS}/{self.path(sop_instance_uid).relative_to(self.root)}"


def _new_key(*, is_strangers: bool) -> str:
    key = secrets.token_hex(16)
    if is_strangers:
        return OF_STRANGERS + key[2:]
    return key if key[:2] != OF_STRANGERS else "00" + key[2:]


def _shared_name(key: str) -> str:
    return f"{INSTANCES}/{key[:2]}/{key}.dcm"


def _open(path: Path | str, shared: SharedFiles | None, name: str) -> BinaryIO:
    """This machine's file goes first: it may be on its way into the store."""
    try:
        return open(path, "rb")
    except FileNotFoundError:
        if shared is None:
            raise
    return shared.open(name)


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
