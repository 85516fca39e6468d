"""C-STORE (PS3.4 Annex B): the instance goes to the spool as it came, and 0x0000 is answered when it is durable.

request  ->  its identifiers are sane  ->  File Meta + data set  ->  sync, rename, sync directory  ->  0x0000
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContextTuple

from domain.errors import CollimatorError, Refuse, Retry
from domain.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from scp.peer import Peer
from scp.status import Status, status_of
from storage.headers import Provenance, write_provenance
from storage.instances import Spool

log = structlog.get_logger()

# PS3.5 9.1: digits and dots, no empty component, no leading zero, at most 64 characters. Real modalities do send
# leading zeros, which harm nothing here, so those are let in.
UID_PATTERN = re.compile(r"(?=.{1,64}\Z)[0-9]+(\.[0-9]+)*")


class StoreHandler:
    """Stores what the peers of one receiver send. `on_stored` gets the spool key of each durable instance."""

    def __init__(self, spool: Spool, *, called_ae_title: str, on_stored: Callable[[str], None]) -> None:
        self._spool = spool
        self._called_ae_title = called_ae_title
        self._on_stored = on_stored

    def store(self, request: C_STORE, context: PresentationContextTuple, peer: Peer) -> Status:
        """Store one instance and return the Status for its response."""
        try:
            check_request(request, context)
            spool_key = self._write(request, context, peer)
        except CollimatorError as error:
            status = status_of(error)
            log.warning("store_refused", status=f"0x{status:04X}", error=error.message, calling_ae=peer.ae_title)
            return status
        self._on_stored(spool_key)
        return Status.SUCCESS

    def _write(self, request: C_STORE, context: PresentationContextTuple, peer: Peer) -> str:
        try:
            file = self._spool.receive()
            try:
                file.write(self._head(request, context, peer))
                file.write(request.DataSet.getbuffer())  # type: ignore[union-attr]
                return file.commit()
            finally:
                file.discard()
        except OSError as error:
            raise Retry(f"the spool cannot take it: {error.strerror}", hint="free some space for the spool") from error

    def _head(self, request: C_STORE, context: PresentationContextTuple, peer: Peer) -> bytes:
        """Preamble, prefix and File Meta Information (PS3.10 7.1). The preamble is zeros: nothing can hide in it."""
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = UID(str(request.AffectedSOPClassUID))
        meta.MediaStorageSOPInstanceUID = UID(str(request.AffectedSOPInstanceUID))
        meta.TransferSyntaxUID = UID(context.transfer_syntax)
        meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
        meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
        provenance = Provenance(
            clinic=peer.clinic,
            calling_ae_title=peer.ae_title,
            called_ae_title=self._called_ae_title,
            peer_address=peer.address,
            association=peer.association,
            received_at=datetime.now(UTC),
        )
        write_provenance(meta, provenance)
        encoded = DicomBytesIO()
        encoded.write(b"\0" * 128 + b"DICM")
        write_file_meta_info(encoded, meta, enforce_standard=True)
        return encoded.getvalue()


def check_request(request: C_STORE, context: PresentationContextTuple) -> None:
    """Refuse a request whose command set is already wrong; the data set itself is looked at behind the receiver."""
    if not UID_PATTERN.fullmatch(str(request.AffectedSOPInstanceUID or "")):
        raise Refuse("Affected SOP Instance UID is not a UID", reason="invalid_uid")
    if request.AffectedSOPClassUID != context.abstract_syntax:
        raise Refuse("Affected SOP Class UID is not that of the presentation context", reason="wrong_sop_class")
    if request.DataSet is None or not request.DataSet.getbuffer().nbytes:
        raise Refuse("there is no data set", reason="no_data_set")
