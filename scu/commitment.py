"""N-EVENT-REPORT for storage commitment (PS3.4 J.3.3): the node tells a caller what it answers for.

The node calls, although it is the SCP: on an association of its own it proposes the SCP role (PS3.7 D.3.3.4).
"""

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_role
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from domain.commitment import CommitmentReport, Reference
from domain.errors import Retry
from scu.store import Address, application_entity, associate, why_not

# PS3.4 Table J.3-2
COMMITMENT_REQUEST_SUCCESSFUL = 1
COMMITMENT_REQUEST_COMPLETE_FAILURES_EXIST = 2


def send_reports(
    reports: Sequence[CommitmentReport], to: Address, *, calling_ae_title: str, timeout_s: float
) -> list[str]:
    """Send reports over one association, in order. For each, why the caller does not have it; empty: it has it.

    Raises:
        Retry: no association came about, or the caller does not take the SOP class.
    """
    ae = application_entity(calling_ae_title, timeout_s)
    ae.add_requested_context(StorageCommitmentPushModel, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    # A caller that does not answer the proposal gets its report all the same: many modalities know no roles.
    role = build_role(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    association = associate(ae, to, roles=[role])
    if not association.is_established:
        hint = "check clinics.callers.commitment_port, and that the caller knows this node"
        raise Retry(why_not(association, to), hint=hint)
    try:
        return [_send(association, report) for report in reports]
    finally:
        if association.is_established:
            association.release()


def encode_report(report: CommitmentReport) -> tuple[int, Dataset]:
    """Event Type ID (0000,1002) and Event Information, PS3.4 Table J.3-3."""
    information = Dataset()
    information.TransactionUID = report.transaction_uid
    if report.committed:
        information.ReferencedSOPSequence = [_item(reference) for reference in report.committed]
    if not report.refused:
        return COMMITMENT_REQUEST_SUCCESSFUL, information
    information.FailedSOPSequence = [_item(refused.reference) for refused in report.refused]
    for item, refused in zip(information.FailedSOPSequence, report.refused, strict=True):
        item.FailureReason = int(refused.reason)
    return COMMITMENT_REQUEST_COMPLETE_FAILURES_EXIST, information


def _send(association: Association, report: CommitmentReport) -> str:
    if not association.is_established:
        return "the association ended before this report"
    event_type, information = encode_report(report)
    try:
        response, _ = association.send_n_event_report(
            information, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    except (RuntimeError, ValueError, OSError) as error:
        return str(error)
    status = response.get("Status")
    if status is None:
        return "the caller did not answer: timed out, aborted or closed the connection"
    return "" if status == 0x0000 else f"the caller answered 0x{status:04X}"


def _item(reference: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    return item
