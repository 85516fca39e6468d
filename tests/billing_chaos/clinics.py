"""Three clinics whose plans make money move: few studies are included, the others cost by two tiers of use."""

from dataclasses import replace

from domain.billing import BillingTerms, Payer
from domain.clinics import Clinic
from domain.periods import PeriodRule
from domain.plans import PLANS as USUAL
from domain.plans import Plan, Tier, UsageTier


def _metered(tier: Tier, included: int) -> Plan:
    light = UsageTier(name="light", up_to=included * 3, price_usd_cents=40)
    heavy = UsageTier(name="heavy", up_to=None, price_usd_cents=25)
    return replace(USUAL[tier], studies_per_month=included, usage_tiers=(light, heavy))


PLANS = {
    Tier.BASIC: _metered(Tier.BASIC, 20),
    Tier.PROFESSIONAL: _metered(Tier.PROFESSIONAL, 60),
    Tier.ENTERPRISE: USUAL[Tier.ENTERPRISE],
}


def _clinic(name: str, tier: Tier, periods: PeriodRule) -> Clinic:
    terms = BillingTerms(payer=Payer.STRIPE, periods=periods)
    return Clinic(name=name, tier=tier, sends_notes=False, callers=(), destinations=(), billing=terms)


CLINICS = (
    _clinic("st-mary", Tier.PROFESSIONAL, PeriodRule()),
    _clinic("mercy", Tier.BASIC, PeriodRule(anchor_day=31)),
    _clinic("bergen", Tier.ENTERPRISE, PeriodRule(time_zone="Europe/Berlin")),
)
