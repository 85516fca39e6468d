"""One listener of the receiver: its settings become the parts that bring what comes to the port into the spool."""

import errno
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from cli.children import Crew
from cli.parts import open_confirmations, open_spool
from config.settings import ReceiverSettings, Settings
from domain.errors import Misconfigured
from scp.callers import Callers
from scp.commitment import CommitmentService
from scp.confirmation import ConfirmationService
from scp.contexts import STORAGE_COMMITMENT_PUSH_MODEL
from scp.limits import MEBIBYTE, Limits
from scp.mpps import MODALITY_PERFORMED_PROCEDURE_STEP, ProcedureStepService
from scp.requests import CommandField, Services
from scp.server import Receiver
from scp.store import StoreHandler
from scp.tls import TlsIdentity, TlsPort
from storage.arrivals.news import NewsPipe, NewsWriter
from storage.instances import Spool
from storage.requests.files import COMMITMENTS, RequestBox
from storage.requests.step_folder import StepFolder

if TYPE_CHECKING:
    from scp.stock import StockReceiver

ALIVE_S = 2.0
VERDICT_WITHIN_S = 5.0  # the indexer says at once when it cannot tell soon; this is for one that is dead or starved
PORT_FREE_WITHIN_S = 3.0  # the listener of a parent that was killed ends a moment after it
POLL_S = 0.1


def listen(settings: Settings, pipe: NewsPipe, crew: Crew, number: int, stop: threading.Event) -> int:
    """Be one listener."""
    news = pipe.writer(number, asks=settings.receiver.conflicting_instances == "warn")
    receiver = build_receiver(settings, open_spool(settings), news)
    start(receiver, settings.receiver, stop)
    news.started()
    crew.child_is_ready()
    while not stop.wait(ALIVE_S):
        news.alive()
    receiver.stop(grace_s=settings.receiver.shutdown_s)
    return 0


def start(receiver: "Receiver | StockReceiver", settings: ReceiverSettings, stop: threading.Event) -> None:
    """Listen, as soon as the port is free.

    Raises:
        Misconfigured: it is not.
    """
    deadline = time.monotonic() + PORT_FREE_WITHIN_S
    while True:
        try:
            receiver.start()
            return
        except OSError as error:
            is_taken = error.errno == errno.EADDRINUSE
            if not is_taken or time.monotonic() > deadline or stop.wait(POLL_S):
                raise Misconfigured(
                    f"the receiver cannot listen on {error.filename or settings.port}: {error.strerror}",
                    hint="change receiver.host, receiver.port or receiver.tls_port, or stop what uses the port",
                ) from error


def build_receiver(settings: Settings, spool: Spool, news: NewsWriter) -> "Receiver | StockReceiver":
    """The receiver of one listener, on the path that is configured."""
    limits, asks = limits_of(settings.receiver), settings.receiver.conflicting_instances == "warn"
    store = StoreHandler(
        spool,
        called_ae_title=settings.node.ae_title,
        on_stored=news.on_stored,
        limits=limits,
        verdict_of=partial(news.verdict, timeout_s=VERDICT_WITHIN_S) if asks else None,
    )
    callers = Callers(settings.clinic_directory, takes_unknown=settings.receiver.unknown_callers == "quarantine")
    parts: dict[str, Any] = {
        "ae_title": settings.node.ae_title,
        "host": settings.receiver.host,
        "port": settings.receiver.port,
        "callers": callers,
        "store": store,
        "on_released": news.on_released,
        "on_closed": news.on_closed,
        "services": services_of(settings, callers),
        "limits": limits,
    }
    if settings.receiver.path == "stock":
        from scp.stock import StockReceiver  # pynetdicom: 6 MB that only this path needs

        return StockReceiver(**parts)
    return Receiver(**parts, reuse_port=settings.receiver.processes > 1, tls=tls_port_of(settings.receiver))


def services_of(settings: Settings, callers: Callers) -> Services:
    """What is served besides Verification and storage. Each keeps what it answered with success beside the spool."""
    data_dir = settings.node.data_dir
    commitment = CommitmentService(RequestBox(data_dir, COMMITMENTS), settings.clinic_directory)
    confirmation = ConfirmationService(
        open_confirmations(settings), settings.clinic_directory, networks=callers.networks_of_destination
    )
    steps = ProcedureStepService(StepFolder(data_dir))
    return {
        (CommandField.N_ACTION_RQ, STORAGE_COMMITMENT_PUSH_MODEL): commitment.handle,
        (CommandField.N_EVENT_REPORT_RQ, STORAGE_COMMITMENT_PUSH_MODEL): confirmation.handle,
        (CommandField.N_CREATE_RQ, MODALITY_PERFORMED_PROCEDURE_STEP): steps.handle_create,
        (CommandField.N_SET_RQ, MODALITY_PERFORMED_PROCEDURE_STEP): steps.handle_set,
    }


def tls_port_of(receiver: ReceiverSettings) -> TlsPort | None:
    """Where TLS is spoken, if anywhere; the settings have seen to it that its files are named."""
    files = receiver.tls_files
    return TlsPort(receiver.tls_port, TlsIdentity(files)) if receiver.tls_port and files else None


def limits_of(receiver: ReceiverSettings) -> Limits:
    """Each listener holds its own count: the kernel, not we, chooses which one gets a connection."""
    return Limits(
        maximum_associations=receiver.maximum_associations,
        maximum_associations_per_caller=receiver.maximum_associations_per_caller,
        maximum_associations_per_address=receiver.maximum_associations_per_address,
        maximum_associations_of_strangers=receiver.maximum_associations_of_strangers
        or max(1, receiver.maximum_associations // 4),
        maximum_unassociated=receiver.maximum_unassociated,
        maximum_instance_size=receiver.maximum_instance_mb * MEBIBYTE,
        maximum_inflated_size=receiver.maximum_inflated_mb * MEBIBYTE,
        artim_s=receiver.artim_s,
        association_timeout_s=receiver.association_timeout_s,
    )
