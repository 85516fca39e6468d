"""The sections about money: the operator's own terms of each plan, and both sides of an invoice."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from config.section import Section
from domain.billing import BillingTerms, Issuer, Party, Payer
from domain.periods import PeriodRule
from domain.plans import PLANS, Plan, Tier, UsageTier, wrong_with

HIGHEST_PRICE = 10_000_000
MOST_STUDIES = 10_000_000


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError('a time zone of the IANA database is expected, such as "Europe/Berlin" or "UTC"') from error
    return name


Cents = Annotated[int, Field(ge=0, le=HIGHEST_PRICE)]
Count = Annotated[int, Field(ge=0, le=MOST_STUDIES)]
Text = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Package = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class UsageTierSettings(Section):
    """`up_to` left out: it holds for all further studies."""

    price_usd_cents: Cents
    name: Text = ""
    up_to: Annotated[int, Field(ge=1, le=MOST_STUDIES)] | None = None


class PlanSettings(Section):
    """What is None is as the node comes with it (domain/plans.py)."""

    price_usd_cents: Cents | None = None
    studies_per_month: Count | Literal["unlimited"] | None = None
    packages: tuple[Package, ...] | None = None
    usage_tiers: tuple[UsageTierSettings, ...] | None = None
    grace_studies: Count | None = None
    trial_days: Annotated[int, Field(ge=0, le=366)] | None = None

    def over(self, plan: Plan) -> Plan:
        """The plan with these terms laid over it."""
        changes: dict[str, Any] = self.model_dump(exclude_none=True)
        if self.studies_per_month == "unlimited":
            changes["studies_per_month"] = None
        if self.packages is not None:
            changes["packages"] = frozenset(self.packages)
        if self.usage_tiers is not None:
            changes["usage_tiers"] = tuple(UsageTier(**one.model_dump()) for one in self.usage_tiers)
        return replace(plan, **changes)


class PlansSettings(Section):
    basic: PlanSettings = PlanSettings()
    professional: PlanSettings = PlanSettings()
    enterprise: PlanSettings = PlanSettings()

    @model_validator(mode="before")
    @classmethod
    def _tiers_are_known(cls, content: Any) -> Any:
        unknown = sorted(set(content) - set(Tier)) if isinstance(content, Mapping) else []
        if unknown:
            raise ValueError(f"there is no tier {', '.join(unknown)}; the tiers are {', '.join(Tier)}")
        return content

    @model_validator(mode="after")
    def _plans_can_be_meant(self) -> "PlansSettings":
        for tier, plan in self.plans.items():
            wrong = wrong_with(plan)
            if wrong is not None:
                raise ValueError(f"plans.{tier}: {wrong}")
        return self

    @property
    def plans(self) -> dict[Tier, Plan]:
        return {tier: getattr(self, tier).over(plan) for tier, plan in PLANS.items()}


class BillingSettings(Section):
    """The operator's side: of an invoice, and of Stripe."""

    name: Text = ""
    address: tuple[Text, ...] = ()
    tax_id: Text = ""
    payment: tuple[Text, ...] = ()
    number_prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{0,16}$")] = "INV-"
    net_days: Annotated[int, Field(ge=0, le=366)] = 30
    stripe_secret_key_file: Path | None = None
    stripe_webhook_secret_file: Path | None = None
    stripe_account: Annotated[str, StringConstraints(pattern=r"^(acct_[A-Za-z0-9]{1,64})?$")] = ""
    stripe_address: Annotated[str, StringConstraints(pattern=r"^(https?://[^\s]{1,200})?$")] = ""
    return_url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]{1,200}$")] = "http://127.0.0.1:8080/usage"

    @property
    def issuer(self) -> Issuer:
        return Issuer(
            party=Party(name=self.name, address=self.address, tax_id=self.tax_id),
            payment=self.payment,
            number_prefix=self.number_prefix,
            net_days=self.net_days,
        )


class ClinicBillingSettings(Section):
    """A clinic's side: when its periods begin, who pays, and what its accounts department wants to read."""

    period: Literal["calendar", "anniversary"] = "calendar"
    anchor: Annotated[int, Field(ge=1, le=31)] | None = None
    time_zone: Annotated[str, AfterValidator(_time_zone)] = "UTC"
    payer: Payer = Payer.NONE
    name: Text = ""
    address: tuple[Text, ...] = ()
    tax_id: Text = ""
    purchase_order: Text = ""

    @model_validator(mode="after")
    def _an_anniversary_has_its_day(self) -> "ClinicBillingSettings":
        if self.period == "anniversary" and self.anchor is None:
            raise ValueError('period is "anniversary", so anchor must say on which day of the month it begins, 1 to 31')
        if self.period == "calendar" and self.anchor not in (None, 1):
            raise ValueError(
                f'anchor is {self.anchor}, so period must be "anniversary"; a calendar month begins on day 1'
            )
        return self

    @property
    def terms(self) -> BillingTerms:
        return BillingTerms(
            payer=self.payer,
            periods=PeriodRule(anchor_day=self.anchor or 1, time_zone=self.time_zone),
            bill_to=Party(name=self.name, address=self.address, tax_id=self.tax_id),
            purchase_order=self.purchase_order,
        )
