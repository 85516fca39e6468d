"""A worker that asks Stripe once a second and not twice a minute; started by the journeys."""

import sys
from pathlib import Path

import cli.worker

if __name__ == "__main__":
    cli.worker.BILLING_ROUND_S = 1.0
    sys.exit(cli.worker.work(Path(sys.argv[1])))
