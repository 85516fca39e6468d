"""A receiver in a process of its own, so that a test can measure it from outside: its memory, threads and descriptors.

python -m tests.scp.listening_process FOLDER     prints its port, and ends with its standard input
"""

import sys
from pathlib import Path

import structlog

from domain.clinics import Caller, Clinic
from domain.plans import Tier
from scp.callers import Callers
from scp.limits import MEBIBYTE, Limits
from scp.server import Receiver
from scp.store import StoreHandler
from storage.instances import Spool

LIMITS = Limits(
    maximum_associations=8,
    maximum_associations_per_caller=6,
    maximum_associations_per_address=7,
    maximum_unassociated=16,
    maximum_memory_for_messages=6 * MEBIBYTE,
    maximum_instance_size=16 * MEBIBYTE,
    maximum_inflated_size=32 * MEBIBYTE,
    artim_s=1.0,
    association_timeout_s=2.0,
)
CLINIC = Clinic(
    name="st-mary",
    tier=Tier.BASIC,
    sends_notes=False,
    callers=(
        Caller(ae_title="MODALITY1", host="127.0.0.1"),
        Caller(ae_title="MODALITY2", host="127.0.0.1"),
        Caller(ae_title="MODALITY3", host="127.0.0.2"),
    ),
    destinations=(),
)


def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # nobody reads more than the port
    store = StoreHandler(
        Spool(Path(sys.argv[1])), called_ae_title="COLLIMATOR", on_stored=lambda key: None, limits=LIMITS
    )
    receiver = Receiver(
        ae_title="COLLIMATOR",
        host="127.0.0.1",
        port=0,
        callers=Callers([CLINIC]),
        store=store,
        on_released=lambda association: None,
        limits=LIMITS,
    )
    print(receiver.start(), flush=True)
    sys.stdin.read()
    receiver.stop(grace_s=0.0)


if __name__ == "__main__":
    main()
