"""Modality Performed Procedure Step as SCP (PS3.4 F.7): N-CREATE when a modality begins, N-SET until it has ended.

    N-CREATE, N-SET  ->  checked against the step's file  ->  durable in procedure_steps  ->  0x0000

The step's file is the truth and needs no database; its row, which study completion looks at, follows.
Of what modalities may say only three things are kept: the status, the study, and which instances were made.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import structlog
from pydicom.uid import generate_uid

from domain.procedure_step import ProcedureStep, StepStatus
from scp.attributes import Attributes, Malformed, TooManyItems, is_uid, items, parse, text
from scp.peer import Peer
from scp.requests import Request, Response
from scp.status import Status
from storage.requests.step_folder import StepFolder

log = structlog.get_logger()

MODALITY_PERFORMED_PROCEDURE_STEP = "1.2.840.10008.3.1.2.3.3"
MOST_ITEMS = 20_000  # of all sequences: series, images, codes, consumed film
# Where Performed Series Sequence (0040,0340) lists what was made (PS3.3 C.4.15).
INSTANCE_SEQUENCES = ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence")


# PS3.4 Table F.7.2-2: the Error ID (0000,0903) and the Error Comment (0000,0902) of an N-SET that comes too late.
MAY_NO_LONGER_BE_UPDATED = 0xA710, "Performed Procedure Step Object may no longer be updated"


class Refusal(Exception):
    """The request is answered with this Status. `told`: what else the answer says."""

    def __init__(self, status: Status, reason: str, told: tuple[int | None, str] = (None, "")) -> None:
        super().__init__(reason)
        self.status = status
        self.told = told


class ProcedureStepService:
    """`folder` keeps the steps."""

    def __init__(self, folder: StepFolder) -> None:
        self._folder = folder

    def handle_create(self, request: Request, peer: Peer) -> Response:
        """Answer one N-CREATE; the Status codes are those of PS3.7 10.1.5.1.6."""
        return self._answer("procedure_step_created", self._create, request, peer)

    def handle_set(self, request: Request, peer: Peer) -> Response:
        """Answer one N-SET; the Status codes are those of PS3.7 10.1.3.1.9 and PS3.4 F.7.2.2.3."""
        return self._answer("procedure_step_set", self._set, request, peer)

    def _answer(
        self, event: str, change: Callable[[Request, Peer], ProcedureStep], request: Request, peer: Peer
    ) -> Response:
        try:
            if not peer.clinic:
                raise Refusal(Status.NOT_AUTHORIZED, "the caller is known for no clinic")
            step = change(request, peer)
        except Refusal as refusal:
            return self._refuse(peer, refusal.status, str(refusal), refusal.told)
        except Malformed as error:
            return self._refuse(peer, Status.INVALID_ATTRIBUTE_VALUE, str(error))
        except TooManyItems as error:
            return self._refuse(peer, Status.RESOURCE_LIMITATION, str(error))
        except OSError as error:
            return self._refuse(peer, Status.RESOURCE_LIMITATION, error.strerror or type(error).__name__)
        log.info(event, clinic=peer.clinic, calling_ae=peer.ae_title, reason=str(step.status))
        return Response(status=Status.SUCCESS, sop_instance_uid=step.sop_instance_uid)

    def _create(self, request: Request, peer: Peer) -> ProcedureStep:
        sop_instance_uid = request.sop_instance_uid or generate_uid(prefix=None)  # PS3.7 10.1.5.1.4: the SCP's choice
        if not is_uid(sop_instance_uid):
            raise Refusal(Status.INVALID_OBJECT_INSTANCE, "the SOP Instance UID is not a UID")
        attributes = _parsed(request)
        status = _status(attributes)
        if status is None:
            raise Refusal(Status.MISSING_ATTRIBUTE, "Performed Procedure Step Status is missing")
        if status is not StepStatus.IN_PROGRESS:
            raise Malformed("a step begins IN PROGRESS")
        step = ProcedureStep(
            clinic=peer.clinic,
            sop_instance_uid=sop_instance_uid,
            study_instance_uid=_study_instance_uid(attributes),
            status=status,
            performed=_performed(attributes) or (),
            updated_at=datetime.now(UTC),
        )
        with self._folder.locked():
            if self._folder.read(peer.clinic, sop_instance_uid) is not None:
                raise Refusal(Status.DUPLICATE_SOP_INSTANCE, "there is a step with this SOP Instance UID")
            self._folder.write(step)
        return step

    def _set(self, request: Request, peer: Peer) -> ProcedureStep:
        attributes = _parsed(request)
        status, performed = _status(attributes), _performed(attributes)
        with self._folder.locked():
            known = self._folder.read(peer.clinic, request.sop_instance_uid)
            if known is None:
                raise Refusal(Status.NO_SUCH_SOP_INSTANCE, "there is no step with this SOP Instance UID")
            if known.status is not StepStatus.IN_PROGRESS:
                reason = f"the step is {known.status} and may no longer be updated"
                raise Refusal(Status.PROCESSING_FAILURE, reason, MAY_NO_LONGER_BE_UPDATED)
            step = replace(
                known,
                status=status or known.status,
                performed=known.performed if performed is None else performed,
                updated_at=datetime.now(UTC),
            )
            self._folder.write(step)
        return step

    def _refuse(self, peer: Peer, status: Status, reason: str, told: tuple[int | None, str] = (None, "")) -> Response:
        log.warning(
            "procedure_step_refused",
            reason=reason,
            status=f"0x{status:04X}",
            calling_ae=peer.ae_title,
            peer_address=peer.address,
        )
        error_id, error_comment = told
        return Response(status=status, error_id=error_id, error_comment=error_comment)


def _parsed(request: Request) -> Attributes:
    return parse(request.data_set, request.transfer_syntax_uid, most_items=MOST_ITEMS)


def _status(attributes: Attributes) -> StepStatus | None:
    """Performed Procedure Step Status (0040,0252); None where the request does not say.

    Raises:
        Malformed: it is none of the three that PS3.3 C.4.14 defines.
    """
    value = text(attributes, "PerformedProcedureStepStatus")
    try:
        return StepStatus(value) if value else None
    except ValueError as error:
        raise Malformed("Performed Procedure Step Status is none of those defined") from error


def _study_instance_uid(attributes: Attributes) -> str:
    """That of the first item of Scheduled Step Attributes Sequence (0040,0270): all of them have the same.

    Raises:
        Refusal: it is missing (Type 1, PS3.4 Table F.7.2-1).
        Malformed: it is not a UID.
    """
    scheduled = items(attributes, "ScheduledStepAttributesSequence")
    study_instance_uid = text(scheduled[0], "StudyInstanceUID") if scheduled else ""
    if not study_instance_uid:
        raise Refusal(Status.MISSING_ATTRIBUTE, "Study Instance UID is missing in Scheduled Step Attributes Sequence")
    if not is_uid(study_instance_uid):
        raise Malformed("the Study Instance UID is not a UID")
    return study_instance_uid


def _performed(attributes: Attributes) -> tuple[str, ...] | None:
    """SOP Instance UIDs of everything in Performed Series Sequence (0040,0340); None where the request has none.

    An N-SET sends the sequence whole: it takes the place of what was there (PS3.4 F.7.2.2.2).

    Raises:
        Malformed: an instance is listed without its UID.
    """
    if "PerformedSeriesSequence" not in attributes:
        return None
    uids = [
        text(instance, "ReferencedSOPInstanceUID")
        for series in items(attributes, "PerformedSeriesSequence")
        for keyword in INSTANCE_SEQUENCES
        for instance in items(series, keyword)
    ]
    if not all(map(is_uid, uids)):
        raise Malformed("an instance in Performed Series Sequence has no SOP Instance UID")
    return tuple(dict.fromkeys(uids))
