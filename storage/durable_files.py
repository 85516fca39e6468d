"""What a file system needs to be told so that a file is there after a power failure, and folders of many files."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

SHARDS = tuple(f"{number:02x}" for number in range(256))
LEFT_BEHIND_AFTER_S = 3600.0


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
    """A new file with these bytes, on disk to stay once its directory is synced, too."""
    with open(path, "xb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fdatasync(file.fileno())


def remove_left_behind(folder: Path) -> int:
    """Remove what a crash left in a folder where files stay for a moment only; how many files that were.

    Told by their age, so that processes on other machines that share the folder keep theirs.
    """
    removed = 0
    for path in folder.iterdir():
        try:
            if time.time() - path.stat().st_mtime > LEFT_BEHIND_AFTER_S:
                path.unlink()
                removed += 1
        except FileNotFoundError:
            continue
    return removed
