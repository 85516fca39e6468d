"""A folder on a file system that several machines mount, as the shared store.

incoming/    what is being written          instances/, results/    what is there to stay
"""

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from domain.errors import Away
from storage.durable_files import sync_directory
from storage.shared.store import Listed, NotThere

COPIED_BYTES = 1 << 20
INCOMING = "incoming"
LEFT_BEHIND_AFTER_S = 86400.0


class SharedFolder:
    """It must be there: a node that made it would write into the mount point of a file system that is not mounted.
    A file is written, synced, renamed, and its directory synced, as in the spool.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._cleared = False

    def put(self, name: str, content: Path | bytes) -> None:
        final = self._root / name
        with self._reached():
            incoming = self._made(self._root / INCOMING)
            self._clear(incoming)
            temporary = incoming / secrets.token_hex(16)
            try:
                _write(temporary, content)
                os.rename(temporary, self._made(final.parent) / final.name)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            sync_directory(final.parent)

    def get(self, name: str, target: BinaryIO) -> None:
        with self._reached(name):
            source = open(self._root / name, "rb")  # noqa: SIM115
        with source:
            shutil.copyfileobj(source, target, COPIED_BYTES)

    def exists(self, name: str) -> bool:
        with self._reached():
            return (self._root / name).is_file()

    def remove(self, name: str) -> None:
        with self._reached():
            (self._root / name).unlink(missing_ok=True)

    def list(self, prefix: str) -> Iterator[Listed]:
        with self._reached():
            for path in (self._root / prefix).rglob("*"):
                try:
                    state = path.stat()
                except FileNotFoundError:
                    continue
                if path.is_file():
                    name = str(PurePosixPath(path.relative_to(self._root)))
                    modified_at = datetime.fromtimestamp(state.st_mtime, UTC)
                    yield Listed(name=name, size=state.st_size, modified_at=modified_at)

    @contextmanager
    def _reached(self, name: str = "") -> Iterator[None]:
        """Whatever goes wrong is the store's fault, except that an object of this name is not there."""
        try:
            if not self._root.is_dir():
                raise Away(f"the shared store {self._root} is not there", hint="mount it, or make the folder in it")
            yield
        except FileNotFoundError as error:
            if name and self._root.is_dir():
                raise NotThere(name) from error
            raise Away(f"the shared store {self._root} is not there: {error.strerror}") from error
        except OSError as error:
            raise Away(f"the shared store {self._root} cannot be used: {error.strerror}") from error

    def _made(self, folder: Path) -> Path:
        """The folder, durable with those above it; not the root."""
        if not folder.is_dir():
            if folder.parent != self._root:
                self._made(folder.parent)
            folder.mkdir(exist_ok=True)
            sync_directory(folder.parent)
        return folder

    def _clear(self, incoming: Path) -> None:
        """Once: remove what a machine that died had begun to write long ago."""
        if self._cleared:
            return
        self._cleared = True
        for path in incoming.iterdir():
            try:
                if time.time() - path.stat().st_mtime > LEFT_BEHIND_AFTER_S:
                    path.unlink()
            except FileNotFoundError:
                continue


def _write(path: Path, content: Path | bytes) -> None:
    with open(path, "xb") as target:
        if isinstance(content, Path):
            with open(content, "rb") as source:
                shutil.copyfileobj(source, target, COPIED_BYTES)
        else:
            target.write(content)
        target.flush()
        os.fdatasync(target.fileno())
