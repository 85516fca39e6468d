"""C-STORE (PS3.4 Annex B): the instance goes to the spool as it comes, and 0x0000 is answered when it is durable.

command  ->  its UIDs are sane, there is room  ->  the data set's front names the same instance
         ->  File Meta + data set  ->  sync, rename, sync directory  ->  0x0000
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from domain.errors import CollimatorError, Refuse, Retry
from scp.associate import Context
from scp.command import Command
from scp.dataset_head import (
    SERIES_INSTANCE_UID,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    Head,
    Inflation,
    NotADataSet,
    is_deflated,
)
from scp.limits import Limits
from scp.peer import Peer
from scp.status import Status, status_of
from scp.storage_sop_classes import STORAGE_SOP_CLASSES
from storage.file_meta import FileMeta, Provenance, encode_file_meta
from storage.instances import IncomingFile, Spool
from storage.study_keys import study_name

log = structlog.get_logger()

# PS3.5 9.1: digits and dots, no empty component, no leading zero, at most 64 characters. Real modalities do send
# leading zeros, which harm nothing here, so those are let in.
UID_PATTERN = re.compile(r"(?=.{1,64}\Z)[0-9]+(\.[0-9]+)*")
FRONT_BYTES = 1 << 18  # how much of a data set is looked at; the identifiers stand in front of the pixels
CONFLICTING = "conflicting"
REQUIRED = frozenset((SOP_CLASS_UID, SOP_INSTANCE_UID))
NAMES = {
    SOP_CLASS_UID: "SOP Class UID",
    SOP_INSTANCE_UID: "SOP Instance UID",
    STUDY_INSTANCE_UID: "Study Instance UID",
    SERIES_INSTANCE_UID: "Series Instance UID",
}


class TooLarge(Refuse):
    """It is not worth reading on: the peer may never come to an end."""


class StoreHandler:
    """Stores what the peers of one receiver send.

    on_stored: gets the spool key of each durable instance.
    verdict_of: what became of a key, once that is known; given where a conflicting instance is answered 0x0111.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        called_ae_title: str,
        on_stored: Callable[[str], None],
        limits: Limits | None = None,
        verdict_of: Callable[[str], str | None] | None = None,
    ) -> None:
        self.spool = spool
        self.called_ae_title = called_ae_title
        self.limits = limits or Limits()
        self._on_stored = on_stored
        self._verdict_of = verdict_of

    def begin(self, command: Command, context: Context, peer: Peer) -> "Reception":
        """One C-STORE request has come; its data set follows."""
        return Reception(self, command, context, peer)

    def stored(self, spool_key: str) -> Status:
        """The instance is durable: tell those behind, and what the sender is answered."""
        self._on_stored(spool_key)
        if self._verdict_of is not None and self._verdict_of(spool_key) == CONFLICTING:
            return Status.DUPLICATE_SOP_INSTANCE
        return Status.SUCCESS


class Reception:
    """One instance on its way into the spool: `write` and `flush` by turns, then `finish`, or `discard`.

    What is refused is read to its end all the same, because the answer may only come after it (PS3.7 9.1.1).
    """

    def __init__(self, handler: StoreHandler, command: Command, context: Context, peer: Peer) -> None:
        self._handler = handler
        self._command = command
        self._context = context
        self._peer = peer
        self._head = Head(context.transfer_syntax)
        self._inflation = Inflation(keep=FRONT_BYTES) if is_deflated(context.transfer_syntax) else None
        self._fragments: list[memoryview] = []
        self._front = bytearray()  # until the file is open
        self._file: IncomingFile | None = None
        self._size = 0
        self._refusal: CollimatorError | None = None
        try:
            check_command(command, context)
            if not peer.clinic and not handler.spool.has_room_for_strangers():
                raise Retry("unknown callers have sent as much as they may", hint="see receiver.quarantine_maximum_gb")
            if not handler.spool.has_room():
                raise Retry(
                    "the spool's disk is nearly full", hint="free some space, or lower receiver.minimum_free_gb"
                )
        except (CollimatorError, OSError) as error:
            self._refuse(error)

    def write(self, fragment: memoryview) -> None:
        """Take the next bytes, of which the memory must stay as it is until `flush`.

        Raises:
            TooLarge: it has more bytes than an instance may have.
        """
        self._size += len(fragment)
        if self._size > (most := self._handler.limits.maximum_instance_size):
            error = TooLarge(f"the data set has more than {most} bytes", reason="too_large")
            self._refuse(error)
            raise error
        if self._refusal is None:
            self._fragments.append(fragment)

    def flush(self) -> None:
        """Bring what was written out of the caller's memory."""
        if not self._fragments:
            return
        try:
            self._inflate()
            if self._file is not None:
                self._head.follow(self._fragments)
                self._file.write(*self._fragments)
            else:
                self._front += b"".join(self._fragments)
                self._read_head(self._front)
                if self._head.is_done or len(self._front) >= FRONT_BYTES:
                    self._open(self._front)
                    self._front = bytearray()
        except (CollimatorError, OSError, NotADataSet) as error:
            self._refuse(error)
        self._fragments.clear()

    def finish(self) -> Status:
        """The data set is complete: make it durable. Returns the Status for the response, and never raises."""
        try:
            if self._refusal is not None:
                raise self._refusal
            key = self._commit()
        except (CollimatorError, OSError, NotADataSet) as error:
            self._refuse(error)
        except Exception:
            self.discard()
            log.exception("store_failed", peer_address=self._peer.address)
            return Status.PROCESSING_FAILURE
        else:
            return self._handler.stored(key)
        return self._answer_refusal()

    @property
    def why_refused(self) -> str:
        """For the Error Comment (0000,0902) of the response; "" where it was not refused."""
        return "" if self._refusal is None else self._refusal.message

    def discard(self) -> None:
        """Leave nothing behind; harmless after `finish`."""
        self._fragments.clear()
        self._front = bytearray()
        if self._file is not None:
            self._file.discard()
            self._file = None

    def _commit(self) -> str:
        if not self._size:
            raise Refuse("there is no data set", reason="no_data_set")
        if self._file is not None or self._front:
            self.flush()
            if self._refusal is not None:
                raise self._refusal
        else:  # all of it is still in the caller's memory: the common case for small instances
            self._inflate()
            self._front += b"".join(self._fragments) if len(self._fragments) > 1 else b""
            self._read_head(self._front or self._fragments[0])
        self._check_identity()
        if self._file is None:
            self._open(self._front or self._fragments[0])
        assert self._file is not None
        key = self._file.commit()
        self._file = None
        return key

    def _inflate(self) -> None:
        if self._inflation is None:
            return
        try:
            for fragment in self._fragments:
                self._inflation.feed(fragment, limit=self._handler.limits.maximum_inflated_size)
        except OverflowError as error:
            raise Refuse(f"the data set {error}", reason="too_large") from error

    def _read_head(self, front: bytearray | memoryview) -> None:
        self._head.read(front if self._inflation is None else self._inflation.front)

    def _check_identity(self) -> None:
        """All of the data set has come, and it is the instance that the command names (PS3.4 B.2.3)."""
        if self._inflation is not None and not self._inflation.is_complete:
            raise NotADataSet("the deflated stream is cut short")
        size = self._size if self._inflation is None else self._inflation.size
        self._head.check_end(size)
        uids = self._head.uids
        for tag, name in NAMES.items():
            # One without its study is kept for a person to look at, and behind much private data the study's may stand
            # too far back to be seen here. One that names no instance cannot even be kept.
            if not UID_PATTERN.fullmatch(uids.get(tag, "" if tag in REQUIRED else "0")):
                raise NotADataSet(f"the data set has no valid {name}")
        if uids[SOP_INSTANCE_UID] != self._command.sop_instance_uid:
            raise Refuse("the data set has another SOP Instance UID than the request", reason="wrong_instance")
        if uids[SOP_CLASS_UID] != self._command.sop_class_uid:
            raise Refuse("the data set has another SOP Class UID than the request", reason="wrong_sop_class")

    def _open(self, *content: memoryview | bytearray) -> None:
        study = study_name(self._peer.clinic, self._head.uids.get(STUDY_INSTANCE_UID, ""))
        self._file = self._handler.spool.receive(study, is_strangers=not self._peer.clinic)
        self._file.write(self._file_meta(), *content)

    def _file_meta(self) -> bytes:
        meta = FileMeta(
            sop_class_uid=self._command.sop_class_uid,
            sop_instance_uid=self._command.sop_instance_uid,
            transfer_syntax_uid=self._context.transfer_syntax,
            provenance=Provenance(
                clinic=self._peer.clinic,
                calling_ae_title=self._peer.ae_title,
                called_ae_title=self._handler.called_ae_title,
                peer_address=self._peer.address,
                association=self._peer.association,
                received_at=datetime.now(UTC),
            ),
        )
        return encode_file_meta(meta)

    def _refuse(self, error: CollimatorError | OSError | NotADataSet) -> None:
        self.discard()
        if isinstance(error, NotADataSet):
            error = Refuse(str(error), reason="not_a_data_set")
        if isinstance(error, OSError):
            error = Retry(f"the spool cannot take it: {error.strerror}", hint="free some space for the spool")
        self._refusal = error

    def _answer_refusal(self) -> Status:
        assert self._refusal is not None
        status = status_of(self._refusal)
        log.warning(
            "store_refused",
            status=f"0x{status:04X}",
            error=self._refusal.message,
            calling_ae=self._peer.ae_title,
            peer_address=self._peer.address,
        )
        return status


def check_command(command: Command, context: Context) -> None:
    """Refuse a request whose command set is already wrong."""
    if not UID_PATTERN.fullmatch(command.sop_instance_uid):
        raise Refuse("Affected SOP Instance UID is not a UID", reason="invalid_uid")
    if command.sop_class_uid != context.abstract_syntax:
        raise Refuse("Affected SOP Class UID is not that of the presentation context", reason="wrong_sop_class")
    if command.sop_class_uid not in STORAGE_SOP_CLASSES:  # a context of Verification takes no instances
        raise Refuse("the SOP Class is not one of storage", reason="no_storage_class")
    if not command.has_data_set:
        raise Refuse("there is no data set", reason="no_data_set")
