"""A data key for each study, wrapped by the operator's master key and kept in a small file of its own.

    encryption_key_file   master keys, one a line: the first wraps, the others only unwrap (kept for rotation)
    spool/keys/<xx>/<name>.key   "<id of the master key> <wrapped key>", in hex; AES key wrap (RFC 3394)

Without a study's key file its objects are noise: to destroy it is to erase the study wherever copies of the objects
lie. A new master key rewrites these small files only.
"""

import base64
import binascii
import errno
import fcntl
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from domain.errors import Misconfigured
from storage.durable_files import (
    LEFT_BEHIND_AFTER_S,
    SHARDS,
    make_directories,
    old_files,
    sync_directory,
    write_synced,
)

SETTING = "storage.encryption_key_file"
KEY_BYTES = 32
HINT = "make one with: openssl rand -hex 32"
KEPT_KEYS = 1024


class KeyNotThere(OSError):
    """A study's key was destroyed, or is wrapped by a master key that the node does not have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MasterKey:
    """`name` tells which one a study key is wrapped with, without telling anything about it."""

    secret: bytes = field(repr=False)

    @property
    def name(self) -> str:
        return sha256(b"collimator master key\0" + self.secret).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyKey:
    """`name`: 32 hexadecimal digits, of its file."""

    name: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rotation:
    """How many study keys were wrapped anew, how many were already wrapped by the first master key, and how many are
    wrapped by one that is not in the key file."""

    rewrapped: int
    current: int
    lost: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Of some study keys: how many there are, and how many are wrapped by a master key that is not in the key file."""

    looked_at: int
    lost: int


def study_name(clinic: str, study_instance_uid: str) -> str:
    """What stands for a study where its key is asked for; "" while either is unknown."""
    return f"{clinic}/{study_instance_uid}" if clinic and study_instance_uid else ""


def key_name(study: str) -> str:
    """The name of the key of a study (`study_name`)."""
    return sha256(study.encode()).hexdigest()[:32]


def read_master_keys(path: Path) -> tuple[MasterKey, ...]:
    """The keys of a key file, the one in use first; blank lines and lines that begin with # do not count.

    Raises:
        Misconfigured: it cannot be read, holds no key, or has a line that is not 32 bytes in hex or base64.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{SETTING}: {path} cannot be read: {error}", hint=HINT) from error
    keys = [
        MasterKey(secret=_decoded(line.strip(), path, number))
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not keys:
        raise Misconfigured(f"{SETTING}: {path} holds no key", hint=HINT)
    return tuple(keys)


class StudyKeys:
    """The folder of wrapped keys. Safe to use from several threads, and from several processes at once."""

    def __init__(self, data_dir: Path, master_keys: Sequence[MasterKey]) -> None:
        """`master_keys`: at least one, the one in use first."""
        self.root = data_dir / "spool" / "keys"
        self._incoming = self.root / "incoming"
        self._master_keys = {key.name: key for key in master_keys}
        self._in_use = master_keys[0]
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._turn = threading.Lock()
        make_directories(self.root, self._incoming)
        self._destroy_left_behind()

    def key_of(self, study: str) -> StudyKey:
        """The key of this study (`study_name`), made and kept durably if it has none yet.

        Raises:
            KeyNotThere: its key is wrapped by a master key that the node does not have.
            OSError: it cannot be written.
        """
        return self.key_for(key_name(study))

    def key_for(self, name: str) -> StudyKey:
        """The same for a key of this name: 32 hexadecimal digits."""
        try:
            return self._look_up(name)
        except FileNotFoundError:
            self._make(name)
            return self._look_up(name)

    def key_named(self, name: str) -> StudyKey:
        """The key of this name.

        Raises:
            KeyNotThere: it was destroyed, or is wrapped by a master key that the node does not have.
        """
        try:
            return self._look_up(name)
        except FileNotFoundError:
            raise KeyNotThere(errno.ENOKEY, "the key that it is sealed with was destroyed", name) from None

    def still_holds(self, key: StudyKey) -> bool:
        """Whether this key was not destroyed meanwhile, nor is about to be: nobody has it `held`."""
        try:
            with open(self._path(key.name), "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return self.key_named(key.name) == key
        except OSError:
            return False

    @contextmanager
    def held(self, name: str) -> Iterator[bool]:
        """As long as this lasts `still_holds` is false of the key of this name, in all processes: what is sealed with
        it is durable already, or never will be. Whether there is such a key.
        """
        with self._alone(), ExitStack() as stack:
            try:
                file = stack.enter_context(open(self._path(name), "rb"))
            except FileNotFoundError:
                yield False
                return
            fcntl.flock(file, fcntl.LOCK_EX)
            yield True

    def destroy(self, study: str) -> bool:
        """Make everything that was sealed for this study unreadable for good; whether there was a key."""
        return self.remove(key_name(study))

    def remove(self, name: str) -> bool:
        """Remove the key of this name; whether there was one."""
        if not self._path(name).exists() and not (self._incoming / name).exists():
            return False
        with self._alone():
            return self.remove_held(name)

    def remove_held(self, name: str) -> bool:
        """The same for a key that the caller has `held`. A crash in the middle leaves no half of one in its place: a
        study whose key nobody can read could not even be received again.
        """
        path, doomed = self._path(name), self._incoming / name
        was_there = True
        try:
            os.rename(path, doomed)
        except FileNotFoundError:
            was_there = False
        if was_there:
            sync_directory(path.parent)
            with self._turn:
                self._known.pop(name, None)
        _destroy(doomed)  # what an earlier removal did not come to counts, too
        return was_there

    def rotate(self) -> Rotation:
        """Wrap every study key with the master key in use. What was sealed stays as it is."""
        counts = {"rewrapped": 0, "current": 0, "lost": 0}
        for path in self._paths():
            # For each anew: nobody who removes a key, the indexer least of all, waits for a hundred thousand others.
            with self._alone(), suppress(FileNotFoundError):  # its only file was removed meanwhile
                counts[self._rewrap(path)] += 1
        return Rotation(**counts)

    def sample(self) -> Sample:
        """Look at a key from each folder: at 256 where there are many, which shows when a key file is another's."""
        wrapped_by = []
        for shard in SHARDS:
            with os.scandir(self.root / shard) as entries, suppress(FileNotFoundError):  # it was erased meanwhile
                if (entry := next((entry for entry in entries if entry.name.endswith(".key")), None)) is not None:
                    wrapped_by.append(_wrapped_by(Path(entry.path)))
        return Sample(looked_at=len(wrapped_by), lost=sum(name not in self._master_keys for name in wrapped_by))

    def _look_up(self, name: str) -> StudyKey:
        path = self._path(name)
        version = _version_of(path)
        with self._turn:
            known = self._known.get(name)
            if known is not None and known.version == version:
                self._known.move_to_end(name)
                return known.key
        key = StudyKey(name=name, secret=self._unwrap(path))
        # Another process may have made it a moment ago: what is sealed with it must not be durable before it is.
        sync_directory(path.parent)
        with self._turn:
            self._known[name] = _Known(version=version, key=key)
            while len(self._known) > KEPT_KEYS:
                self._known.popitem(last=False)
        return key

    def _rewrap(self, path: Path) -> str:
        if _wrapped_by(path) == self._in_use.name:
            return "current"
        try:
            secret = self._unwrap(path)
        except KeyNotThere:
            return "lost"
        os.rename(self._written(secret), path)
        sync_directory(path.parent)
        return "rewrapped"

    def _make(self, name: str) -> None:
        """Of several processes that make the same key at once, the first to link its file has made it for all."""
        temporary = self._written(secrets.token_bytes(KEY_BYTES))
        try:
            os.link(temporary, self._path(name))
        except FileExistsError:
            pass
        finally:
            temporary.unlink()

    def _written(self, secret: bytes) -> Path:
        """A file of a random name that holds this key."""
        wrapped = aes_key_wrap(self._in_use.secret, secret)
        temporary = self._incoming / secrets.token_hex(16)
        write_synced(temporary, [f"{self._in_use.name} {wrapped.hex()}\n".encode()])
        return temporary

    def _unwrap(self, path: Path) -> bytes:
        master_name, _, wrapped = _content(path).strip().partition(" ")
        if master_name not in self._master_keys:
            raise KeyNotThere(
                errno.ENOKEY, f"its key is wrapped by master key {master_name!r}, which is not in {SETTING}", path.stem
            )
        try:
            return aes_key_unwrap(self._master_keys[master_name].secret, bytes.fromhex(wrapped))
        except (InvalidUnwrap, ValueError):
            raise KeyNotThere(errno.ENOKEY, "the file with its key is damaged", path.stem) from None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Of the processes that remove or rotate, one at a time: a rotation must not bring back what was removed."""
        folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _destroy_left_behind(self) -> None:
        """What a crash left half made, or half destroyed."""
        for path in old_files(self._incoming, older_than_s=LEFT_BEHIND_AFTER_S):
            _destroy(path)

    def _paths(self) -> Iterator[Path]:
        for shard in SHARDS:
            yield from sorted((self.root / shard).glob("*.key"))

    def _path(self, name: str) -> Path:
        return self.root / name[:2] / f"{name}.key"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    """A key in memory, good as long as its file is the same: another process may destroy it at any time."""

    version: tuple[int, int]
    key: StudyKey


def _content(path: Path) -> str:
    """Of the file with a key: a damaged one may hold any bytes."""
    return path.read_text(encoding="ascii", errors="replace")


def _wrapped_by(path: Path) -> str:
    """The name of a master key."""
    return _content(path).partition(" ")[0]


def _destroy(path: Path) -> None:
    """Overwrite and remove the file with a key; harmless when it is gone."""
    with suppress(FileNotFoundError):
        with suppress(PermissionError):  # who rotated was another user: it can be removed, if no more
            _overwrite(path)
        path.unlink()


def _overwrite(path: Path) -> None:
    """Not what has another name: its maker may have died before it removed this one of a key that is in use."""
    with open(path, "r+b", buffering=0) as file:
        state = os.fstat(file.fileno())
        if state.st_nlink == 1:
            file.write(b"\0" * state.st_size)
            os.fsync(file.fileno())


def _version_of(path: Path) -> tuple[int, int]:
    state = os.stat(path)
    return state.st_ino, state.st_ctime_ns


def _decoded(line: str, path: Path, number: int) -> bytes:
    for decode in (bytes.fromhex, lambda text: base64.b64decode(text, validate=True)):
        try:
            key = decode(line)
        except (ValueError, binascii.Error):
            continue
        if len(key) == KEY_BYTES:
            return key
    raise Misconfigured(f"{SETTING}: line {number} of {path} is not {KEY_BYTES} bytes in hex or base64", hint=HINT)
