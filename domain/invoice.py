"""What a clinic owes for a billing period, line by line, in US cents. Nothing is read or written here.

    the stretches of its subscription      the plan's price, by the time that each was in force
  + the studies that were charged          each its own price: the n-th of the period, under the plan that held for it
  - the credits for earlier periods        what each study cost there, or the amount that was agreed

A study whose charge was taken back in its own period is not there any more, and those after it count one less. Where
nobody agreed on another amount, that is: with an amount, the study stays on the bill, and the amount is taken off.

A price by time is rounded once at each border, so that stretches of one plan add up to its price to the cent.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from domain.billing import Party
from domain.periods import Period
from domain.plans import Basis, Plan, UsageTier, basis_of, price_of
from domain.subscription import EFFECTS, Subscription, SubscriptionState

MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A stretch of a period in which plan and state were the same."""

    begins_at: datetime
    ends_at: datetime
    plan: Plan
    state: SubscriptionState

    @property
    def is_paid(self) -> bool:
        return EFFECTS[self.state].is_paid


@dataclass(frozen=True, kw_only=True, slots=True)
class Charge:
    """A charged study of the period, with the terms that held for it.

    is_anothers: it counts where prices depend on the number, and stands on another payer's bill.
    """

    ledger_id: int
    study_instance_uid: str
    charged_at: datetime
    packages: tuple[str, ...]
    plan: Plan
    basis: Basis
    is_anothers: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Credit:
    """A charge that was taken back. `amount_usd_cents`: what is paid back for it, 0 or more."""

    ledger_id: int
    study_instance_uid: str
    credited_at: datetime
    of_period: str
    amount_usd_cents: int
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PricedStudy:
    """The n-th study of the period on the bill, and what it costs."""

    number: int
    ledger_id: int
    study_instance_uid: str
    charged_at: datetime
    packages: tuple[str, ...]
    basis: Basis
    price_usd_cents: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """`quantity` times `unit_usd_cents`; where that is None, the amount is a share of a price."""

    text: str
    amount_usd_cents: int
    quantity: int | None = None
    unit_usd_cents: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Bill:
    """Everything that is owed for one period, and each study that it is owed for."""

    lines: tuple[Line, ...]
    studies: tuple[PricedStudy, ...]
    credits: tuple[Credit, ...]

    @property
    def total_usd_cents(self) -> int:
        return sum(line.amount_usd_cents for line in self.lines)


@dataclass(frozen=True, kw_only=True, slots=True)
class Invoice:
    """A bill as it goes out, never to be changed. One with a total below 0 is a credit note."""

    number: str
    issuer: Party
    payment: tuple[str, ...]
    clinic: str
    bill_to: Party
    purchase_order: str
    period: str
    begins_at: datetime
    ends_at: datetime
    time_zone: str
    issued_at: datetime
    due_at: datetime
    net_days: int
    bill: Bill


def bill_of(
    period: Period, subscriptions: Iterable[Subscription], charges: Iterable[Charge], credits: Iterable[Credit]
) -> Bill:
    """Reckon a period. charges: in the order in which they were made, without those that were taken back in it.

    credits: those that are to be paid back with this bill.
    """
    counted = tuple(charges)
    ours = {one.ledger_id for one in counted if not one.is_anothers}
    studies = [(study, plan) for study, plan in price(counted) if study.ledger_id in ours]
    paid_back = tuple(credits)
    lines = (*_plan_lines(period, segments(period, subscriptions)), *_study_lines(studies), *_credit_lines(paid_back))
    return Bill(lines=lines, studies=tuple(study for study, _ in studies), credits=paid_back)


def segments(period: Period, subscriptions: Iterable[Subscription]) -> list[Segment]:
    """The stretches of the period that a subscription covers, in their order. What follows on from another with the
    same plan, and is paid for like it, is one with it.
    """
    parts = [part for one in subscriptions for part in _by_state(one) if part.begins_at < part.ends_at]
    inside = [
        Segment(
            begins_at=max(part.begins_at, period.begins_at),
            ends_at=min(part.ends_at, period.ends_at),
            plan=part.plan,
            state=part.state,
        )
        for part in parts
        if part.begins_at < period.ends_at and part.ends_at > period.begins_at
    ]
    return [
        Segment(begins_at=same[0].begins_at, ends_at=same[-1].ends_at, plan=same[0].plan, state=same[0].state)
        for same in (list(group) for _, group in groupby(inside, key=lambda one: (one.plan, _paid_as(one.state))))
    ]


def price(charges: Iterable[Charge]) -> list[tuple[PricedStudy, Plan]]:
    """Number the studies of a period, and find what each costs under the plan that held for it."""
    return [
        (
            PricedStudy(
                number=number,
                ledger_id=one.ledger_id,
                study_instance_uid=one.study_instance_uid,
                charged_at=one.charged_at,
                packages=one.packages,
                basis=Basis.TRIAL if one.basis is Basis.TRIAL else basis_of(one.plan, number),
                price_usd_cents=0 if one.basis is Basis.TRIAL else price_of(one.plan, number),
            ),
            one.plan,
        )
        for number, one in enumerate(charges, start=1)
    ]


def share_of(price_usd_cents: int, part: timedelta, whole: timedelta) -> int:
    """A price for a part of the time that it is for; half a cent goes up."""
    return (2 * price_usd_cents * (part // MICROSECOND) + whole // MICROSECOND) // (2 * (whole // MICROSECOND))


def dollars(usd_cents: int) -> str:
    sign = "-" if usd_cents < 0 else ""
    return f"{sign}{abs(usd_cents) // 100:,}.{abs(usd_cents) % 100:02d}"


def _by_state(one: Subscription) -> Iterator[Segment]:
    """A subscription as it was agreed, and as time alone has made it."""
    ends_at = one.ends_at or datetime.max.replace(tzinfo=one.begins_at.tzinfo)
    turns_at = min(max(one.turns_at, one.begins_at), ends_at) if one.turns_at else ends_at
    yield Segment(begins_at=one.begins_at, ends_at=turns_at, plan=one.plan, state=one.state)
    if turns_at < ends_at:
        yield Segment(begins_at=turns_at, ends_at=ends_at, plan=one.plan, state=one.state_at(turns_at))


def _paid_as(state: SubscriptionState) -> SubscriptionState | bool:
    """What is paid for is one line; what is not says why."""
    return EFFECTS[state].is_paid or state


def _plan_lines(period: Period, stretches: Sequence[Segment]) -> Iterator[Line]:
    for one in stretches:
        monthly = one.plan.price_usd_cents if one.is_paid else 0
        until, since = one.ends_at - period.begins_at, one.begins_at - period.begins_at
        amount = share_of(monthly, until, period.whole) - share_of(monthly, since, period.whole)
        is_whole = until - since == period.whole
        how = "" if is_whole and one.is_paid else f", {_days(one.begins_at, one.ends_at)}"
        what = f"Plan {one.plan.tier}{how}" if one.is_paid else f"Plan {one.plan.tier}, {one.state}{how}"
        yield Line(text=what, amount_usd_cents=amount)


def _days(begins_at: datetime, ends_at: datetime) -> str:
    return f"{begins_at:%Y-%m-%d %H:%M} to {ends_at:%Y-%m-%d %H:%M} UTC"


def _study_lines(studies: Sequence[tuple[PricedStudy, Plan]]) -> Iterator[Line]:
    """One for each ground and price, in the order in which they come."""
    grounds: dict[tuple[str, int], int] = {}
    for study, plan in studies:
        ground = (_ground(study, plan), study.price_usd_cents)
        grounds[ground] = grounds.get(ground, 0) + 1
    for (text, unit), quantity in grounds.items():
        yield Line(text=text, quantity=quantity, unit_usd_cents=unit, amount_usd_cents=quantity * unit)


def _ground(study: PricedStudy, plan: Plan) -> str:
    if study.basis is not Basis.USAGE:
        return {
            Basis.TRIAL: "Studies on trial",
            Basis.INCLUDED: f"Studies included in the plan {plan.tier}",
            Basis.GRACE: "STAT studies on grace",
        }[study.basis]
    tier = _usage_tier(plan, study.number)
    return f"Studies beyond those included: {tier.name}" if tier.name else "Studies beyond those included"


def _usage_tier(plan: Plan, number: int) -> UsageTier:
    return next(one for one in plan.usage_tiers if one.up_to is None or number <= one.up_to)


def _credit_lines(credits: Sequence[Credit]) -> Iterator[Line]:
    for one in credits:
        yield Line(
            text=f"Credit for a study of period {one.of_period}: {one.why}",
            quantity=1,
            unit_usd_cents=-one.amount_usd_cents,
            amount_usd_cents=-one.amount_usd_cents,
        )
