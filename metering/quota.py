"""Quota: reserved before the work and released when it fails, so that parallel studies never overrun a plan."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from domain.plans import PLANS, Tier, billing_period, has_room
from domain.states import StudyState
from storage.tables import clinics, ledger, reservations, studies

# A generation in these states has its study's reservation, or may come to need it.
IN_WORK = (StudyState.QUEUED, StudyState.DELIVERING)


def reserve(connection: sa.Connection, *, clinic: str, study_instance_uid: str, now: datetime) -> bool:
    """Take one study from the clinic's quota of this period; False when nothing is left.

    A study that was charged before needs no quota: a revised result is free. Asking twice takes one.
    """
    tier = Tier(connection.scalars(sa.select(clinics.c.tier).where(clinics.c.name == clinic).with_for_update()).one())
    where = (clinic, study_instance_uid)
    if _is_there(connection, ledger, *where) or _is_there(connection, reservations, *where):
        return True
    period = billing_period(now)
    if not has_room(PLANS[tier], used(connection, clinic=clinic, period=period)):
        return False
    connection.execute(
        sa.insert(reservations).values(clinic=clinic, study_instance_uid=study_instance_uid, period=period, made_at=now)
    )
    return True


def release(connection: sa.Connection, *, clinic: str, study_instance_uid: str) -> None:
    """Give a study's reservation back once no generation of it is in work; harmless where there is none.

    To be called when the generation that ends has its new state: a late image that is refused must not take the
    reservation away from the results that are still on their way.
    """
    reservation = (reservations.c.clinic == clinic, reservations.c.study_instance_uid == study_instance_uid)
    # Two generations may end at the same moment. The row is changed, so that the later one waits, and sees the other.
    held = connection.execute(sa.update(reservations).where(*reservation).values(period=reservations.c.period))
    in_work = sa.select(studies.c.id).where(
        studies.c.clinic == clinic, studies.c.study_instance_uid == study_instance_uid, studies.c.state.in_(IN_WORK)
    )
    if held.rowcount and connection.execute(in_work.limit(1)).first() is None:
        end_reservation(connection, clinic=clinic, study_instance_uid=study_instance_uid)


def end_reservation(connection: sa.Connection, *, clinic: str, study_instance_uid: str) -> None:
    """Remove it, whoever still needed it: the charge takes its place."""
    connection.execute(
        sa.delete(reservations).where(
            reservations.c.clinic == clinic, reservations.c.study_instance_uid == study_instance_uid
        )
    )


def used(connection: sa.Connection, *, clinic: str, period: str) -> int:
    """Studies charged or reserved in a period."""
    counts: Sequence[int] = [
        connection.scalar(
            sa.select(sa.func.count()).select_from(table).where(table.c.clinic == clinic, table.c.period == period)
        )
        or 0
        for table in (ledger, reservations)
    ]
    return sum(counts)


def _is_there(connection: sa.Connection, table: sa.Table, clinic: str, study_instance_uid: str) -> bool:
    found = sa.select(table.c.clinic).where(table.c.clinic == clinic, table.c.study_instance_uid == study_instance_uid)
    return connection.execute(found).first() is not None
