"""The listening side: negotiates, knows its callers, hands requests to their verbs, and shuts down without a loss.

socket -> pynetdicom (ACSE, state machine, DIMSE) -> callers? -> echo.py | store.py -> Status
"""

import secrets
import time
from collections.abc import Callable

import structlog
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.events import Event

from domain.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from scp.callers import Callers
from scp.contexts import supported_contexts
from scp.echo import handle_echo
from scp.peer import Peer
from scp.status import Status
from scp.store import StoreHandler

log = structlog.get_logger()

# A-ASSOCIATE-RJ: rejected permanently, by the service user, Calling AE Title not recognized (PS3.8 Table 9-21).
CALLING_AE_TITLE_NOT_RECOGNIZED = (0x01, 0x01, 0x03)
MAXIMUM_PDU_SIZE = 131_072  # what DCMTK's tools offer at most; larger ones cost more than they save
POLL_S = 0.05


class Receiver:
    """One listening port.

    `on_released` gets the name of each association that its peer released; `on_closed` of each that is over.
    """

    def __init__(
        self,
        *,
        ae_title: str,
        host: str,
        port: int,
        callers: Callers,
        store: StoreHandler,
        on_released: Callable[[str], None],
        on_closed: Callable[[str], None] = lambda association: None,
        maximum_associations: int = 25,
        association_timeout_s: float = 60.0,
    ) -> None:
        # pynetdicom's own event handlers would print identifiers of patients at INFO.
        _config.LOG_HANDLER_LEVEL = "none"
        self._address = (host, port)
        self._callers = callers
        self._store = store
        self._on_released = on_released
        self._on_closed = on_closed
        self._association_timeout_s = association_timeout_s
        self._peers: dict[Association, Peer] = {}
        self._ae = AE(ae_title)
        self._ae.supported_contexts = supported_contexts()
        self._ae.require_called_aet = True
        self._ae.maximum_associations = maximum_associations
        self._ae.maximum_pdu_size = MAXIMUM_PDU_SIZE
        self._ae.network_timeout = association_timeout_s
        self._ae.dimse_timeout = association_timeout_s
        self._ae.acse_timeout = min(30.0, association_timeout_s)
        self._ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self._ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME

    def start(self) -> int:
        """Listen, and return the port (the one that the system chose, when 0 was asked for)."""
        handlers = [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_RELEASED, self._on_release),
            (evt.EVT_CONN_CLOSE, self._on_close),
            (evt.EVT_C_ECHO, handle_echo),
            (evt.EVT_C_STORE, self._on_store),
        ]
        self._server = self._ae.start_server(self._address, block=False, evt_handlers=handlers)  # type: ignore[arg-type]
        port = int(self._server.server_address[1])  # type: ignore[union-attr]
        log.info("receiver_listening", ae_title=self._ae.ae_title, port=port)
        return port

    def stop(self, *, grace_s: float) -> None:
        """Stop listening, let associations end by themselves for `grace_s`, then abort those that are left.

        An association in the middle of an object is never cut: its object is stored and answered first.
        """
        self._server.shutdown()  # type: ignore[union-attr]
        deadline = time.monotonic() + grace_s
        while self._open_associations() and time.monotonic() < deadline:
            time.sleep(POLL_S)
        # A peer that stalls in the middle of an object is given up when any other silent peer would be.
        deadline = time.monotonic() + self._association_timeout_s
        while (associations := self._open_associations()) and time.monotonic() < deadline:
            for association in associations:
                if not _is_receiving(association):
                    association.abort()
            time.sleep(POLL_S)
        log.info("receiver_stopped")

    def _open_associations(self) -> list[Association]:
        return [association for association in self._ae.active_associations if association.is_established]

    def _on_requested(self, event: Event) -> None:
        association = event.assoc
        request = association.requestor.primitive
        calling_ae_title = str(request.calling_ae_title).strip()  # type: ignore[union-attr]
        address = str(association.requestor.address)
        clinic = self._callers.clinic_of(calling_ae_title=calling_ae_title, peer_address=address)
        if clinic is None:
            log.warning("caller_rejected", calling_ae=calling_ae_title, peer_address=address)
            association.acse.send_reject(*CALLING_AE_TITLE_NOT_RECOGNIZED)
            evt.trigger(association, evt.EVT_REJECTED, {})
            association.kill()
            return
        self._peers[association] = Peer(
            association=secrets.token_hex(8), clinic=clinic, ae_title=calling_ae_title, address=address
        )

    def _on_store(self, event: Event) -> int:
        try:
            return self._store.store(event.request, event.context, self._peers[event.assoc])  # type: ignore[arg-type]
        except Exception:
            log.exception("store_failed")
            return Status.PROCESSING_FAILURE

    def _on_release(self, event: Event) -> None:
        peer = self._peers.get(event.assoc)
        if peer is not None:
            self._on_released(peer.association)

    def _on_close(self, event: Event) -> None:
        peer = self._peers.pop(event.assoc, None)
        if peer is not None:
            self._on_closed(peer.association)


def _is_receiving(association: Association) -> bool:
    """Whether a message is under way: fragments of one have come, or a whole one waits to be served.

    One that is being served needs no look: `Association.abort` itself waits until its response is on the way.
    """
    return association.dimse.message is not None or not association.dimse.msg_queue.empty()
