"""The audit trail: what people and payers changed by hand, and what was refused to them. It only grows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from domain.errors import Refuse
from storage.database import Database, utc_now
from storage.tables import audit

LONGEST_NAME = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditLine:
    at: datetime
    who: str
    clinic: str | None
    act: str
    detail: str


def enter(
    connection: sa.Connection, *, at: datetime, who: str, act: str, clinic: str | None = None, detail: str = ""
) -> None:
    """Append one line. `who`: an API key's name, "command line", "configuration", "stripe". `act`: a stable word."""
    connection.execute(sa.insert(audit).values(at=at, who=who, clinic=clinic, act=act, detail=detail))


def enter_once(connection: sa.Connection, *, at: datetime, who: str, act: str, detail: str, within: timedelta) -> bool:
    """Append the line, unless the same one was entered within this time; whether it was. For what happens again and
    again: of several processes at the same moment one enters it.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(act))))
    same = (audit.c.who == who, audit.c.act == act, audit.c.detail == detail, audit.c.at > at - within)
    if connection.execute(sa.select(audit.c.id).where(*same).limit(1)).first() is not None:
        return False
    enter(connection, at=at, who=who, act=act, detail=detail)
    return True


@contextmanager
def keeping_refusals(database: Database, *, who: str, act: str, clinic: str | None = None) -> Iterator[None]:
    """What is refused inside leaves a line of its own, whatever is rolled back."""
    try:
        yield
    except Refuse as refusal:
        named = clinic and clinic[:LONGEST_NAME]  # a person's, and perhaps of no clinic
        with database.write() as connection:
            enter(connection, at=utc_now(), who=who, act=f"{act}_refused", clinic=named, detail=refusal.message)
        raise


def read_audit(database: Database, *, clinic: str | None = None) -> list[AuditLine]:
    """In the order of what happened; `clinic`: only what concerns this one."""
    query = sa.select(audit).order_by(audit.c.id)
    if clinic is not None:
        query = query.where(audit.c.clinic == clinic)
    with database.read() as connection:
        return [_line(row) for row in connection.execute(query)]


def last_of(database: Database, *, act: str) -> AuditLine | None:
    """The newest line of this kind."""
    query = sa.select(audit).where(audit.c.act == act).order_by(audit.c.id.desc()).limit(1)
    with database.read() as connection:
        row = connection.execute(query).first()
    return None if row is None else _line(row)


def _line(row: sa.Row[Any]) -> AuditLine:
    return AuditLine(at=row.at, who=row.who, clinic=row.clinic, act=row.act, detail=row.detail)
