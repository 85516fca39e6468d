"""What an answer of Stripe's means, or that there was none: the one place that knows its errors.

done          200, or "already exists": it was done before
too fast      429, or 409: nothing was done; the same later
refused       any other 4xx: nothing was done, and nothing will be for the same request
not allowed   401, 403: the key is wrong; a person has to change it
fault         500: perhaps it was done; Stripe repeats this answer for the same Idempotency-Key
no answer     the connection failed or ended: perhaps it was done
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import stripe

from domain.errors import Refuse, Retry


class Meaning(StrEnum):
    DONE = "done"
    TOO_FAST = "too fast"
    REFUSED = "refused"
    NOT_ALLOWED = "not allowed"
    FAULT = "fault"
    NO_ANSWER = "no answer"


# Whether Stripe is there at all: what waits may be tried with the next request.
IS_AWAY = {Meaning.TOO_FAST, Meaning.NOT_ALLOWED, Meaning.NO_ANSWER}


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """`content`: what Stripe said, where it did what was asked now."""

    meaning: Meaning
    why: str = ""
    content: Any = None


def ask(request: Callable[[], Any]) -> Answer:
    """Make one request, and say what came of it."""
    try:
        return Answer(meaning=Meaning.DONE, content=request())
    except stripe.RateLimitError as error:
        return _answer(Meaning.TOO_FAST, error)
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        return _answer(Meaning.NOT_ALLOWED, error)
    except stripe.APIConnectionError as error:
        return _answer(Meaning.NO_ANSWER, error)
    except stripe.StripeError as error:
        status = error.http_status or 500
        if status >= 500:
            return _answer(Meaning.FAULT, error)
        if status == 409:
            return _answer(Meaning.TOO_FAST, error)
        if "already exists with identifier" in str(error) or "is already cancelled" in str(error):
            return _answer(Meaning.DONE, error)
        return _answer(Meaning.REFUSED, error)


@contextmanager
def in_our_words() -> Iterator[None]:
    """For what a person asked for: Stripe's errors as the house's own.

    Raises:
        Retry: it may work later.
        Refuse: it will not; the message is Stripe's.
    """
    try:
        yield
    except (stripe.APIConnectionError, stripe.RateLimitError) as error:
        raise Retry("Stripe does not answer", hint="try again in a minute") from error
    except stripe.StripeError as error:
        if (error.http_status or 500) >= 500:
            raise Retry("Stripe has a fault of its own", hint="try again in a minute") from error
        raise Refuse(f"Stripe refuses: {_said(error)}", reason="stripe_refuses") from error


def _said(error: stripe.StripeError) -> str:
    return " ".join((error.user_message or type(error).__name__).split())


def _answer(meaning: Meaning, error: stripe.StripeError) -> Answer:
    return Answer(meaning=meaning, why=f"{meaning}: {_said(error)}")
