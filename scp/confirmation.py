"""Storage Commitment Push Model as SCU (PS3.4 J.3.3): N-EVENT-REPORT, a destination answers for what it stored.

    N-EVENT-REPORT  ->  who was asked under this transaction?  ->  durable in requests/reports  ->  0x0000

                                                                           (workflow/confirm.py acts on it)

The destination was asked by workflow/confirm.py. It reports on the association on which it was asked, or on one of its
own; both come through this door. The other way round, where callers ask the node, is scp/commitment.py.
"""

from collections.abc import Callable, Iterable

import structlog

from domain.clinics import Clinic
from domain.confirmation import Failed, Report
from domain.errors import Retry
from domain.hosts import Network
from scp.attributes import Attributes, Malformed, TooManyItems, is_uid, items, number, parse, text
from scp.callers import is_destination
from scp.commitment import MOST_ITEMS, WELL_KNOWN_INSTANCE, read_reference
from scp.names import look_up
from scp.peer import Peer
from scp.requests import Request, Response
from scp.status import Status
from storage.requests.confirmation_folder import ConfirmationFolder

log = structlog.get_logger()

# Event Type ID (0000,1002), PS3.4 Table J.3-3: successful, or complete with failures. The sequences tell which.
EVENT_TYPES = (1, 2)


class Refusal(Exception):
    """The report is answered with this Status."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class ConfirmationService:
    """`folder` knows who was asked, and takes what was answered with success.

    networks: what the host of a destination stands for. On the port it must not ask a name server.
    """

    def __init__(
        self,
        folder: ConfirmationFolder,
        clinics: Iterable[Clinic],
        *,
        networks: Callable[[str], Iterable[Network]] = look_up,
    ) -> None:
        self._folder = folder
        self._networks = networks
        self._destinations = {
            (clinic.name, destination.name): destination for clinic in clinics for destination in clinic.destinations
        }

    def handle(self, request: Request, peer: Peer) -> Response:
        """Answer one N-EVENT-REPORT; the Status codes are those of PS3.7 10.1.1.1.8."""
        try:
            report = self._read(request, peer)
            self._folder.keep(report)
        except Refusal as refusal:
            return self._refuse(peer, refusal.status, str(refusal))
        except Malformed as error:
            return self._refuse(peer, Status.INVALID_ARGUMENT_VALUE, str(error))
        except TooManyItems as error:
            return self._refuse(peer, Status.RESOURCE_LIMITATION, str(error))
        except Retry as error:
            return self._refuse(peer, Status.RESOURCE_LIMITATION, error.message)
        except OSError as error:
            return self._refuse(peer, Status.RESOURCE_LIMITATION, error.strerror or type(error).__name__)
        log.info("report_received", calling_ae=peer.ae_title, count=len(report.committed) + len(report.failed))
        return Response(status=Status.SUCCESS)

    def _read(self, request: Request, peer: Peer) -> Report:
        if request.sop_instance_uid != WELL_KNOWN_INSTANCE:
            raise Refusal(Status.NO_SUCH_SOP_INSTANCE, "not the well-known instance")
        if request.event_type_id not in EVENT_TYPES:
            raise Refusal(Status.NO_SUCH_EVENT_TYPE, "not event type 1 or 2")
        # What anybody may send is not read: only a destination has anything to report.
        if not any(self._is_that(*one, peer) for one in self._destinations):
            raise Refusal(Status.INVALID_ARGUMENT_VALUE, "the sender is no destination")
        report = _read(parse(request.data_set, request.transfer_syntax_uid, most_items=MOST_ITEMS))
        asked = self._folder.asked_under(report.transaction_uid)
        if asked is None:
            raise Refusal(Status.INVALID_ARGUMENT_VALUE, "nobody was asked under this Transaction UID")
        if not self._is_that(asked.clinic, asked.destination, peer):
            # It gets the same answer: what somebody else was asked is not for it to know.
            raise Refusal(Status.INVALID_ARGUMENT_VALUE, "another destination was asked under this Transaction UID")
        return report

    def _is_that(self, clinic: str, name: str, peer: Peer) -> bool:
        """Whether the peer is this destination: at the destination's address, or at that of a caller of its clinic that
        has the same AE title. Many an archive has several addresses.
        """
        destination = self._destinations.get((clinic, name))
        if destination is None or peer.ae_title != destination.ae_title:
            return False
        return peer.clinic == clinic or is_destination(destination, peer.ae_title, peer.address, self._networks)

    def _refuse(self, peer: Peer, status: Status, reason: str) -> Response:
        log.warning(
            "report_refused",
            reason=reason,
            status=f"0x{status:04X}",
            calling_ae=peer.ae_title,
            peer_address=peer.address,
        )
        return Response(status=status)


def _read(event_information: Attributes) -> Report:
    """PS3.4 Table J.3-3.

    Raises:
        Malformed: no Transaction UID (0008,1195), no instance, or one without its two UIDs.
    """
    transaction_uid = text(event_information, "TransactionUID")
    if not is_uid(transaction_uid):
        raise Malformed("there is no Transaction UID")
    report = Report(
        transaction_uid=transaction_uid,
        committed=tuple(map(read_reference, items(event_information, "ReferencedSOPSequence"))),
        failed=tuple(
            Failed(reference=read_reference(item), reason=number(item, "FailureReason"))
            for item in items(event_information, "FailedSOPSequence")
        ),
    )
    if not report.committed and not report.failed:
        raise Malformed("the report names no instance")
    return report
