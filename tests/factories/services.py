"""A receiver on a real port that serves DIMSE-N services, and requests as they reach one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

from domain.clinics import Caller, Clinic
from domain.plans import Tier
from scp.callers import Callers
from scp.limits import Limits
from scp.peer import Peer
from scp.requests import CommandField, Request, Services
from scp.server import Receiver
from scp.stock import StockReceiver
from scp.store import StoreHandler
from storage.instances import Spool
from tests.factories.arrivals import encoded

LOOPBACK = "127.0.0.1"
PATHS = ("fast", "stock")
CLINIC = Clinic(
    name="st-mary",
    tier=Tier.BASIC,
    sends_notes=False,
    callers=(
        Caller(ae_title="MODALITY1", host=LOOPBACK, commitment_port=4711),
        Caller(ae_title="MODALITY2", host=LOOPBACK),
    ),
    destinations=(),
)
MODALITY = Peer(association="a1", clinic="st-mary", ae_title="MODALITY1", address=LOOPBACK)


@contextmanager
def serving(
    folder: Path, path: str, services: Services, *, clinic: Clinic = CLINIC, limits: Limits | None = None
) -> Iterator[int]:
    """The port of a receiver on this path; it knows this clinic's callers: MODALITY1 and MODALITY2."""
    receiver = {"fast": Receiver, "stock": StockReceiver}[path](
        ae_title="COLLIMATOR",
        host=LOOPBACK,
        port=0,
        callers=Callers([clinic]),
        store=StoreHandler(Spool(folder), called_ae_title="COLLIMATOR", on_stored=lambda key: None, limits=limits),
        on_released=lambda association: None,
        services=services,
        limits=limits,
    )
    yield receiver.start()
    receiver.stop(grace_s=0.0)


@contextmanager
def associated(port: int, sop_class_uid: str, transfer_syntax_uid: str, *, ae_title: str) -> Iterator[Association]:
    """pynetdicom as the SCU of one service."""
    ae = AE(ae_title)
    ae.dimse_timeout = 10
    ae.add_requested_context(sop_class_uid, transfer_syntax_uid)
    association = ae.associate(LOOPBACK, port, ae_title="COLLIMATOR")
    assert association.is_established
    yield association
    association.release()


def request(
    command_field: CommandField,
    sop_class_uid: str,
    sop_instance_uid: str,
    data_set: Dataset | bytes,
    *,
    action_type_id: int | None = None,
) -> Request:
    """A request as it reaches a service, in Explicit VR Little Endian."""
    return Request(
        command_field=command_field,
        message_id=1,
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_instance_uid,
        transfer_syntax_uid=str(ExplicitVRLittleEndian),
        action_type_id=action_type_id,
        data_set=data_set if isinstance(data_set, bytes) else encoded(data_set),
    )
