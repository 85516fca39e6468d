"""Tells the account's events to an endpoint: signed, and by chance twice and out of order, as Stripe may."""

import hmac
import json
import random
from collections.abc import Callable
from hashlib import sha256

from tests.stripe_server.account import Account
from tests.stripe_server.problems import Json

# Body and Stripe-Signature -> the status that the endpoint answers.
Post = Callable[[bytes, str], int]


class Webhooks:
    """`secret`: what the endpoint checks signatures with."""

    def __init__(self, account: Account, secret: str = "whsec_standin") -> None:
        self._account = account
        self.secret = secret
        self._told = 0

    def deliver(self, post: Post, *, chance: random.Random | None = None) -> list[int]:
        """Everything that is new. With `chance` shuffled, and a third of it twice."""
        with self._account.lock:
            new = list(self._account.events[self._told :])
            self._told += len(new)
        if chance is not None:
            new += [event for event in new if chance.random() < 1 / 3]
            chance.shuffle(new)
        return [self.send(post, event) for event in new]

    def send(self, post: Post, event: Json, *, at: float | None = None) -> int:
        body = json.dumps(event).encode()
        return post(body, self.signature(body, at=at))

    def signature(self, body: bytes, *, at: float | None = None, secret: str | None = None) -> str:
        moment = int(self._account.now if at is None else at)
        mac = hmac.new((secret or self.secret).encode(), f"{moment}.".encode() + body, sha256)
        return f"t={moment},v1={mac.hexdigest()}"
