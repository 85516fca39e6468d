"""Studies that are charged, and clinics with subscriptions, entered through the functions that the node uses."""

from datetime import UTC, datetime
from hashlib import sha256

from domain.plans import Plan
from metering.ledger import charge
from metering.quota import reserve
from metering.subscriptions import begin
from storage.database import Database
from storage.intake import record_instances
from tests.factories.arrivals import NO_SPOOL, arrival

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def study_of(database: Database, uid: str, *, clinic: str = "mercy") -> int:
    key = sha256(f"{clinic} {uid}".encode()).hexdigest()[:32]
    stored = arrival(key, f"{uid}.1", study_instance_uid=uid, clinic=clinic)
    return record_instances(database, NO_SPOOL, [stored])[0].study_id or 0


def take(database: Database, uid: str, *, clinic: str = "mercy", now: datetime = NOW, is_stat: bool = False) -> bool:
    with database.write() as connection:
        return reserve(connection, clinic=clinic, study_instance_uid=uid, now=now, is_stat=is_stat)


def pay(database: Database, uid: str, *, clinic: str = "mercy", now: datetime = NOW, destination: str = "pacs") -> bool:
    study_id = study_of(database, uid, clinic=clinic)
    with database.write() as connection:
        return charge(
            connection,
            clinic=clinic,
            study_instance_uid=uid,
            study_id=study_id,
            packages=["chest"],
            result_sop_instance_uid=f"2.25.{uid}",
            destination=destination,
            now=now,
        )


def subscribe(database: Database, plan: Plan, *, clinic: str = "mercy", at: datetime) -> None:
    with database.write() as connection:
        begin(connection, clinic=clinic, plan=plan, at=at, why="it was configured")
