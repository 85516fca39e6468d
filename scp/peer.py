"""The other end of an accepted association."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """`association` is a random name for this one association; it ties its instances together.

    clinic: the clinic that it sends for; "" when no clinic knows it and what it sends is quarantined.
    """

    association: str
    clinic: str
    ae_title: str
    address: str
