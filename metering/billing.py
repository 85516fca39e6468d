"""The port to whoever collects the money. The ledger is the truth; behind this port is a copy of it.

    close_period   a clinic's period is over: ask for what it owes. Doing it again asks for nothing more.
    told           whether this payer knows all that the ledger says of a period

`metering/invoices.py` implements it with invoices that the node writes itself.
"""

from typing import Protocol

import sqlalchemy as sa

from domain.clinics import Clinic
from domain.periods import Period


class Billing(Protocol):
    """One payer's side. Both are called in a transaction that holds the clinic's lock."""

    def close_period(self, connection: sa.Connection, clinic: Clinic, period: Period) -> None: ...

    def told(self, connection: sa.Connection, clinic: Clinic, period: Period) -> bool: ...
