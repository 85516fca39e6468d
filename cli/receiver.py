"""`collimator receiver`: listens and stores in some processes, and follows the spool into the database in another.

    parent ─┬─ listener 0 … N-1   port -> spool, share the port          ┐ news: one pipe
            └─ indexer            spool -> database, at low priority  <──┘

An indexer in a listener's own process would take the interpreter's lock from the threads that receive
(docs/adr/0009-receiver-processes.md).
"""

import argparse
import errno
import os
import socket
import threading
import time
from functools import partial
from typing import Any

import structlog

from cli.children import Child, Crew
from cli.parts import open_database, open_spool, settings_for
from config.settings import ReceiverSettings, Settings
from domain.errors import Misconfigured
from scp.callers import Callers
from scp.commitment import STORAGE_COMMITMENT_PUSH_MODEL, CommitmentService
from scp.limits import MEBIBYTE, Limits
from scp.mpps import MODALITY_PERFORMED_PROCEDURE_STEP, ProcedureStepService
from scp.requests import CommandField, Services
from scp.server import Receiver
from scp.stock import StockReceiver
from scp.store import StoreHandler
from scp.tls import TlsIdentity, TlsPort
from storage.indexer import Indexer
from storage.instances import Spool
from storage.news import NewsPipe, NewsWriter
from storage.receivers import Beat
from storage.requests import COMMITMENTS, RequestBox
from storage.step_folder import StepFolder

log = structlog.get_logger()

NICENESS = 10  # receiving goes first; what has come is safe in the spool
ALIVE_S = 2.0
VERDICT_WITHIN_S = 1.0
PORT_FREE_WITHIN_S = 3.0  # the listener of a parent that was killed ends a moment after it
POLL_S = 0.1
ABORTED_WITHIN_S = 5.0
INDEXER_STOPS_WITHIN_S = 15.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but --config."""


def run(args: argparse.Namespace) -> int:
    """In the parent, until all have stopped; in each child, until that one has (see `Crew.run`)."""
    settings = settings_for(args.config)
    check(settings.receiver)
    count = settings.receiver.processes
    spool, pipe = open_spool(settings), NewsPipe(listeners=count)
    stops_within_s = settings.receiver.shutdown_s + settings.receiver.association_timeout_s + ABORTED_WITHIN_S
    crew = Crew(before_start=partial(remove_leftovers, spool))
    crew.add(
        *(
            Child(f"listener {number}", partial(listen, settings, pipe, crew, number), stops_within_s=stops_within_s)
            for number in range(count)
        )
    )
    crew.add(Child("indexer", partial(index, settings, pipe), stops_within_s=INDEXER_STOPS_WITHIN_S))
    return crew.run(on_ready=lambda: log.info("receiver_ready", count=count))


def check(receiver: ReceiverSettings) -> None:
    """Raises:
    Misconfigured: these settings do not go together.
    """
    if receiver.path == "stock" and receiver.tls_port:
        raise Misconfigured(
            'receiver.path is "stock" and receiver.tls_port is set', hint='TLS needs receiver.path = "fast"'
        )
    if receiver.processes == 1:
        return
    if receiver.port == 0:
        raise Misconfigured(
            "receiver.port is 0 and receiver.processes is more than 1",
            hint="several listeners can only share a port that is given",
        )
    if receiver.path == "stock":
        raise Misconfigured(
            'receiver.path is "stock" and receiver.processes is more than 1',
            hint="the stock path cannot share its port; use one process",
        )


def remove_leftovers(spool: Spool) -> None:
    """What a listener that died had begun to write."""
    if removed := spool.remove_leftovers():
        log.info("leftovers_removed", count=removed)


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


def index(settings: Settings, pipe: NewsPipe, stop: threading.Event) -> int:
    """Be the indexer."""
    os.nice(NICENESS)
    database = open_database(settings)
    name = f"{socket.gethostname()}:{settings.receiver.port}"
    indexer = Indexer(
        database,
        open_spool(settings),
        tiers={clinic.name: clinic.tier for clinic in settings.clinics},
        pipe=pipe,
        beat=Beat(database, name, listeners=pipe.listeners),
    )
    indexer.start()
    stop.wait()
    indexer.stop()
    database.close()
    return 0


def start(receiver: Receiver | StockReceiver, settings: ReceiverSettings, stop: threading.Event) -> None:
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
                    f"the receiver cannot listen on {settings.host}:{settings.port}: {error.strerror}",
                    hint="change receiver.host or receiver.port, or stop what uses the port",
                ) from error


def build_receiver(settings: Settings, spool: Spool, news: NewsWriter) -> Receiver | StockReceiver:
    """The receiver of one listener, on the path that is configured."""
    limits, asks = limits_of(settings.receiver), settings.receiver.conflicting_instances == "warn"
    store = StoreHandler(
        spool,
        called_ae_title=settings.node.ae_title,
        on_stored=news.on_stored,
        limits=limits,
        verdict_of=partial(news.verdict, timeout_s=VERDICT_WITHIN_S) if asks else None,
    )
    parts: dict[str, Any] = {
        "ae_title": settings.node.ae_title,
        "host": settings.receiver.host,
        "port": settings.receiver.port,
        "callers": Callers(settings.clinic_directory, takes_unknown=settings.receiver.unknown_callers == "quarantine"),
        "store": store,
        "on_released": news.on_released,
        "on_closed": news.on_closed,
        "services": services_of(settings),
        "limits": limits,
    }
    if settings.receiver.path == "stock":
        return StockReceiver(**parts)
    return Receiver(**parts, reuse_port=settings.receiver.processes > 1, tls=tls_port_of(settings.receiver))


def services_of(settings: Settings) -> Services:
    """What is served besides Verification and storage. Each keeps what it answered with success beside the spool."""
    data_dir = settings.node.data_dir
    commitment = CommitmentService(RequestBox(data_dir, COMMITMENTS), settings.clinic_directory)
    steps = ProcedureStepService(StepFolder(data_dir))
    return {
        (CommandField.N_ACTION_RQ, STORAGE_COMMITMENT_PUSH_MODEL): commitment.handle,
        (CommandField.N_CREATE_RQ, MODALITY_PERFORMED_PROCEDURE_STEP): steps.handle_create,
        (CommandField.N_SET_RQ, MODALITY_PERFORMED_PROCEDURE_STEP): steps.handle_set,
    }


def tls_port_of(receiver: ReceiverSettings) -> TlsPort | None:
    """Where TLS is spoken, if anywhere; the settings have seen to it that its files are named."""
    certificate, key, ca = receiver.tls_certificate_file, receiver.tls_key_file, receiver.tls_ca_file
    if not receiver.tls_port or certificate is None or key is None or ca is None:
        return None
    return TlsPort(receiver.tls_port, TlsIdentity(certificate_file=certificate, key_file=key, ca_file=ca))


def limits_of(receiver: ReceiverSettings) -> Limits:
    """Each listener holds its own count: the kernel, not we, chooses which one gets a connection."""
    return Limits(
        maximum_associations=receiver.maximum_associations,
        maximum_associations_per_caller=receiver.maximum_associations_per_caller,
        maximum_associations_per_address=receiver.maximum_associations_per_address,
        maximum_unassociated=receiver.maximum_unassociated,
        maximum_instance_size=receiver.maximum_instance_mb * MEBIBYTE,
        maximum_inflated_size=receiver.maximum_inflated_mb * MEBIBYTE,
        artim_s=receiver.artim_s,
        association_timeout_s=receiver.association_timeout_s,
    )
