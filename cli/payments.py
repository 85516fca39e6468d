"""Opens what bills by Stripe, where the node has a key for it. Its library is loaded then and not before."""

from typing import TYPE_CHECKING

import structlog

from config.settings import Settings
from domain.billing import Payer
from storage.database import Database, utc_now

if TYPE_CHECKING:
    from metering.stripe.billing import StripeBilling

log = structlog.get_logger()


def open_payments(settings: Settings, database: Database) -> "StripeBilling | None":
    """None: there is no key. The ledger goes on without one, and nobody is billed by Stripe.

    Raises:
        Misconfigured: a key cannot be read, or is none.
    """
    from metering.stripe.keys import read_keys

    keys = read_keys(
        settings.billing.stripe_secret_key_file,
        settings.billing.stripe_webhook_secret_file,
        account=settings.billing.stripe_account,
    )
    if not keys.secret_key:
        waiting = [clinic.name for clinic in settings.clinic_directory if clinic.billing.payer is Payer.STRIPE]
        if waiting:
            log.warning("stripe_has_no_key", clinics=waiting)
        return None
    from metering.stripe.billing import StripeBilling
    from metering.stripe.client import open_client

    return StripeBilling(
        database,
        open_client(keys, address=settings.billing.stripe_address),
        keys=keys,
        clinics=settings.clinic_directory,
        plans=settings.plans.plans,
        clock=utc_now,
    )
