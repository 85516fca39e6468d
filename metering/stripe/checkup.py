"""Asks Stripe whether it can bill for this node: the key, its account, the clinics' customers, what can be bought.

Nothing is made or changed there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import stripe

from domain.plans import Plan, Tier
from metering.stripe.accounts import Account
from metering.stripe.answers import Meaning, ask
from metering.stripe.catalogue import missing_from


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkup:
    """`meaning`: of its answer to what billing needs; the rest is known only where that is DONE. `account`: whose the
    key is; empty: a restricted key that may not ask for it. `missing`: of the catalogue. `strangers`: clinics whose
    customer is not to be found with this key.
    """

    meaning: Meaning
    why: str = ""
    account: str = ""
    missing: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()

    @property
    def is_answered(self) -> bool:
        return self.meaning is Meaning.DONE

    @property
    def is_key_refused(self) -> bool:
        return self.meaning in (Meaning.NOT_ALLOWED, Meaning.REFUSED)


def check(client: stripe.StripeClient, plans: Mapping[Tier, Plan], accounts: Sequence[Account]) -> Checkup:
    catalogue = ask(lambda: missing_from(client, plans))
    if catalogue.meaning is not Meaning.DONE:
        return Checkup(meaning=catalogue.meaning, why=catalogue.why)
    own = ask(client.v1.accounts.retrieve_current)
    return Checkup(
        meaning=Meaning.DONE,
        account=str(own.content.id) if own.meaning is Meaning.DONE else "",
        missing=tuple(catalogue.content),
        strangers=tuple(account.clinic for account in accounts if not _is_known(client, account.customer_id)),
    )


def _is_known(client: stripe.StripeClient, customer_id: str) -> bool:
    """Of one that was deleted Stripe tells only that."""
    answer = ask(lambda: client.v1.customers.retrieve(customer_id))
    is_deleted = answer.meaning is Meaning.DONE and bool(getattr(answer.content, "deleted", False))
    return answer.meaning is not Meaning.REFUSED and not is_deleted
