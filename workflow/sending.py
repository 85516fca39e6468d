"""A job's association with one destination: the results of one study after the other go over it.

Results lie uncompressed. Where a destination is to get its pictures compressed and has accepted that, they are
compressed on their way; where it has not, or then refuses one, they go as they lie.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from pydicom.uid import RLELossless, SecondaryCaptureImageStorage

from domain.clinics import Destination
from domain.errors import Retry
from inference.rle import with_rle_lossless
from scu.store import (
    MAXIMUM_CONTEXTS,
    Answer,
    OutgoingFile,
    SendOutcome,
    StoreAssociation,
    address_of,
    store_association,
)
from storage import deliveries
from storage.deliveries import PendingResult
from workflow.rooms import Rooms

DUPLICATE_SOP_INSTANCE = 0x0111  # PS3.7 Annex C
COMPRESSED_PICTURE = (str(SecondaryCaptureImageStorage), str(RLELossless))


class Line(StrEnum):
    """The association after a study. FAILED: there was none to send it over. BROKEN: it ended while it was sent."""

    UP = "up"
    BROKEN = "broken"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """The outcome for each result of one study that was sent, or was to be sent."""

    outcomes: tuple[SendOutcome, ...]
    line: Line = Line.UP

    @property
    def has_stored(self) -> bool:
        return any(outcome.answer is Answer.STORED for outcome in self.outcomes)

    @property
    def is_not_taken(self) -> bool:
        return any(outcome.answer is Answer.NOT_TAKEN for outcome in self.outcomes)

    @property
    def choked_on(self) -> str:
        """SOP Instance UID of the result during which the association ended; empty: none."""
        if self.line is not Line.BROKEN:
            return ""
        lost = (o.sop_instance_uid for o in self.outcomes if o.answer is Answer.RETRY and o.status is None)
        return next(lost, "")

    @property
    def error(self) -> str:
        """Why the line is not up."""
        return "" if self.line is Line.UP else next(o.detail for o in self.outcomes if o.answer is Answer.RETRY)


class Sender:
    """Sends what is due to one destination. The association is proposed when the first result needs it."""

    def __init__(self, rooms: Rooms, clinic: str, destination: str) -> None:
        self._rooms = rooms
        self.clinic = clinic
        self.destination = destination
        self._open = ExitStack()
        self._association: StoreAssociation | None = None
        self._contexts: list[tuple[str, str]] = []
        self._compresses = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def at_rest(self) -> AbstractContextManager[None]:
        """The association while nothing is to be sent."""
        return nullcontext() if self._association is None else self._association.at_rest()

    def send(self, study_id: int) -> Sent:
        """Send what is due of one study. A peer that cannot be reached is an outcome, not an error."""
        due = deliveries.results_due(self._rooms.database, study_id, self.destination)
        if not due:
            return Sent(outcomes=())
        if self._rooms.destination(self.clinic, self.destination) is None:
            return _all(due, Answer.REFUSED, f"destination {self.destination} is no longer configured")
        try:
            association = self._associate()
        except Retry as error:
            return _all(due, Answer.RETRY, error.message, Line.FAILED)
        # What came since the association was proposed may need a context that it has not: the next job brings it.
        due = [result for result in due if (result.sop_class_uid, result.transfer_syntax_uid) in self._contexts]
        was_open = association.is_open
        with ExitStack() as lent:
            try:
                files = [self._outgoing(result, lent) for result in due]
            except OSError as error:
                return _all(due, Answer.RETRY, f"a result cannot be read: {error.strerror}")
            outcomes = tuple(_already_there(self._store(association, file)) for file in files)
        if association.is_open or not any(outcome.answer is Answer.RETRY for outcome in outcomes):
            return Sent(outcomes=outcomes)
        return Sent(outcomes=outcomes, line=Line.BROKEN if was_open else Line.FAILED)

    def _associate(self) -> StoreAssociation:
        if self._association is None:
            destination = self._rooms.destination(self.clinic, self.destination)
            assert destination is not None
            self._contexts = deliveries.pending_contexts(
                self._rooms.database, clinic=self.clinic, destination=self.destination, limit=MAXIMUM_CONTEXTS - 1
            )
            self._compresses = self._has_pictures_to_compress(destination)
            compressed = [COMPRESSED_PICTURE] if self._compresses else []
            self._association = self._open.enter_context(
                store_association(
                    address_of(destination, self._rooms.tls_files),
                    [*self._contexts, *compressed],
                    calling_ae_title=self._rooms.ae_title,
                    timeout_s=self._rooms.delivery.timeout_s,
                )
            )
        return self._association

    def _has_pictures_to_compress(self, destination: Destination) -> bool:
        return destination.compression == "rle" and any(
            sop_class_uid == SecondaryCaptureImageStorage for sop_class_uid, _ in self._contexts
        )

    def _store(self, association: StoreAssociation, file: OutgoingFile) -> SendOutcome:
        is_picture = file.sop_class_uid == SecondaryCaptureImageStorage
        if self._compresses and is_picture and association.takes(*COMPRESSED_PICTURE):
            with _in_memory(with_rle_lossless(file.path.read_bytes())) as path:
                outcome = association.send(replace(file, path=path, transfer_syntax_uid=RLELossless))
            if outcome.answer is not Answer.REFUSED or _is_there_already(outcome):
                return outcome
        return association.send(file)

    def _outgoing(self, result: PendingResult, lent: ExitStack) -> OutgoingFile:
        """The result's plain text, on a disk or in memory, as long as `lent` is open."""
        descriptor = lent.enter_context(self._rooms.results.lend(result.sop_instance_uid))
        return OutgoingFile(
            path=Path(f"/proc/self/fd/{descriptor}"),
            sop_instance_uid=result.sop_instance_uid,
            sop_class_uid=result.sop_class_uid,
            transfer_syntax_uid=result.transfer_syntax_uid,
        )


def _already_there(outcome: SendOutcome) -> SendOutcome:
    """A result's SOP Instance UID stands for the same bytes always: a peer that has it already has our result."""
    if _is_there_already(outcome):
        return replace(outcome, answer=Answer.STORED, detail="the peer has it already")
    return outcome


@contextmanager
def _in_memory(content: bytes) -> Iterator[Path]:
    """As a file, for a library that reads files only. On no disk: results may be sealed where they lie."""
    with os.fdopen(os.memfd_create("compressed", os.MFD_CLOEXEC), "wb") as file:
        file.write(content)
        file.flush()
        yield Path(f"/proc/self/fd/{file.fileno()}")


def _is_there_already(outcome: SendOutcome) -> bool:
    return outcome.status == DUPLICATE_SOP_INSTANCE


def _all(due: list[PendingResult], answer: Answer, detail: str, line: Line = Line.UP) -> Sent:
    return Sent(
        outcomes=tuple(
            SendOutcome(sop_instance_uid=result.sop_instance_uid, answer=answer, status=None, detail=detail)
            for result in due
        ),
        line=line,
    )
