"""The slow path: pynetdicom receives, as it comes from the package index. Same port, same services, same files.

It is there to compare with, and for the day when a peer's odd dialect needs a second opinion. It holds each object in
memory and is not hardened: put it in front of peers that you know (docs/adr/0012-a-receive-path-of-our-own.md).
"""

import secrets
import time
from collections.abc import Callable
from typing import Any

import structlog
from pydicom.dataset import Dataset
from pynetdicom import AE, _config, build_context, evt
from pynetdicom.association import Association
from pynetdicom.events import Event

from scp.associate import CALLED_AE_TITLE_NOT_RECOGNIZED, CALLING_AE_TITLE_NOT_RECOGNIZED, Context
from scp.callers import Callers
from scp.command import Command, printable_comment
from scp.contexts import OPEN_TO_DESTINATIONS, VERIFICATION, supported_syntaxes
from scp.echo import handle_echo
from scp.limits import Limits
from scp.peer import Peer
from scp.requests import CommandField, Request, Response, Services, reported_to_us
from scp.status import Status
from scp.store import StoreHandler, TooLarge

log = structlog.get_logger()

POLL_S = 0.05
# What the data set of a request is called: of N-ACTION, N-EVENT-REPORT, N-CREATE, N-SET.
DATA_SETS = ("ActionInformation", "EventInformation", "AttributeList", "ModificationList")


class StockReceiver:
    """As `scp.server.Receiver`, without TLS and without a shared port."""

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
        services: Services | None = None,
        limits: Limits | None = None,
    ) -> None:
        # pynetdicom's own event handlers would print identifiers of patients at INFO.
        _config.LOG_HANDLER_LEVEL = "none"
        limits = limits or Limits()
        self._address = (host, port)
        self._callers = callers
        self._store = store
        self._services = {(CommandField.C_ECHO_RQ, VERIFICATION): handle_echo, **(services or {})}
        self._on_released = on_released
        self._on_closed = on_closed
        self._association_timeout_s = limits.association_timeout_s
        self._peers: dict[Association, Peer] = {}
        self._ae = AE(ae_title)
        supported = supported_syntaxes(sop_class for _, sop_class in self._services)
        self._ae.supported_contexts = [build_context(uid, list(syntaxes)) for uid, syntaxes in supported.items()]
        for uid in reported_to_us(self._services):  # roles are agreed to where the peer proposes them
            self._ae.add_supported_context(uid, list(supported[uid]), scu_role=True, scp_role=True)
        self._ae.require_called_aet = True
        self._ae.maximum_associations = limits.maximum_associations
        self._ae.maximum_pdu_size = limits.maximum_pdu_size
        self._ae.network_timeout = limits.association_timeout_s
        self._ae.dimse_timeout = limits.association_timeout_s
        self._ae.acse_timeout = limits.artim_s

    def start(self) -> int:
        """Listen, and return the port (the one that the system chose, when 0 was asked for)."""
        handlers = [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_RELEASED, self._on_release),
            (evt.EVT_CONN_CLOSE, self._on_close),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_C_ECHO, self._on_request(CommandField.C_ECHO_RQ)),
            (evt.EVT_N_EVENT_REPORT, self._on_request(CommandField.N_EVENT_REPORT_RQ)),
            (evt.EVT_N_ACTION, self._on_request(CommandField.N_ACTION_RQ)),
            (evt.EVT_N_CREATE, self._on_request(CommandField.N_CREATE_RQ)),
            (evt.EVT_N_SET, self._on_request(CommandField.N_SET_RQ)),
        ]
        self._server = self._ae.start_server(self._address, block=False, evt_handlers=handlers)  # type: ignore[arg-type]
        port = int(self._server.server_address[1])  # type: ignore[union-attr]
        log.info("receiver_listening", ae_title=self._ae.ae_title, port=port)
        return port

    def stop(self, *, grace_s: float) -> None:
        """As `scp.server.Receiver.stop`."""
        self._server.shutdown()  # type: ignore[union-attr]
        deadline = time.monotonic() + grace_s
        while self._open_associations() and time.monotonic() < deadline:
            time.sleep(POLL_S)
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
        called_ae_title = str(request.called_ae_title).strip()  # type: ignore[union-attr]
        if called_ae_title != self._ae.ae_title:  # pynetdicom rejects it next
            log.warning(
                "association_rejected",
                error=CALLED_AE_TITLE_NOT_RECOGNIZED.says,
                called_ae=called_ae_title,
                calling_ae=calling_ae_title,
                peer_address=address,
            )
            return
        caller = self._callers.caller_of(calling_ae_title=calling_ae_title, peer_address=address)
        if caller is None:
            log.warning("caller_rejected", calling_ae=calling_ae_title, peer_address=address)
            reject = CALLING_AE_TITLE_NOT_RECOGNIZED
            association.acse.send_reject(reject.result, reject.source, reject.reason)
            evt.trigger(association, evt.EVT_REJECTED, {})
            association.kill()
            return
        if caller.is_stranger:
            log.warning("caller_quarantined", calling_ae=calling_ae_title, peer_address=address)
        if caller.only_reports:
            association.acceptor.supported_contexts = [
                context
                for context in association.acceptor.supported_contexts
                if context.abstract_syntax in OPEN_TO_DESTINATIONS
            ]
        self._peers[association] = Peer(
            association=secrets.token_hex(8), clinic=caller.clinic, ae_title=calling_ae_title, address=address
        )

    def _on_store(self, event: Event) -> Dataset:
        request: Any = event.request
        context = event.context
        command = Command(
            command_field=CommandField.C_STORE_RQ,
            message_id=request.MessageID,
            has_data_set=request.DataSet is not None,
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=str(request.AffectedSOPInstanceUID or ""),
            action_type_id=None,
        )
        accepted = Context(int(context.context_id or 0), str(context.abstract_syntax), str(context.transfer_syntax))
        reception = self._store.begin(command, accepted, self._peers[event.assoc])
        try:
            if request.DataSet is not None:
                reception.write(request.DataSet.getbuffer())
        except TooLarge:
            pass
        status = reception.finish()
        return _told(Response(status=status, error_comment=reception.why_refused))

    def _on_request(self, command_field: CommandField) -> Callable[[Event], object]:
        def handle(event: Event) -> object:
            request: Any = event.request
            sop_class_uid = str(_either(request, "AffectedSOPClassUID", "RequestedSOPClassUID"))
            service = self._services.get((command_field, sop_class_uid))
            data_set = _either(request, *DATA_SETS)
            response = Response(status=Status.UNRECOGNIZED_OPERATION)
            if service is not None:
                response = service(
                    Request(
                        command_field=command_field,
                        message_id=request.MessageID,
                        sop_class_uid=sop_class_uid,
                        sop_instance_uid=str(_either(request, "AffectedSOPInstanceUID", "RequestedSOPInstanceUID")),
                        transfer_syntax_uid=str(event.context.transfer_syntax),
                        action_type_id=getattr(request, "ActionTypeID", None),
                        event_type_id=getattr(request, "EventTypeID", None),
                        data_set=data_set.getvalue() if data_set else b"",
                    ),
                    self._peers[event.assoc],
                )
            told = _told(response)
            return told if command_field == CommandField.C_ECHO_RQ else (told, _made(response))

        return handle

    def _on_release(self, event: Event) -> None:
        peer = self._peers.get(event.assoc)
        if peer is not None:
            self._on_released(peer.association)

    def _on_close(self, event: Event) -> None:
        peer = self._peers.pop(event.assoc, None)
        if peer is not None:
            self._on_closed(peer.association)


def _told(response: Response) -> Dataset:
    """The status as pynetdicom takes it where more than its code is told."""
    status = Dataset()
    status.Status = int(response.status)
    if response.error_comment:
        status.ErrorComment = printable_comment(response.error_comment)
    if response.error_id is not None:
        status.ErrorID = response.error_id
    return status


def _made(response: Response) -> Dataset | None:
    """From here pynetdicom takes the Affected SOP Instance UID that the request left to us."""
    if not response.sop_instance_uid:
        return None
    attributes = Dataset()
    attributes.AffectedSOPInstanceUID = response.sop_instance_uid
    return attributes


def _either(request: object, *names: str) -> Any:
    """The first of these that the request has; "" when it has none."""
    return next((value for name in names if (value := getattr(request, name, None)) is not None), "")


def _is_receiving(association: Association) -> bool:
    """Whether a message is under way: fragments of one have come, or a whole one waits to be served.

    One that is being served needs no look: `Association.abort` itself waits until its response is on the way.
    """
    return association.dimse.message is not None or not association.dimse.msg_queue.empty()
