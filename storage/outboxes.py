"""How it stands with each destination of each clinic: which job drains it, and since when it does not answer.

    idle ──something is handed over──> busy ──all is sent──> idle
                                        │  └─the destination is away──> busy, until a later job has reached it
                                        └─only what the peer wants later is left──> idle, with a job for then

The row is the lock between whoever hands something over and the job that finds nothing more to do. It is always the
last row that a transaction takes, after those of clinics, studies and deliveries, so that nobody waits in a circle.
"""

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from storage.database import Database, utc_now
from storage.jobs import JobQueue, drain_job_id
from storage.tables import outboxes

_IS_THIS = (outboxes.c.clinic == sa.bindparam("of"), outboxes.c.destination == sa.bindparam("to"))
_PRESENT = sa.select(outboxes.c.clinic).where(*_IS_THIS)
_LOCK = sa.select(outboxes).where(*_IS_THIS).with_for_update()
_CHANGE = sa.update(outboxes).where(*_IS_THIS)
_ASK = _CHANGE.returning(outboxes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outbox:
    """`job`: the number of the newest job. `failures`: associations that failed, one after the other."""

    clinic: str
    destination: str
    job: int
    is_busy: bool
    failures: int


def ask(connection: sa.Connection, *, clinic: str, destination: str) -> Outbox:
    """Lock the row of a destination for which something new is there; it is made where it is missing.

    It is changed, not only read: on PostgreSQL a job that began to settle before and looks at the deliveries after
    would not see the new ones, and so has to begin again.
    """
    _make(connection, clinic, destination)
    row = connection.execute(_ASK, {**_this(clinic, destination), "asked_at": utc_now()}).one()
    return _outbox(row)


def wake(connection: sa.Connection, jobs: JobQueue, *, clinic: str, destination: str) -> None:
    """Something new is there for the destination. One that is away is not asked any sooner for it."""
    outbox = ask(connection, clinic=clinic, destination=destination)
    if not outbox.is_busy:
        put_job(connection, jobs, outbox, failures=outbox.failures)


def lock(connection: sa.Connection, *, clinic: str, destination: str) -> Outbox:
    return _outbox(connection.execute(_LOCK, _this(clinic, destination)).one())


def begin(connection: sa.Connection, *, clinic: str, destination: str, job: int) -> Outbox | None:
    """The job with this number starts; None when a newer one has taken its place."""
    outbox = lock(connection, clinic=clinic, destination=destination)
    if outbox.job != job:
        return None
    _change(connection, outbox, is_busy=True, next_attempt_at=None)
    return outbox


def put_job(
    connection: sa.Connection,
    jobs: JobQueue,
    outbox: Outbox,
    *,
    is_busy: bool = True,
    failures: int = 0,
    last_error: str = "",
    delay_s: float = 0.0,
) -> None:
    """Put the destination's next job, which replaces every earlier one."""
    number = outbox.job + 1
    _change(
        connection,
        outbox,
        jobs=number,
        is_busy=is_busy,
        failures=failures,
        last_error=last_error,
        next_attempt_at=utc_now() + timedelta(seconds=delay_s),
    )
    jobs.put_drain(connection, clinic=outbox.clinic, destination=outbox.destination, number=number, delay_s=delay_s)


def rest(connection: sa.Connection, outbox: Outbox) -> None:
    """Nothing is pending: no job until something is handed over."""
    _change(connection, outbox, is_busy=False, failures=0, last_error="", next_attempt_at=None)


def newest_drains(database: Database) -> list[tuple[Outbox, str]]:
    """Every destination that counts on a job, with that job's name."""
    with database.read() as connection:
        rows = connection.execute(sa.select(outboxes).where(outboxes.c.is_busy)).all()
    return [(_outbox(row), drain_job_id(row.clinic, row.destination, row.jobs)) for row in rows]


def _make(connection: sa.Connection, clinic: str, destination: str) -> None:
    """A destination that is new here. Two workers may both see that; the table keeps one row."""
    if connection.scalar(_PRESENT, _this(clinic, destination)) is not None:
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(insert(outboxes).values(clinic=clinic, destination=destination).on_conflict_do_nothing())


def _change(connection: sa.Connection, outbox: Outbox, **values: object) -> None:
    connection.execute(_CHANGE, {**_this(outbox.clinic, outbox.destination), **values})


def _this(clinic: str, destination: str) -> dict[str, object]:
    return {"of": clinic, "to": destination}


def _outbox(row: sa.Row[tuple[object, ...]]) -> Outbox:
    return Outbox(
        clinic=row.clinic,
        destination=row.destination,
        job=row.jobs,
        is_busy=row.is_busy,
        failures=row.failures,
    )
