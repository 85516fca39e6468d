"""N-ACTION for storage commitment (PS3.4 J.3.2): a destination is asked to answer for what it stored.

    associate  ->  N-ACTION  ->  wait a little for the report on this association  ->  release

Most archives report later, on an association of their own, which the receiver takes (scp/confirmation.py). Some report
on this one or not at all, and so it is kept open for a moment.
"""

from collections.abc import Callable, Sequence
from threading import Event

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.events import Event as DimseEvent
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from domain.commitment import Reference
from domain.errors import Retry
from scu.store import Address, application_entity, associate, takes_nothing, why_not

REQUEST_STORAGE_COMMITMENT = 1  # Action Type ID (0000,1008), PS3.4 Table J.3-1
TRANSFER_SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
TICK_S = 0.1
HINT = "allow Storage Commitment for this node there, or set commitment = false for this destination"

# Is told of a report: Event Type ID, Event Information, its transfer syntax. Says with which Status it is answered.
OnReport = Callable[[int | None, bytes, str], int]


def request_commitment(
    transaction_uid: str,
    references: Sequence[Reference],
    to: Address,
    *,
    calling_ae_title: str,
    timeout_s: float,
    on_report: OnReport,
    report_within_s: float,
) -> None:
    """Ask; whatever report comes on this association is handed on. One may come later, on another.

    Raises:
        Retry: no association came about, or the destination does not take the SOP class, or not this request.
    """
    has_reported = Event()
    ae = application_entity(calling_ae_title, timeout_s)
    ae.add_requested_context(StorageCommitmentPushModel, list(TRANSFER_SYNTAXES))
    handlers = [(evt.EVT_N_EVENT_REPORT, _take_report, [on_report, has_reported])]
    association = associate(ae, to, handlers=handlers)
    if not association.is_established:
        if takes_nothing(association):
            raise Retry(f"{to.ae_title} at {to.host}:{to.port} does not take Storage Commitment", hint=HINT)
        raise Retry(why_not(association, to), hint="check that the destination is running and knows this AE title")
    try:
        response, _ = association.send_n_action(
            encode_request(transaction_uid, references),
            REQUEST_STORAGE_COMMITMENT,
            StorageCommitmentPushModel,
            StorageCommitmentPushModelInstance,
        )
        status = response.get("Status")
        if status is None:
            raise Retry("the destination did not answer: timed out, aborted or closed the connection")
        if status != 0x0000:
            raise Retry(f"the destination refused to commit: 0x{status:04X}", hint=HINT)
        for _ in range(round(report_within_s / TICK_S)):
            if has_reported.wait(TICK_S) or not association.is_established:
                break
    except (RuntimeError, ValueError, OSError) as error:
        raise Retry(str(error)) from error
    finally:
        if association.is_established:
            association.release()


def encode_request(transaction_uid: str, references: Sequence[Reference]) -> Dataset:
    """Action Information, PS3.4 Table J.3-2."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = [Dataset() for _ in references]
    for item, reference in zip(information.ReferencedSOPSequence, references, strict=True):
        item.ReferencedSOPClassUID = reference.sop_class_uid
        item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    return information


def _take_report(event: DimseEvent, on_report: OnReport, has_reported: Event) -> tuple[int, None]:
    information = event.request.EventInformation  # type: ignore[union-attr]
    content = information.getvalue() if information else b""
    status = on_report(event.event_type, content, str(event.context.transfer_syntax))
    has_reported.set()
    return status, None
