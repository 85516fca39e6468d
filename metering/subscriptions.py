"""A clinic's subscription and its billing calendar, in rows: what they were at any moment, and how they change.

    the configuration, at start  ─┐
    a payer (Stripe)             ─┼─>  change_tier, set_state  ->  the open row ends, the next one begins
    a person                     ─┘

An upgrade and a downgrade hold at once: for models, for the quota, and for the price, which is reckoned by the time.
What was charged before stays as it was and counts in the period: after a downgrade there may be nothing left of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from domain.billing import Payer
from domain.clinics import Clinic
from domain.errors import Refuse
from domain.periods import BillingCalendar, Period, PeriodRule, RuleFrom, changes_at
from domain.plans import PLANS, Plan, Tier
from domain.subscription import Subscription, SubscriptionState
from storage import audit
from storage.clinic_lock import lock_clinic
from storage.database import Database
from storage.plain import from_plain, to_plain
from storage.tables import clinics, ledger, period_rules, reservations, subscriptions

LONG_AGO = BillingCalendar().rules[0].begins_at
CONFIGURATION = "configuration"
_MOMENT: sa.BindParameter[datetime] = sa.bindparam("moment")
_AT = sa.select(subscriptions).where(
    subscriptions.c.clinic == sa.bindparam("clinic"),
    subscriptions.c.begins_at <= _MOMENT,
    sa.or_(subscriptions.c.ends_at.is_(None), subscriptions.c.ends_at > _MOMENT),
)
_PERIOD_RULES = (
    sa.select(period_rules).where(period_rules.c.clinic == sa.bindparam("clinic")).order_by(period_rules.c.begins_at)
)


def subscription_at(connection: sa.Connection, *, clinic: str, moment: datetime) -> Subscription:
    """The clinic's subscription at this moment. One of which nothing is written is active on its tier's usual plan."""
    row = connection.execute(_AT, {"clinic": clinic, "moment": moment}).first()
    if row is not None:
        return _subscription(row)
    tier = connection.scalars(sa.select(clinics.c.tier).where(clinics.c.name == clinic)).one()
    return Subscription(
        clinic=clinic,
        plan=PLANS[Tier(tier)],
        state=SubscriptionState.ACTIVE,
        state_since=LONG_AGO,
        begins_at=LONG_AGO,
    )


def subscriptions_of(connection: sa.Connection, *, clinic: str) -> list[Subscription]:
    """All that were, in their order, and the one that is."""
    rows = sa.select(subscriptions).where(subscriptions.c.clinic == clinic).order_by(subscriptions.c.id)
    return [_subscription(row) for row in connection.execute(rows)]


def calendar_of(connection: sa.Connection, *, clinic: str) -> BillingCalendar:
    """When the clinic's billing periods begin; calendar months in UTC where nobody has said otherwise."""
    rows = connection.execute(_PERIOD_RULES, {"clinic": clinic}).all()
    rules = tuple(
        RuleFrom(begins_at=row.begins_at, rule=PeriodRule(anchor_day=row.anchor_day, time_zone=row.time_zone))
        for row in rows
    )
    return BillingCalendar(rules=rules) if rules else BillingCalendar()


def period_at(connection: sa.Connection, *, clinic: str, moment: datetime) -> Period:
    """The clinic's billing period at this moment."""
    return calendar_of(connection, clinic=clinic).period_at(moment)


def begin(
    connection: sa.Connection,
    *,
    clinic: str,
    plan: Plan,
    at: datetime,
    why: str,
    who: str = CONFIGURATION,
    payer: Payer | None = None,
) -> Subscription:
    """Open a clinic's subscription: on trial, where the plan has one and nothing was metered yet.

    Raises:
        Refuse: it has one at that time.
    """
    lock_clinic(connection, clinic)
    is_trial = plan.trial_days > 0 and not _has_metered(connection, clinic)
    state = SubscriptionState.TRIALING if is_trial else SubscriptionState.ACTIVE
    opened = Subscription(
        clinic=clinic,
        plan=plan,
        state=state,
        state_since=at,
        begins_at=at,
        trial_ends_at=at + timedelta(days=plan.trial_days) if is_trial else None,
        payer=payer,
    )
    _insert(connection, opened, why)
    audit.enter(connection, at=at, who=who, act="subscribed", clinic=clinic, detail=f"{plan.tier}, {state}: {why}")
    return opened


def set_state(
    connection: sa.Connection,
    *,
    clinic: str,
    state: SubscriptionState,
    at: datetime,
    why: str,
    who: str = CONFIGURATION,
) -> bool:
    """Bring the subscription into a state from this moment on; whether that changed anything.

    Raises:
        Refuse: it was changed after that moment already.
    """
    state = SubscriptionState(state)
    now = _open_row(connection, clinic, at)
    if now.state is state:
        return False
    trial_ends_at = now.trial_ends_at if state is SubscriptionState.TRIALING else None
    _follow(connection, now, at, why, state=state, state_since=at, trial_ends_at=trial_ends_at)
    detail = f"{now.state} to {state}: {why}"
    audit.enter(connection, at=at, who=who, act="state_changed", clinic=clinic, detail=detail)
    return True


def change_tier(
    connection: sa.Connection,
    *,
    clinic: str,
    tier: Tier,
    at: datetime,
    why: str,
    plan: Plan | None = None,
    who: str = CONFIGURATION,
) -> bool:
    """Put the clinic on a plan from this moment on; whether that changed anything. `plan`: its terms, where they are
    not the usual ones of the tier.

    Raises:
        Refuse: it was changed after that moment already, or there is no such tier.
    """
    plan = plan or PLANS[known_tier(tier)]
    now = _open_row(connection, clinic, at)
    if now.plan == plan:
        return False
    _follow(connection, now, at, why, plan=plan)
    detail = f"{now.plan.tier} to {plan.tier}: {why}" if now.plan.tier != plan.tier else f"terms of {plan.tier}: {why}"
    audit.enter(connection, at=at, who=who, act="plan_changed", clinic=clinic, detail=detail)
    return True


def known_tier(name: str) -> Tier:
    """
    Raises:
        Refuse: no plan has this name.
    """
    try:
        return Tier(name)
    except ValueError as error:
        names = ", ".join(Tier)
        raise Refuse(f"there is no tier {name!r}", reason="unknown_tier", hint=f"the tiers are {names}") from error


def set_period_rule(connection: sa.Connection, *, clinic: str, rule: PeriodRule, at: datetime) -> datetime | None:
    """Let the clinic's billing periods follow this rule: at once where nothing was metered yet, otherwise from its next
    beginning on, so that no period that runs is cut into two of the same name. From when on; None: it does already.
    """
    lock_clinic(connection, clinic)
    coming = (period_rules.c.clinic == clinic, period_rules.c.begins_at > at)
    planned = connection.execute(sa.select(period_rules).where(*coming)).first()
    if planned is not None and (planned.anchor_day, planned.time_zone) == (rule.anchor_day, rule.time_zone):
        return None
    connection.execute(sa.delete(period_rules).where(*coming))
    if _has_metered(connection, clinic):
        begins_at = changes_at(calendar_of(connection, clinic=clinic), rule, at)
        _write_default_rule(connection, clinic, begins_at)
    else:
        is_known = rule in [one.rule for one in calendar_of(connection, clinic=clinic).rules]
        begins_at = None if is_known else LONG_AGO
        if begins_at is not None:
            connection.execute(sa.delete(period_rules).where(period_rules.c.clinic == clinic))
    if begins_at is not None:
        connection.execute(
            sa.insert(period_rules).values(
                clinic=clinic, begins_at=begins_at, anchor_day=rule.anchor_day, time_zone=rule.time_zone
            )
        )
        detail = f"on day {rule.anchor_day} in {rule.time_zone}, from {begins_at:%Y-%m-%d %H:%M} UTC on"
        audit.enter(connection, at=at, who=CONFIGURATION, act="periods_changed", clinic=clinic, detail=detail)
    return begins_at


def sync_subscriptions(
    database: Database, configured: Sequence[Clinic], plans: Mapping[Tier, Plan] = PLANS, *, now: datetime
) -> None:
    """Bring every configured clinic's calendar and subscription to what the configuration says now.

    Of a clinic that pays by Stripe the tier and the state are Stripe's to say, once they have begun; the terms of the
    tier are the configuration's.
    """
    with database.write() as connection:
        for clinic in sorted(configured, key=lambda clinic: clinic.name):
            lock_clinic(connection, clinic.name)
            set_period_rule(connection, clinic=clinic.name, rule=clinic.billing.periods, at=now)
            past = subscriptions_of(connection, clinic=clinic.name)
            if not past:
                payer, plan = clinic.billing.payer, plans[clinic.tier]
                begin(connection, clinic=clinic.name, plan=plan, at=now, why="it was configured", payer=payer)
                continue
            _change_payer(connection, past[-1], clinic.billing.payer, max(now, past[-1].begins_at))
            tier = past[-1].plan.tier if clinic.billing.is_told_by_payer else clinic.tier
            change_tier(
                connection,
                clinic=clinic.name,
                tier=tier,
                plan=plans[tier],
                at=max(now, past[-1].begins_at),
                why="the configuration says so",
            )


def _change_payer(connection: sa.Connection, now: Subscription, payer: Payer, at: datetime) -> None:
    """From this moment on: nobody is billed for the time in which somebody else was asked."""
    if now.payer is payer:
        return
    _follow(connection, now, at, "the configuration says so", payer=payer)
    detail = f"{now.payer or 'not said'} to {payer}"
    audit.enter(connection, at=at, who=CONFIGURATION, act="payer_changed", clinic=now.clinic, detail=detail)


def _subscription(row: Any) -> Subscription:
    return Subscription(
        clinic=row.clinic,
        plan=from_plain(Plan, row.plan),
        state=SubscriptionState(row.state),
        state_since=row.state_since,
        begins_at=row.begins_at,
        ends_at=row.ends_at,
        trial_ends_at=row.trial_ends_at,
        payer=None if row.payer is None else Payer(row.payer),
    )


def _open_row(connection: sa.Connection, clinic: str, at: datetime) -> Subscription:
    """What goes on; nobody changes that until this transaction ends. A clinic without a row gets one."""
    lock_clinic(connection, clinic)
    past = subscriptions_of(connection, clinic=clinic)
    if not past:
        return begin(
            connection,
            clinic=clinic,
            plan=subscription_at(connection, clinic=clinic, moment=at).plan,
            at=at,
            why="it had none",
        )
    if at < past[-1].begins_at:
        raise Refuse(
            f"the subscription of {clinic} was changed after {at:%Y-%m-%d %H:%M} UTC already",
            reason="overlapping_periods",
            hint=f"it goes on since {past[-1].begins_at:%Y-%m-%d %H:%M} UTC; a change can begin then or later",
        )
    return past[-1]


def _follow(connection: sa.Connection, now: Subscription, at: datetime, why: str, **changes: object) -> None:
    connection.execute(
        sa.update(subscriptions)
        .where(subscriptions.c.clinic == now.clinic, subscriptions.c.ends_at.is_(None))
        .values(ends_at=at)
    )
    _insert(connection, replace(now, begins_at=at, **changes), why)  # type: ignore[arg-type]


def _insert(connection: sa.Connection, one: Subscription, why: str) -> None:
    overlapping = sa.select(subscriptions.c.id).where(
        subscriptions.c.clinic == one.clinic,
        sa.or_(subscriptions.c.ends_at.is_(None), subscriptions.c.ends_at > one.begins_at),
    )
    if connection.execute(overlapping).first() is not None:
        raise Refuse(
            f"{one.clinic} has a subscription at {one.begins_at:%Y-%m-%d %H:%M} UTC already",
            reason="overlapping_periods",
            hint="change that one instead",
        )
    connection.execute(
        sa.insert(subscriptions).values(
            clinic=one.clinic,
            tier=one.plan.tier,
            plan=to_plain(one.plan),
            state=one.state,
            state_since=one.state_since,
            trial_ends_at=one.trial_ends_at,
            payer=one.payer,
            begins_at=one.begins_at,
            why=why,
        )
    )


def _has_metered(connection: sa.Connection, clinic: str) -> bool:
    return any(
        connection.execute(sa.select(table.c.clinic).where(table.c.clinic == clinic).limit(1)).first() is not None
        for table in (ledger, reservations)
    )


def _write_default_rule(connection: sa.Connection, clinic: str, begins_at: datetime | None) -> None:
    """Before the first rule that differs from it, the default has to be written down: it was used."""
    if begins_at is not None and connection.scalar(
        sa.select(sa.func.count()).select_from(period_rules).where(period_rules.c.clinic == clinic)
    ) in (0, None):
        usual = PeriodRule()
        connection.execute(
            sa.insert(period_rules).values(
                clinic=clinic, begins_at=LONG_AGO, anchor_day=usual.anchor_day, time_zone=usual.time_zone
            )
        )
