"""One peer, one thread, one buffer: the upper layer protocol as acceptor (PS3.8 9.2), and C-STORE straight to file.

    socket  ->  scp/wire.py  ->  PDU  ->  PDV  ->  command set  |  data set
                                                                 |               |
                                                              Request     Reception (scp/store.py)

Written in the order in which a peer speaks, with blocking reads: where the thread stands is the protocol's state.
    _associate  Sta2, Sta3        _serve  Sta6        _await_close  Sta13
"""

import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from scp import associate
from scp.admission import Admission
from scp.associate import Context, ProtocolError, Rejection
from scp.callers import Callers, KnownCaller
from scp.command import IS_COMMAND, IS_LAST, PDV_HEADER, Command, encode_response, parse_command
from scp.contexts import OPEN_TO_DESTINATIONS
from scp.limits import Limits
from scp.message import Message, MessageMemory
from scp.peer import Peer
from scp.requests import CommandField, Request, Response, Service, Services
from scp.status import Status
from scp.store import Reception, StoreHandler, TooLarge
from scp.tls import shake_hands, why_refused
from scp.wire import Gone, Silent, Wire

log = structlog.get_logger()

SEND_BUFFER_BYTES = 64 * 1024  # answers are short; the kernel keeps no more of them for a peer that does not read
SLOWEST_BYTES_PER_S = 4096  # below this a peer holds a PDU back on purpose
# Some peers count the PDU's own header into the length that they were allowed.
PDU_SIZE_TOLERANCE = 1024
SMALLEST_PEER_PDU = 512  # an answer must fit into one PDU
LINGER_S = 2.0


class Closing(Exception):
    """The node shuts down, and this peer is not in the middle of anything."""


class Rejected(Exception):
    """The peer may not associate."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.says)
        self.rejection = rejection


class DataSet(Protocol):
    """What takes the data set of the message that is coming."""

    def write(self, fragment: memoryview) -> None: ...

    def flush(self) -> None: ...

    def discard(self) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Desk:
    """What every connection of one receiver shares. `supported`: transfer syntaxes of each abstract syntax.

    reported_to_us: SOP classes of which the node is an SCU, too, and takes reports.
    """

    ae_title: str
    callers: Callers
    store: StoreHandler
    services: Services
    supported: Mapping[str, Sequence[str]]
    limits: Limits
    admission: Admission
    on_released: Callable[[str], None]
    on_closed: Callable[[str], None]
    reported_to_us: frozenset[str] = frozenset()
    memory: MessageMemory = field(default_factory=lambda: MessageMemory(Limits().maximum_memory_for_messages))
    closing: threading.Event = field(default_factory=threading.Event)


class Connection:
    """One accepted socket, from its first byte to its last. `run` is the thread."""

    def __init__(self, desk: Desk, sock: socket.socket, address: str) -> None:
        self._desk = desk
        self._socket = sock
        self._address = address
        self._associates_until = time.monotonic() + desk.limits.artim_s
        self._certificate_subject: str | None = None
        self._peer: Peer | None = None
        self._only_reports = False
        self._contexts: dict[int, Context] = {}
        # The message that is coming: its context, its command set so far, and what takes its data set.
        self._context_id = 0
        self._command_set = bytearray()
        self._command: Command | None = None
        self._data_set: DataSet | None = None
        self._is_between_messages = True

    def run(self, wrap: Callable[[socket.socket], ssl.SSLSocket] | None = None) -> None:
        """Serve the peer to its end. `wrap`: makes the TLS side of the socket; the handshake happens here."""
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            if wrap is not None:
                self._shake_hands(wrap)
            self._wire = Wire(self._socket, on_tick=self._look_up)
            try:
                if self._associate():
                    self._serve()
            finally:
                del self._wire  # it knows this connection: its buffer would wait for the cycle collector
        except ProtocolError as error:
            log.warning("protocol_error", error=str(error), peer_address=self._address)
            self._abort(2, error.reason)
        except Silent:
            log.warning("peer_silent", peer_address=self._address)
            if self._peer is not None:  # before an association, ARTIM ends it without a word (PS3.8 9.2.3, AA-2)
                self._abort(2, 0)
        except Closing:
            if self._peer is not None:
                self._abort(0, 0)
        except (Gone, OSError):
            pass
        except Exception:
            log.exception("connection_failed", peer_address=self._address)
            self._abort(2, 0)
        finally:
            self._leave()

    def drop(self) -> None:
        """End it from another thread; the peer may not even listen, or be shaking hands."""
        with suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # that of TLS would take the handshake's state away

    def _shake_hands(self, wrap: Callable[[socket.socket], ssl.SSLSocket]) -> None:
        self._socket.settimeout(self._desk.limits.artim_s)
        try:
            self._socket = wrap(self._socket)
            self._certificate_subject = shake_hands(self._socket)
        except (ssl.SSLError, TimeoutError, ValueError) as error:
            log.warning("tls_refused", reason=why_refused(error), peer_address=self._address)
            raise Gone from error

    # The association (PS3.8 9.2.2, 9.2.3)

    def _associate(self) -> bool:
        limits = self._desk.limits
        left_s = self._associates_until - time.monotonic()  # a TLS handshake is within the same time
        self._wire.expect(silence_s=left_s, within_s=left_s)
        kind, _, length = associate.PDU_HEADER.unpack(self._wire.take(6))
        if kind == associate.A_ABORT:
            return False
        if kind != associate.A_ASSOCIATE_RQ:
            is_known = associate.A_ASSOCIATE_RQ <= kind <= associate.A_ABORT
            raise ProtocolError(
                "another PDU than A-ASSOCIATE-RQ comes first",
                ProtocolError.UNEXPECTED_PDU if is_known else ProtocolError.UNRECOGNIZED_PDU,
            )
        if not associate.FIXED_FIELDS.size <= length <= limits.maximum_request_size:
            raise ProtocolError(f"an A-ASSOCIATE-RQ of {length} bytes")
        titles = associate.decode_titles(self._take_all(associate.FIXED_FIELDS.size))
        try:
            caller = self._caller(titles)
            request = associate.decode_request(self._take_all(length - associate.FIXED_FIELDS.size))
            self._let_in(titles, request, caller)
        except Rejected as rejected:
            self._reject(rejected.rejection, titles)
            return False
        supported = self._desk.supported
        if self._only_reports:
            supported = {uid: syntaxes for uid, syntaxes in supported.items() if uid in OPEN_TO_DESTINATIONS}
        self._contexts, items = associate.negotiate(request.contexts, supported)
        if not self._contexts:
            log.warning("no_context_accepted", calling_ae=titles.calling_ae_title, peer_address=self._address)
        answer = associate.encode_accept(
            titles, request, self._contexts, items, limits.maximum_pdu_size, self._desk.reported_to_us
        )
        self._send(answer)
        return True

    def _caller(self, titles: associate.Titles) -> KnownCaller:
        """Who the peer is. It is asked before the rest of the request is read, which may be long.

        Raises:
            Rejected: nobody who may come in.
        """
        if not titles.protocol_version & 1:
            raise Rejected(associate.PROTOCOL_VERSION_NOT_SUPPORTED)
        if titles.called_ae_title != self._desk.ae_title:
            raise Rejected(associate.CALLED_AE_TITLE_NOT_RECOGNIZED)
        caller = self._desk.callers.caller_of(
            calling_ae_title=titles.calling_ae_title,
            peer_address=self._address,
            certificate_subject=self._certificate_subject,
        )
        if caller is None:
            raise Rejected(associate.CALLING_AE_TITLE_NOT_RECOGNIZED)
        return caller

    def _let_in(self, titles: associate.Titles, request: associate.AssociateRequest, caller: KnownCaller) -> None:
        """
        Raises:
            Rejected: not with this request, or not now.
        """
        if request.application_context_name != associate.APPLICATION_CONTEXT_NAME:
            raise Rejected(associate.APPLICATION_CONTEXT_NOT_SUPPORTED)
        if 0 < request.maximum_pdu_size < SMALLEST_PEER_PDU:
            raise Rejected(associate.NO_REASON_GIVEN)
        if not self._desk.admission.admit(self, caller=caller, address=self._address):
            raise Rejected(associate.LOCAL_LIMIT_EXCEEDED)
        if caller.is_stranger:
            log.warning(
                "caller_quarantined",
                calling_ae=titles.calling_ae_title,
                peer_address=self._address,
                certificate_subject=self._certificate_subject,
            )
        self._only_reports = caller.only_reports
        self._peer = Peer(
            association=secrets.token_hex(8),
            clinic=caller.clinic,
            ae_title=titles.calling_ae_title,
            address=self._address,
        )

    def _reject(self, rejection: Rejection, titles: associate.Titles) -> None:
        is_unknown = rejection is associate.CALLING_AE_TITLE_NOT_RECOGNIZED
        log.warning(
            "caller_rejected" if is_unknown else "association_rejected",
            error=rejection.says,
            called_ae=titles.called_ae_title,
            calling_ae=titles.calling_ae_title,
            peer_address=self._address,
            certificate_subject=self._certificate_subject,
        )
        self._end(rejection.encoded())

    # Data transfer (PS3.8 9.2.4, PS3.7 6.3)

    def _serve(self) -> None:
        limits = self._desk.limits
        while True:
            self._wire.expect(silence_s=limits.association_timeout_s, within_s=float("inf"))
            self._wire.wait()
            self._wire.expect(silence_s=limits.artim_s, within_s=limits.artim_s)
            kind, _, length = associate.PDU_HEADER.unpack(self._wire.take(6))
            if kind == associate.P_DATA_TF:
                if length > limits.maximum_pdu_size + PDU_SIZE_TOLERANCE:
                    raise ProtocolError(f"a P-DATA-TF of {length} bytes")
                self._wire.expect(silence_s=limits.artim_s, within_s=limits.artim_s + length / SLOWEST_BYTES_PER_S)
                self._read_p_data(length)
                if self._is_between_messages and self._desk.closing.is_set():
                    raise Closing
            elif kind == associate.A_RELEASE_RQ:
                self._release(length)
                return
            elif kind == associate.A_ABORT:
                return
            elif associate.A_ASSOCIATE_RQ <= kind <= associate.A_ABORT:
                raise ProtocolError("a PDU that does not belong here", ProtocolError.UNEXPECTED_PDU)
            else:
                raise ProtocolError("an unknown PDU", ProtocolError.UNRECOGNIZED_PDU)

    def _read_p_data(self, length: int) -> None:
        if not length:
            raise ProtocolError("a P-DATA-TF without a PDV")
        while length:
            if length < PDV_HEADER.size:
                raise ProtocolError("a PDV is cut short")
            pdv_length, context_id, control = PDV_HEADER.unpack(self._wire.take(PDV_HEADER.size))
            if pdv_length < 2 or pdv_length + 4 > length:
                raise ProtocolError("a PDV of a wrong length")
            length -= pdv_length + 4
            if control & IS_COMMAND:
                self._read_command(context_id, pdv_length - 2, is_last=bool(control & IS_LAST))
            else:
                self._read_data(context_id, pdv_length - 2, is_last=bool(control & IS_LAST))

    def _read_command(self, context_id: int, length: int, *, is_last: bool) -> None:
        if context_id not in self._contexts:
            raise ProtocolError("a presentation context that was not accepted")
        if self._command is not None or (self._command_set and context_id != self._context_id):
            raise ProtocolError("a command in the middle of a message", ProtocolError.UNEXPECTED_PARAMETER)
        if len(self._command_set) + length > self._desk.limits.maximum_command_size:
            raise ProtocolError("a command set without end")
        self._context_id = context_id
        self._is_between_messages = False
        while length:
            part = self._wire.take_some(length)
            self._command_set += part
            length -= len(part)
        if is_last:
            content, self._command_set = bytes(self._command_set), bytearray()
            self._begin(parse_command(content))

    def _begin(self, command: Command) -> None:
        assert self._peer is not None
        if command.command_field == CommandField.C_STORE_RQ:
            reception = self._desk.store.begin(command, self._contexts[self._context_id], self._peer)
            self._data_set = reception
            if not command.has_data_set:
                self._answer_store(command, reception)
                return
        elif command.has_data_set:
            memory = self._desk.memory if self._service_of(command) else None
            self._data_set = Message(self._desk.limits.maximum_message_size, memory)
        else:
            self._answer_request(command)
            return
        self._command = command
        self._wire.flush = self._data_set.flush

    def _read_data(self, context_id: int, length: int, *, is_last: bool) -> None:
        if self._command is None or self._data_set is None or context_id != self._context_id:
            raise ProtocolError("a data set without its command", ProtocolError.UNEXPECTED_PARAMETER)
        try:
            while length:
                part = self._wire.take_some(length)
                self._data_set.write(part)
                length -= len(part)
        except TooLarge as error:
            is_store = isinstance(self._data_set, Reception)
            status = Status.OUT_OF_RESOURCES if is_store else Status.RESOURCE_LIMITATION
            self._send(encode_response(context_id, self._command, status, error_comment=error.message))
            raise ProtocolError(error.message, ProtocolError.NOT_SPECIFIED) from error
        if is_last:
            if isinstance(self._data_set, Reception):
                self._answer_store(self._command, self._data_set)
            elif isinstance(self._data_set, Message):
                self._answer_request(self._command, self._data_set)

    def _answer_store(self, command: Command, reception: Reception) -> None:
        status = reception.finish()
        self._answered()
        self._send(encode_response(self._context_id, command, status, error_comment=reception.why_refused))

    def _service_of(self, command: Command) -> Service | None:
        if self._contexts[self._context_id].abstract_syntax != command.sop_class_uid:
            return None
        return self._desk.services.get((command.command_field, command.sop_class_uid))

    def _answer_request(self, command: Command, message: Message | None = None) -> None:
        response = self._response_to(command, message)
        self._answered()
        self._send(
            encode_response(
                self._context_id,
                command,
                response.status,
                response.sop_instance_uid,
                error_id=response.error_id,
                error_comment=response.error_comment,
            )
        )

    def _response_to(self, command: Command, message: Message | None) -> Response:
        assert self._peer is not None
        service = self._service_of(command)
        if service is None:
            return Response(status=Status.UNRECOGNIZED_OPERATION)
        if message is not None and not message.found_room:
            log.warning(
                "request_refused",
                reason="too many requests at once",
                calling_ae=self._peer.ae_title,
                peer_address=self._address,
            )
            return Response(status=Status.RESOURCE_LIMITATION)
        request = Request(
            command_field=command.command_field,
            message_id=command.message_id,
            sop_class_uid=command.sop_class_uid,
            sop_instance_uid=command.sop_instance_uid,
            transfer_syntax_uid=self._contexts[self._context_id].transfer_syntax,
            action_type_id=command.action_type_id,
            event_type_id=command.event_type_id,
            data_set=b"" if message is None else bytes(message.content),
        )
        try:
            return service(request, self._peer)
        except Exception:
            log.exception("request_failed", peer_address=self._address)
            return Response(status=Status.PROCESSING_FAILURE)

    def _send(self, content: bytes) -> None:
        self._wire.send(content, within_s=self._desk.limits.artim_s)

    def _answered(self) -> None:
        if self._data_set is not None:
            self._data_set.discard()
        self._command, self._data_set = None, None
        self._wire.flush = lambda: None
        self._is_between_messages = True

    # The end (PS3.8 9.2.5)

    def _release(self, length: int) -> None:
        """An object that is only half here when its peer releases is given up: it was never acknowledged."""
        self._take_all(min(length, 4))
        assert self._peer is not None
        self._desk.on_released(self._peer.association)
        self._end(associate.encode_release_response())

    def _end(self, last_pdu: bytes, *, closes: bool = False) -> None:
        """Say the last word, free the slot, and let the peer close (Sta13): closing first with bytes unread would reset
        the connection, and the peer might never read that word. After an A-ABORT it is told that nothing follows.
        """
        self._desk.admission.linger(self)
        with suppress(OSError, ValueError):
            if last_pdu:
                self._socket.settimeout(LINGER_S)
                self._socket.sendall(last_pdu)
                if closes:
                    self._socket.shutdown(socket.SHUT_WR)
                self._await_close()

    def _abort(self, source: int, reason: int) -> None:
        self._end(associate.encode_abort(source, reason), closes=True)

    def _await_close(self) -> None:
        linger_s = min(LINGER_S, self._desk.limits.artim_s)
        self._socket.settimeout(linger_s)
        until = time.monotonic() + linger_s
        scratch = bytearray(65_536)
        while time.monotonic() < until and self._socket.recv_into(scratch):
            pass

    def _leave(self) -> None:
        if self._data_set is not None:
            self._data_set.discard()
        self._desk.admission.leave(self)
        with suppress(OSError):
            self._socket.close()
        if self._peer is not None:
            self._desk.on_closed(self._peer.association)

    def _look_up(self) -> None:
        if self._desk.closing.is_set() and self._is_between_messages:
            raise Closing

    def _take_all(self, count: int) -> bytes:
        content = bytearray()
        while len(content) < count:
            content += self._wire.take_some(count - len(content))
        return bytes(content)
