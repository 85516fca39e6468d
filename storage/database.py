"""One database for rows and jobs: SQLite in WAL mode on one machine, PostgreSQL for many; the same code for both."""

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import OperationalError

from domain.errors import Misconfigured
from storage.turnstile import Turnstile

if TYPE_CHECKING:
    from alembic.config import Config

BUSY_TIMEOUT_MS = 30_000
# Of silence in the middle of a transaction: PostgreSQL then ends it. The locks of a machine that froze or lost its
# power would otherwise hold up all others until the connection itself is given up, which may take hours.
SILENT_IN_TRANSACTION_S = 15.0
AWAY_S = 1.0
# How often one piece of work is begun again; an error that stays with a server that is there is not an outage.
OUTAGES = 5
# PostgreSQL's serialization_failure and deadlock_detected.
_CAME_IN_THE_WAY = ("40001", "40P01")
CAME_IN_THE_WAY_S = 0.05
# The number of PostgreSQL's advisory lock of whoever migrates.
MIGRATES = 0x636F6C6C69
# In a connection's `info`, as long as it may write to its SQLite database.
_TURN = "collimator turn"
# Before these the driver begins a transaction by itself, and the last one begins one.
_CHANGES = ("INSERT", "UPDATE", "DELETE", "REPLACE", "BEGIN IMMEDIATE")
# Seconds since 1970.
_CLOCK = {
    "postgresql": sa.text("SELECT extract(epoch FROM clock_timestamp())"),
    "sqlite": sa.text("SELECT (julianday('now') - 2440587.5) * 86400.0"),
}

T = TypeVar("T")
log = structlog.get_logger()


def utc_now() -> datetime:
    return datetime.now(UTC)


def database_clock(connection: sa.Connection) -> float:
    """Seconds since 1970 by the database's own clock: machines disagree about the time, leases must not."""
    return float(connection.scalar(_CLOCK[connection.dialect.name]) or 0)


def is_away(error: Exception) -> bool:
    """Whether the server went away, rather than refused what it was asked."""
    if not isinstance(error, sa.exc.DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.OperationalError):  # also for a statement that is wrong, and stays so
        return error.orig.sqlite_errorcode != sqlite3.SQLITE_ERROR
    return error.connection_invalidated or isinstance(error, OperationalError)


class Database:
    """Connections to the node's database.

    `read()` sees one consistent snapshot. `write()` is one transaction that commits when its block ends well; on
    SQLite it takes the write lock at its start, so that what it reads stays true until it commits.

    Who waits for that lock gets it in turn (storage/turnstile.py).
    """

    def __init__(self, url: str) -> None:
        self.url = _with_driver(url)
        self._is_closed = threading.Event()
        self.is_sqlite = self.url.startswith("sqlite")
        if self.is_sqlite:
            Path(sa.make_url(self.url).database or "").parent.mkdir(parents=True, exist_ok=True)
            self.engine = self._serializable = _sqlite_engine(self.url)
        else:
            self.engine = _postgresql_engine(self.url)
            self._serializable = self.engine.execution_options(isolation_level="SERIALIZABLE")

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        with self.engine.connect() as connection:
            yield connection.execution_options(reads_only=True)

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        with self.engine.begin() as connection:
            yield connection

    def alone(self, work: Callable[[sa.Connection], T]) -> T:
        """Do `work` in one transaction as if nobody else were at work, and again where somebody came in its way."""
        while True:
            try:
                with self._serializable.begin() as connection:
                    return work(connection)
            except OperationalError as error:
                if getattr(error.orig, "sqlstate", None) not in _CAME_IN_THE_WAY:
                    raise
            time.sleep(random.uniform(0, CAME_IN_THE_WAY_S))  # noqa: S311  # so that two do not meet again

    def is_reachable(self) -> bool:
        try:
            with self.read() as connection:
                connection.execute(sa.text("SELECT 1"))
        except sa.exc.DBAPIError:
            return False
        return True

    def wait_until_reachable(self, stop: threading.Event | None = None) -> bool:
        """As long as it takes, or until `stop`, or until it is closed; whether it is reachable."""
        stop = stop or self._is_closed
        while not stop.is_set():
            try:
                with self.read() as connection:
                    connection.execute(sa.text("SELECT 1"))
                return True
            except sa.exc.DBAPIError as error:
                log.warning("database_away", delay_s=AWAY_S, error=str(error.orig).partition("\n")[0])
            stop.wait(AWAY_S)
        return False

    def patiently(self, work: Callable[[], T]) -> T:
        """Do `work`, and where the server went away in the middle of it, again from its start when that is back."""
        for _ in range(OUTAGES):
            try:
                return work()
            except sa.exc.DBAPIError as error:
                if not is_away(error) or not self.wait_until_reachable():
                    raise
        return work()

    def migrate(self) -> None:
        """Bring the tables to the version that this code expects (Alembic).

        Raises:
            Misconfigured: the database cannot be reached or is newer than the code.
        """
        from alembic import command  # 0.1 s that a process which migrates nothing does not pay

        try:
            with self.write() as connection:
                if not self.is_sqlite:  # several machines may do this at once; the others find it done
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATES)))
                command.upgrade(_alembic(connection), "head")
        except OperationalError as error:
            where = sa.make_url(self.url).render_as_string(hide_password=True)
            raise Misconfigured(
                f"the database {where} cannot be used: {error.orig}", hint="check node.database_url and the server"
            ) from error

    def library_engine(self, *, connections: int) -> sa.Engine:
        """One more for a library's own statements. Whoever asks for it disposes of it.

        On SQLite what it commits stays when a process dies, but is durable only with the next `write()`: a power
        failure takes some of the last commits with it, the later ones first, as if it had come a moment earlier.
        """
        if self.is_sqlite:
            return _sqlite_library_engine(self.url, pool_size=connections)
        return _postgresql_engine(self.url, pool_size=connections)

    def close(self) -> None:
        """Nobody waits for it any more."""
        self._is_closed.set()
        self.engine.dispose()


def is_there(url: str) -> bool:
    """Whether it was ever set up, as far as can be told without setting it up: of a server that is not known."""
    made = sa.make_url(_with_driver(url))
    return made.get_backend_name() != "sqlite" or Path(made.database or "").is_file()


def _with_driver(url: str) -> str:
    """`postgresql://` and `postgres://` mean psycopg 3 here."""
    for scheme in ("postgresql://", "postgres://"):
        if url.startswith(scheme):
            return "postgresql+psycopg://" + url.removeprefix(scheme)
    if not url.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise Misconfigured(
            f"node.database_url begins with {url.split(':')[0]!r}",
            hint="use postgresql://user@host/name, or leave it empty for SQLite in node.data_dir",
        )
    return url


def _postgresql_engine(url: str, *, pool_size: int = 5) -> sa.Engine:
    try:
        engine = sa.create_engine(url, pool_pre_ping=True, pool_size=pool_size, hide_parameters=True)
    except (ValueError, sa.exc.ArgumentError) as error:  # the URL may hold a password: it stays out of the message
        raise Misconfigured(
            "node.database_url is not a database URL", hint="write postgresql://user@host:5432/name"
        ) from error

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.execute(f"SET idle_in_transaction_session_timeout = {round(SILENT_IN_TRANSACTION_S * 1000)}")
        connection.commit()

    @sa.event.listens_for(engine, "handle_error")
    def is_outage(context: sa.engine.ExceptionContext) -> None:
        # The driver has several wordings for a server that is not there, and DBOS waits only for some of them.
        if context.connection is None:
            context.is_disconnect = True

    return engine


def _sqlite_engine(url: str) -> sa.Engine:
    engine = sa.create_engine(url, hide_parameters=True)
    take_turn = _takes_turns(engine)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        # The driver would begin a transaction only at the first write, and what was read before it could be stale.
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("reads_only", False):
            connection.exec_driver_sql("BEGIN")
        else:
            take_turn(connection)
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _sqlite_library_engine(url: str, *, pool_size: int) -> sa.Engine:
    engine = sa.create_engine(url, pool_size=pool_size, hide_parameters=True)
    take_turn = _takes_turns(engine)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        # A library looks more often than it writes: the driver begins a transaction with its first change.
        connection.isolation_level = "IMMEDIATE"
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")

    @sa.event.listens_for(engine, "before_cursor_execute")
    def before_change(connection: sa.Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.lstrip().upper().startswith(_CHANGES):
            take_turn(connection)

    return engine


def _takes_turns(engine: sa.Engine) -> Callable[[sa.Connection], None]:
    """What has a connection take its turn, if it has it not yet; it gives it back when it goes back to its pool."""
    turnstile = Turnstile(str(engine.url.database))

    def take_turn(connection: sa.Connection) -> None:
        if _TURN not in connection.info:
            connection.info[_TURN] = turnstile.take_turn()

    def leave(_connection: object, record: Any) -> None:
        if (turn := record.info.pop(_TURN, None)) is not None:
            turnstile.leave(turn)

    sa.event.listen(engine, "checkin", leave)
    sa.event.listen(engine, "invalidate", lambda connection, record, _error: leave(connection, record))
    sa.event.listen(engine, "engine_disposed", lambda _engine: turnstile.close())
    return take_turn


def _alembic(connection: sa.Connection) -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(resources.files("storage").joinpath("migrations")))
    config.attributes["connection"] = connection
    return config
