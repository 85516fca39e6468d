"""The demonstration's PACS: as small as can be, it stores what it gets in files."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from domain.clinics import Caller, Clinic
from domain.plans import Tier
from scp.callers import Callers
from scp.server import Receiver
from scp.store import StoreHandler
from scu.store import describe
from storage.instances import Spool

PACS = "DEMO_PACS"
NODE = "COLLIMATOR"
LOOPBACK = "127.0.0.1"


class DemoPacs:
    """What it holds, and the port that it listens on."""

    def __init__(self, folder: Path) -> None:
        self.spool = Spool(folder)
        self.port = 0

    def files(self) -> list[Path]:
        return sorted(self.spool.path(key) for key in self.spool.stored_keys())

    def file_of(self, sop_instance_uid: str) -> Path:
        return next(path for path in self.files() if describe(path).sop_instance_uid == sop_instance_uid)


@contextmanager
def demo_pacs(folder: Path) -> Iterator[DemoPacs]:
    shutil.rmtree(folder, ignore_errors=True)
    pacs = DemoPacs(folder)
    clinic = Clinic(
        name="pacs",
        tier=Tier.BASIC,
        sends_notes=False,
        callers=(Caller(ae_title=NODE, host=LOOPBACK),),
        destinations=(),
    )
    receiver = Receiver(
        ae_title=PACS,
        host=LOOPBACK,
        port=0,
        callers=Callers([clinic]),
        store=StoreHandler(pacs.spool, called_ae_title=PACS, on_stored=lambda key: None),
        on_released=lambda association: None,
    )
    pacs.port = receiver.start()
    try:
        yield pacs
    finally:
        receiver.stop(grace_s=1.0)
