"""The keys to Stripe, from files or from the environment. Reading them loads nothing of Stripe's."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from domain.errors import Misconfigured

KEY_VARIABLE, WEBHOOK_VARIABLE = "STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET"
KEY_PREFIXES, WEBHOOK_PREFIX = ("sk_", "rk_"), "whsec_"


@dataclass(frozen=True, kw_only=True, slots=True)
class StripeKeys:
    """secret_key: empty: there is no Stripe. account: whose events may come besides our own; empty: nobody's."""

    secret_key: str = ""
    webhook_secret: str = ""
    account: str = ""

    @property
    def is_live(self) -> bool:
        """Whether real money moves."""
        return "_live_" in self.secret_key


def read_keys(
    secret_key_file: Path | None,
    webhook_secret_file: Path | None,
    *,
    account: str = "",
    environment: Mapping[str, str] = os.environ,
) -> StripeKeys:
    """The files win over the environment.

    Raises:
        Misconfigured: a file cannot be read, or holds something else.
    """
    secret_key = _read(secret_key_file, "billing.stripe_secret_key_file", environment.get(KEY_VARIABLE, ""))
    webhook_secret = _read(
        webhook_secret_file, "billing.stripe_webhook_secret_file", environment.get(WEBHOOK_VARIABLE, "")
    )
    if secret_key and not secret_key.startswith(KEY_PREFIXES):
        raise Misconfigured("Stripe's secret key does not begin with sk_ or rk_", hint="a publishable key cannot bill")
    if webhook_secret and not webhook_secret.startswith(WEBHOOK_PREFIX):
        raise Misconfigured(
            "the webhook secret does not begin with whsec_", hint="Stripe shows it with the webhook endpoint"
        )
    return StripeKeys(secret_key=secret_key, webhook_secret=webhook_secret, account=account)


def _read(path: Path | None, key: str, otherwise: str) -> str:
    if path is None:
        return otherwise.strip()
    if path.name.startswith((*KEY_PREFIXES, WEBHOOK_PREFIX)):
        raise Misconfigured(f"{key} is the secret itself", hint="write it into a file, and the file's path here")
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{key} cannot be read: {error}") from error
