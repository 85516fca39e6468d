"""What a file system needs to be told so that a file is there after a power failure, and folders of many files."""

import fcntl
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

SHARDS = tuple(f"{number:02x}" for number in range(256))
LEFT_BEHIND_AFTER_S = 3600.0
TEMPORARY_PREFIX = "."


def make_directories(root: Path, *more: Path) -> None:
    """A folder for many files: by the first two hexadecimal digits of their names; and `more` beside those."""
    for directory in (root, *more, *(root / shard for shard in SHARDS)):
        directory.mkdir(parents=True, exist_ok=True)
    sync_directory(root)


def sync_directory(directory: Path | str) -> None:
    """A rename is durable only when its directory is (POSIX; ext4 happens to do more)."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """A new file with these bytes, on disk to stay once its directory is synced, too.

    Raises:
        OSError: the disk is full, or broken; nothing is left behind.
    """
    with open(path, "xb") as file:
        try:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fdatasync(file.fileno())
        except BaseException:
            path.unlink()
            raise


def write_durably(final: Path, content: bytes) -> None:
    """Put a whole file in the place of `final`, in this order: write, sync, rename, sync the directory.

    Raises:
        OSError: the disk is full, or broken; `final` is as it was.
    """
    temporary = final.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    write_synced(temporary, [content])
    try:
        os.rename(temporary, final)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(final.parent)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """One at a time, in all threads and processes: a file in `directory` is read and written under the same lock."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remove_left_behind(folder: Path) -> int:
    """Remove what a crash left in a folder where files stay for a moment only; how many files that were.

    Told by their age, so that processes on other machines that share the folder keep theirs.
    """
    return remove_old(folder, "*", older_than_s=LEFT_BEHIND_AFTER_S)


def remove_abandoned(folder: Path) -> int:
    """Remove the temporary files of `write_durably` that nobody writes any more; how many there were."""
    return remove_old(folder, f"{TEMPORARY_PREFIX}*", older_than_s=LEFT_BEHIND_AFTER_S)


def remove_old(folder: Path, pattern: str, *, older_than_s: float) -> int:
    """Remove the files of this pattern that were last written so long ago; how many there were."""
    removed = 0
    for path in old_files(folder, pattern, older_than_s=older_than_s):
        try:
            path.unlink()
            removed += 1
        except FileNotFoundError:
            continue
    return removed


def old_files(folder: Path, pattern: str = "*", *, older_than_s: float) -> Iterator[Path]:
    """The files of this pattern that were last written so long ago."""
    for path in folder.glob(pattern):
        try:
            if path.is_file() and time.time() - path.stat().st_mtime > older_than_s:
                yield path
        except FileNotFoundError:
            continue
