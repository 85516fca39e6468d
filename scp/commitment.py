"""Storage Commitment Push Model as SCP (PS3.4 Annex J): N-ACTION, which asks the node to answer for instances.

    N-ACTION  ->  checked  ->  durable in transactions and requests/commitments  ->  0x0000

                                                                         (workflow/commitment.py reports)

Whether the instances are here is not looked at here: this path has no database, and the answer to N-ACTION only says
that a report will come.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime

import structlog

from domain.clinics import Clinic
from domain.commitment import CommitmentRequest, Reference, who_is_told
from domain.errors import Refuse
from scp.attributes import Attributes, Malformed, TooManyItems, is_uid, items, parse, text
from scp.peer import Peer
from scp.requests import Request, Response
from scp.status import Status
from storage.plain import to_plain
from storage.requests.files import RequestBox
from storage.requests.transactions import Transactions

log = structlog.get_logger()

WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"  # PS3.4 J.3.5
REQUEST_STORAGE_COMMITMENT = 1  # Action Type ID (0000,1008), PS3.4 Table J.3-1
MOST_REFERENCES = 10_000
MOST_ITEMS = MOST_REFERENCES + 100  # a request may name its performed procedure step as well


class CommitmentService:
    """`box` takes what was answered with success; what it was asked for before is remembered beside it."""

    def __init__(self, box: RequestBox, clinics: Iterable[Clinic]) -> None:
        self._box = box
        self._transactions = Transactions(box.data_dir)
        self._callers = {clinic.name: clinic.callers for clinic in clinics}

    def handle(self, request: Request, peer: Peer) -> Response:
        """Answer one N-ACTION; the Status codes are those of PS3.7 10.1.4.1.10."""
        status = self._why_not(request, peer)
        if status is None:
            status = self._accept(request, peer)
        return Response(status=status)

    def _why_not(self, request: Request, peer: Peer) -> Status | None:
        if not peer.clinic:
            return self._refuse(peer, Status.NOT_AUTHORIZED, "the caller is known for no clinic")
        if request.sop_instance_uid != WELL_KNOWN_INSTANCE:
            return self._refuse(peer, Status.NO_SUCH_SOP_INSTANCE, "not the well-known instance")
        if request.action_type_id != REQUEST_STORAGE_COMMITMENT:
            return self._refuse(peer, Status.NO_SUCH_ACTION, "not action type 1")
        if who_is_told(self._callers.get(peer.clinic, ()), peer.ae_title, peer.address) is None:
            reason = "clinics.callers.commitment_port is not set for this caller: nobody to report to"
            return self._refuse(peer, Status.PROCESSING_FAILURE, reason)
        return None

    def _accept(self, request: Request, peer: Peer) -> Status:
        try:
            commitment = _read(parse(request.data_set, request.transfer_syntax_uid, most_items=MOST_ITEMS), peer)
            # Remembered first: nothing else is ever in the box under this Transaction UID, whenever we die.
            with self._transactions.entered(commitment) as entered:
                self._box.put(json.dumps(to_plain(entered)).encode())
        except Malformed as error:
            return self._refuse(peer, Status.INVALID_ARGUMENT_VALUE, str(error))
        except Refuse as refusal:
            return self._refuse(peer, Status.INVALID_ARGUMENT_VALUE, refusal.message)
        except TooManyItems as error:
            return self._refuse(peer, Status.RESOURCE_LIMITATION, str(error))
        except OSError as error:
            return self._refuse(peer, Status.RESOURCE_LIMITATION, error.strerror or type(error).__name__)
        log.info("commitment_requested", clinic=peer.clinic, calling_ae=peer.ae_title, count=len(commitment.asked))
        return Status.SUCCESS

    def _refuse(self, peer: Peer, status: Status, reason: str) -> Status:
        log.warning(
            "commitment_refused",
            reason=reason,
            status=f"0x{status:04X}",
            calling_ae=peer.ae_title,
            peer_address=peer.address,
        )
        return status


def _read(action_information: Attributes, peer: Peer) -> CommitmentRequest:
    """PS3.4 Table J.3-2. An instance that is named twice is answered for once.

    Raises:
        Malformed: no Transaction UID (0008,1195), no instance, or one without its two UIDs.
        TooManyItems: more instances than MOST_REFERENCES.
    """
    transaction_uid = text(action_information, "TransactionUID")
    if not is_uid(transaction_uid):
        raise Malformed("there is no Transaction UID")
    asked = tuple(dict.fromkeys(read_reference(item) for item in items(action_information, "ReferencedSOPSequence")))
    if not asked:
        raise Malformed("Referenced SOP Sequence has no item")
    if len(asked) > MOST_REFERENCES:
        raise TooManyItems(f"more than {MOST_REFERENCES} instances in one request")
    return CommitmentRequest(
        clinic=peer.clinic,
        calling_ae_title=peer.ae_title,
        peer_address=peer.address,
        transaction_uid=transaction_uid,
        asked=asked,
        requested_at=datetime.now(UTC),
    )


def read_reference(item: Attributes) -> Reference:
    """An item of Referenced SOP Sequence (0008,1199), or of Failed SOP Sequence.

    Raises:
        Malformed: one of its two UIDs is not there.
    """
    reference = Reference(
        sop_class_uid=text(item, "ReferencedSOPClassUID"),
        sop_instance_uid=text(item, "ReferencedSOPInstanceUID"),
    )
    if not (is_uid(reference.sop_class_uid) and is_uid(reference.sop_instance_uid)):
        raise Malformed("an item has no SOP Class UID or no SOP Instance UID")
    return reference
