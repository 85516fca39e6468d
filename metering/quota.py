"""Quota: reserved before the work and released when it fails, so that parallel studies never overrun a plan.

Whoever reserves or charges holds the clinic's lock: of any number at the same moment, one after the other counts. A
study counts in the period in which it was admitted, also when a PACS that was away takes its result in the next one.
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
import structlog

from domain.errors import Refuse
from domain.plans import alert_at, has_grace, has_room
from domain.states import Reason, StudyState
from domain.subscription import EFFECTS, Subscription
from metering.entitlements import are_known
from metering.subscriptions import period_at, subscription_at
from storage.clinic_lock import lock_clinic
from storage.events import add_event
from storage.tables import ledger, reservations, studies

log = structlog.get_logger()

# A generation in these states has its study's reservation, or may come to need it.
IN_WORK = (StudyState.QUEUED, StudyState.DELIVERING)


_CREDITS = ledger.alias()
_WITHIN: sa.BindParameter[str] = sa.bindparam("within")
_CHARGED = (
    sa.select(sa.func.count())
    .select_from(ledger.outerjoin(_CREDITS, sa.and_(_CREDITS.c.corrects == ledger.c.id, _CREDITS.c.period == _WITHIN)))
    .where(ledger.c.clinic == sa.bindparam("of"), ledger.c.period == _WITHIN)
    .where(ledger.c.kind == "charge", _CREDITS.c.id.is_(None))
)
_RESERVED = sa.select(sa.func.count()).where(
    reservations.c.clinic == sa.bindparam("of"), reservations.c.period == _WITHIN
)
_IS_THERE = {
    table: sa.select(table.c.clinic).where(
        table.c.clinic == sa.bindparam("of"), table.c.study_instance_uid == sa.bindparam("study")
    )
    for table in (ledger, reservations)
}
_RESERVE = sa.insert(reservations)
_RESERVATION = (
    reservations.c.clinic == sa.bindparam("of"),
    reservations.c.study_instance_uid == sa.bindparam("study"),
)
_HOLD = sa.update(reservations).where(*_RESERVATION).values(period=reservations.c.period)
_END = sa.delete(reservations).where(*_RESERVATION).returning(reservations.c.period)
_GENERATIONS_IN_WORK = (
    sa.select(studies.c.id)
    .where(
        studies.c.clinic == sa.bindparam("of"),
        studies.c.study_instance_uid == sa.bindparam("study"),
        studies.c.state.in_(IN_WORK),
    )
    .limit(1)
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How it stands with a clinic at a moment: its subscription, its period, and what was used of that."""

    subscription: Subscription
    period: str
    used: int
    takes_work: bool


def standing(connection: sa.Connection, *, clinic: str, now: datetime) -> Standing:
    subscription = subscription_at(connection, clinic=clinic, moment=now)
    period = period_at(connection, clinic=clinic, moment=now).key
    return Standing(
        subscription=subscription,
        period=period,
        used=used(connection, clinic=clinic, period=period),
        takes_work=subscription.takes_work(now) and are_known(connection, clinic=clinic, now=now),
    )


def reserve(
    connection: sa.Connection, *, clinic: str, study_instance_uid: str, now: datetime, is_stat: bool = False
) -> bool:
    """Take one study from the clinic's quota of this period; False when there is none for it (`why_none`).

    A study that was charged before needs no quota: a revised result is free. Asking twice takes one.
    """
    lock_clinic(connection, clinic)
    where = (clinic, study_instance_uid)
    if _is_there(connection, ledger, *where) or _is_there(connection, reservations, *where):
        return True
    now_stands = standing(connection, clinic=clinic, now=now)
    plan = now_stands.subscription.plan
    fits = has_room(plan, now_stands.used) or (is_stat and has_grace(plan, now_stands.used))
    if not now_stands.takes_work or not fits:
        return False
    row = {"clinic": clinic, "study_instance_uid": study_instance_uid, "period": now_stands.period, "made_at": now}
    connection.execute(_RESERVE, row)
    reached = alert_at(plan, now_stands.used + 1)
    if reached is not None:
        _alert(connection, clinic, study_instance_uid, now_stands, reached)
    return True


def why_none(connection: sa.Connection, *, clinic: str, now: datetime) -> Refuse:
    """Why `reserve` said no. The message is for the PACS, and says nothing of money; the hint is for the clinic."""
    now_stands = standing(connection, clinic=clinic, now=now)
    state = now_stands.subscription.state_at(now)
    if now_stands.subscription.takes_work(now) and not now_stands.takes_work:
        return Refuse(
            "it is not known at this time what the clinic's subscription includes",
            reason=Reason.NO_SUBSCRIPTION,
            hint="Stripe has not answered for 72 hours; the study is analysed by itself when it does",
        )
    if not now_stands.takes_work:
        return Refuse(
            "the clinic's subscription does not take new studies at this time",
            reason=Reason.NO_SUBSCRIPTION,
            hint=f"it is {state}: {EFFECTS[state].meaning}; the study is analysed by itself when it is active again",
        )
    plan = now_stands.subscription.plan
    return Refuse(
        f"the {plan.tier} plan's {plan.last_study} studies of this period are used up",
        reason=Reason.OVER_QUOTA,
        hint="it is analysed by itself when the next period begins or the plan grows",
    )


def release(connection: sa.Connection, *, clinic: str, study_instance_uid: str) -> None:
    """Give a study's reservation back once no generation of it is in work; harmless where there is none.

    To be called when the generation that ends has its new state: a late image that is refused must not take the
    reservation away from the results that are still on their way.
    """
    this = {"of": clinic, "study": study_instance_uid}
    # Two generations may end at the same moment. The row is changed, so that the later one waits, and sees the other.
    held = connection.execute(_HOLD, this)
    if held.rowcount and connection.execute(_GENERATIONS_IN_WORK, this).first() is None:
        end_reservation(connection, clinic=clinic, study_instance_uid=study_instance_uid)


def end_reservation(connection: sa.Connection, *, clinic: str, study_instance_uid: str) -> str | None:
    """Remove it, whoever still needed it: the charge takes its place. The period that it was taken from."""
    return connection.scalar(_END, {"of": clinic, "study": study_instance_uid})


def used(connection: sa.Connection, *, clinic: str, period: str) -> int:
    """Studies charged or reserved in a period. One whose charge was taken back in the same period leaves room."""
    reserved = connection.scalar(_RESERVED, {"of": clinic, "within": period}) or 0
    return charged(connection, clinic=clinic, period=period) + reserved


def charged(connection: sa.Connection, *, clinic: str, period: str) -> int:
    """Studies charged in a period, without those whose charge was taken back in the same period."""
    return connection.scalar(_CHARGED, {"of": clinic, "within": period}) or 0


def _alert(connection: sa.Connection, clinic: str, study_instance_uid: str, stands: Standing, reached: int) -> None:
    """In the log, and in the history of the study that reached it."""
    included = stands.subscription.plan.studies_per_month
    log.warning("quota_alert", clinic=clinic, percent=reached, used=stands.used + 1, included=included)
    study_id = connection.scalar(
        sa.select(sa.func.max(studies.c.id)).where(
            studies.c.clinic == clinic, studies.c.study_instance_uid == study_instance_uid
        )
    )
    if study_id is not None:
        detail = f"{stands.used + 1} of the {included} studies of period {stands.period} are used ({reached} %)"
        add_event(connection, study_id, "quota", detail)


def _is_there(connection: sa.Connection, table: sa.Table, clinic: str, study_instance_uid: str) -> bool:
    return connection.execute(_IS_THERE[table], {"of": clinic, "study": study_instance_uid}).first() is not None
