"""A worker's billing rounds as a process of its own, so that it can be killed: one for each time that comes as a line.

python -m tests.billing_chaos.sender DATABASE_URL STRIPE_ADDRESS
"""

import sys
from datetime import datetime

import structlog

from metering.stripe.billing import StripeBilling
from metering.stripe.client import open_client
from storage.database import Database
from tests.billing_chaos.clinics import CLINICS, PLANS
from tests.factories.stripe_house import KEYS


def main(database_url: str, address: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    times: list[datetime] = []
    billing = StripeBilling(
        Database(database_url),
        open_client(KEYS, address=address),
        keys=KEYS,
        clinics=CLINICS,
        plans=PLANS,
        clock=lambda: times[-1],
    )
    print("ready", flush=True)
    for line in sys.stdin:
        times.append(datetime.fromisoformat(line.strip()))
        billing.round()
        print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
