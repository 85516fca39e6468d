"""A store that several machines share: a folder that all of them mount (folder.py), or a bucket (s3.py).

    instances/<xx>/<key>.dcm      as in the spool          results/<xx>/<uid>.dcm      as in the folder of results

An object is there as a whole, for every machine and to stay, when `put` returns; before that it is not there at all.
While the store cannot be reached, everything here raises Away.
"""

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol


class NotThere(FileNotFoundError):
    """The store answers, and has no object of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(errno.ENOENT, "it is not in the shared store", name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """One object of the store. `size`: in bytes."""

    name: str
    size: int
    modified_at: datetime


class SharedStore(Protocol):
    """Names are relative, with slashes. Safe to use from several threads."""

    def put(self, name: str, content: Path | bytes) -> None:
        """Keep an object; one of this name that is there already is replaced at once and as a whole."""

    def get(self, name: str, target: BinaryIO) -> None:
        """Write an object into `target`.

        Raises:
            NotThere: there is none.
            OSError: `target` cannot take it.
        """

    def exists(self, name: str) -> bool: ...

    def remove(self, name: str) -> None:
        """Harmless when it is gone already."""

    def list(self, prefix: str) -> Iterator[Listed]:
        """All objects whose names begin with this folder's, in any order."""
