"""C-STORE as SCU (PS3.4 Annex B): files go out as they are, byte for byte, over one association."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydicom.filereader import read_file_meta_info
from pynetdicom import AE, _config, build_context
from pynetdicom.association import Association
from pynetdicom.events import EventHandlerType
from pynetdicom.pdu_primitives import A_ASSOCIATE, SCP_SCU_RoleSelectionNegotiation

from domain.clinics import Caller, Destination
from domain.errors import Misconfigured, Refuse, Retry
from domain.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from domain.tls import TlsFiles
from scu.connection import LIMITED
from scu.inbox import APART
from scu.p_data import write_straight
from scu.tls import CallingEntity, ClientContext, Secured

# An association can propose 128 presentation contexts: their IDs are the odd numbers of one byte (PS3.8 9.3.2.2).
MAXIMUM_CONTEXTS = 128
REST_S = 0.02
TLS_HINT = (
    "openssl s_client -connect HOST:PORT shows its certificate; see tls and tls_name of the destination, or "
    "commitment_tls and commitment_tls_name of the caller"
)
SOP_CLASS_NOT_SUPPORTED = 0x0122  # PS3.7 Annex C


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where a peer listens and what it is called. `tls`: None where it is spoken to without."""

    ae_title: str
    host: str
    port: int
    tls: Secured | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OutgoingFile:
    """A DICOM file with what its presentation context needs."""

    path: Path
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str


class Answer(StrEnum):
    """NOT_TAKEN: the peer does not take objects of this SOP class at all; another form may do."""

    STORED = "stored"
    RETRY = "retry"
    NOT_TAKEN = "not_taken"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True, slots=True)
class SendOutcome:
    """What the peer said to one file. `status` is None when it said nothing. `detail` is empty for a plain success."""

    sop_instance_uid: str
    answer: Answer
    status: int | None
    detail: str


def address_of(destination: Destination, files: TlsFiles | None) -> Address:
    """`files`: those of the node.

    Raises:
        Misconfigured: it is to be spoken to over TLS, and there are none. Without TLS it gets nothing.
    """
    secured = None
    if destination.tls:
        secured = _secured(f"destination {destination.name} has tls", destination.tls_name or destination.host, files)
    return Address(ae_title=destination.ae_title, host=destination.host, port=destination.port, tls=secured)


def address_of_caller(caller: Caller, host: str, files: TlsFiles | None) -> Address:
    """Where it listens for reports. `host`: the address that it asked from. `files`: those of the node.

    Raises:
        Misconfigured: as for a destination.
    """
    secured = None
    if caller.commitment_tls:
        secured = _secured(f"caller {caller.ae_title} has commitment_tls", caller.commitment_tls_name or host, files)
    return Address(ae_title=caller.ae_title, host=host, port=caller.commitment_port, tls=secured)


def describe(path: Path) -> OutgoingFile:
    """The file's own account of itself, from its File Meta.

    Raises:
        Refuse: it is not a DICOM file (PS3.10).
    """
    try:
        meta = read_file_meta_info(path)
        return OutgoingFile(
            path=path,
            sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
            sop_class_uid=str(meta.MediaStorageSOPClassUID),
            transfer_syntax_uid=str(meta.TransferSyntaxUID),
        )
    except Exception as error:  # pydicom's errors for broken files have no common base
        raise Refuse(f"{path} is not a DICOM file", reason="not_dicom") from error


class StoreAssociation:
    """An open association: files go over it one after the other, for as long as the peer keeps it."""

    def __init__(self, association: Association) -> None:
        self._association = association
        self._accepted = {(str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in association.accepted_contexts}

    @property
    def is_open(self) -> bool:
        return bool(self._association.is_established)

    def takes(self, sop_class_uid: str, transfer_syntax_uid: str) -> bool:
        """Whether the peer has accepted a context of this pair."""
        return (sop_class_uid, transfer_syntax_uid) in self._accepted

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """While nothing is to be sent. Otherwise pynetdicom's threads look a thousand times a second whether there is,
        which takes 7 % of a core.
        """
        threads, pace_s = self._association, self._association.dul._run_loop_delay
        threads.dul._run_loop_delay = REST_S
        threads._reactor_checkpoint.clear()
        try:
            yield
        finally:
            threads._reactor_checkpoint.set()
            threads.dul._run_loop_delay = pace_s

    def send(self, file: OutgoingFile) -> SendOutcome:
        """Send one file; when the association has ended, say so."""

        def outcome(answer: Answer, status: int | None, detail: str) -> SendOutcome:
            return SendOutcome(sop_instance_uid=file.sop_instance_uid, answer=answer, status=status, detail=detail)

        if not self.takes(file.sop_class_uid, file.transfer_syntax_uid):
            what = f"SOP class {file.sop_class_uid} in transfer syntax {file.transfer_syntax_uid}"
            return outcome(Answer.NOT_TAKEN, None, f"the peer does not take {what}")
        if not self.is_open:
            return outcome(Answer.RETRY, None, "the association ended before this file")
        try:
            response = self._association.send_c_store(file.path)
        except (RuntimeError, OSError) as error:
            return outcome(Answer.RETRY, None, str(error))
        status = response.get("Status")
        if status is None:
            return outcome(Answer.RETRY, None, "the peer did not answer: timed out, aborted or closed the connection")
        return outcome(
            answer_of(status), status, "" if status == 0 else f"0x{status:04X} {response.get('ErrorComment', '')}"
        )


def send_files(
    files: Sequence[OutgoingFile],
    to: Address,
    *,
    calling_ae_title: str,
    timeout_s: float,
    on_outcome: Callable[[SendOutcome], None] = lambda outcome: None,
) -> list[SendOutcome]:
    """Send files over one association, in order; one outcome for each file.

    Raises:
        Retry: no association came about: the peer is away, or refused it.
    """
    if not files:
        return []
    contexts = list(dict.fromkeys((file.sop_class_uid, file.transfer_syntax_uid) for file in files))
    outcomes = []
    with store_association(to, contexts, calling_ae_title=calling_ae_title, timeout_s=timeout_s) as association:
        for file in files:
            outcome = association.send(file)
            outcomes.append(outcome)
            on_outcome(outcome)
    return outcomes


@contextmanager
def store_association(
    to: Address, contexts: Sequence[tuple[str, str]], *, calling_ae_title: str, timeout_s: float
) -> Iterator[StoreAssociation]:
    """An association for files of these (SOP Class UID, Transfer Syntax UID) pairs; released in the end.

    Raises:
        Retry: no association came about: the peer is away, or refused it.
    """
    ae = application_entity(calling_ae_title, timeout_s)
    if len(contexts) > MAXIMUM_CONTEXTS:
        raise Refuse(
            f"the files need {len(contexts)} presentation contexts and an association has {MAXIMUM_CONTEXTS}",
            reason="too_many_contexts",
            hint="send them in several calls",
        )
    # One context for each pair: offered together, the peer could choose a transfer syntax that the file is not in.
    ae.requested_contexts = [build_context(sop_class, syntax) for sop_class, syntax in contexts]
    association = associate(ae, to)
    if not association.is_established and not takes_nothing(association):
        raise Retry(why_not(association, to), hint="check that the destination is running and knows this AE title")
    if association.is_established:
        write_straight(association)
    try:
        yield StoreAssociation(association)
    finally:
        if association.is_established:
            association.release()


def answer_of(status: int) -> Answer:
    """What a C-STORE Status asks of the sender (PS3.4 Table B.2-1, PS3.7 Annex C).

    Warnings (0xB000, 0xB006, 0xB007, 0x0001, 0x0107, 0x0116) mean that the instance was stored. Out of Resources,
    Processing Failure and Resource Limitation may pass. SOP Class not supported is said of the class, not of the
    instance. All else stays refused however often it is sent.
    """
    if status == 0x0000 or status & 0xF000 == 0xB000 or status in (0x0001, 0x0107, 0x0116):
        return Answer.STORED
    if status & 0xFF00 == 0xA700 or status in (0x0110, 0x0213):
        return Answer.RETRY
    if status == SOP_CLASS_NOT_SUPPORTED:
        return Answer.NOT_TAKEN
    return Answer.REFUSED


def application_entity(calling_ae_title: str, timeout_s: float) -> AE:
    """The calling side.

    Raises:
        Misconfigured: `calling_ae_title` is not an AE title.
    """
    # Files go out as they lie on disk, in pieces, instead of being parsed and encoded again.
    _config.STORE_SEND_CHUNKED_DATASET = True
    try:
        ae = CallingEntity(calling_ae_title)
    except ValueError as error:
        raise _not_an_ae_title(calling_ae_title) from error
    ae.connection_timeout = timeout_s
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout_s
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return ae


def associate(
    ae: AE,
    to: Address,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    handlers: Sequence[EventHandlerType] = (),
) -> Association:
    """Propose the association, with these SCP/SCU roles (PS3.7 D.3.3.4); it may not be established.

    handlers: of what the peer may ask on it.

    Raises:
        Misconfigured: the peer's AE title is not one.
        Retry: TLS did not come about.
    """
    context = None if to.tls is None else _context(to.tls)
    try:
        association = ae.associate(
            to.host,
            to.port,
            ae_title=to.ae_title,
            ext_neg=list(roles),
            evt_handlers=[LIMITED, APART, *handlers],
            tls_args=None if to.tls is None or context is None else (context, to.tls.name),
        )
    except ValueError as error:
        raise _not_an_ae_title(to.ae_title) from error
    if context is not None and context.why_not:
        raise Retry(f"{_where(to)} does not speak TLS with this node: {context.why_not}", hint=TLS_HINT)
    return association


def _secured(why: str, name: str, files: TlsFiles | None) -> Secured:
    if files is None:
        raise Misconfigured(
            f"{why}, and the node has no certificate to show",
            hint="set receiver.tls_certificate_file, tls_key_file and tls_ca_file",
        )
    return Secured(files=files, name=name)


def _context(tls: Secured) -> ClientContext:
    try:
        return ClientContext.of(tls.files)
    except Misconfigured as error:  # a renewal that is only half there: what is to be sent waits for the rest
        raise Retry(error.message, hint=error.hint) from error


def takes_nothing(association: Association) -> bool:
    """Whether the peer accepted the association and none of its contexts; pynetdicom aborts such a one by itself."""
    return not association.is_rejected and bool(association.rejected_contexts)


def why_not(association: Association, to: Address) -> str:
    where = _where(to)
    # A peer that rejects within a millisecond: pynetdicom finds the connection closed before it looks at the answer.
    unread = association.dul.receive_pdu(wait=False) if association.is_aborted else None
    if association.is_rejected or isinstance(unread, A_ASSOCIATE):
        rejection = unread if isinstance(unread, A_ASSOCIATE) else association.acceptor.primitive
        return f"{where} rejected the association: {rejection.reason_str if rejection else 'no reason given'}"
    if association.is_aborted:
        distrusts = ", or does not trust this node's certificate" if to.tls else ""
        return f"{where} aborted the association, or there is nobody{distrusts}"
    return f"{where} cannot be reached"


def _where(to: Address) -> str:
    return f"{to.ae_title} at {to.host}:{to.port}"


def _not_an_ae_title(text: str) -> Misconfigured:
    return Misconfigured(f"{text!r} is not an AE title", hint="1 to 16 ASCII characters, without a backslash")
