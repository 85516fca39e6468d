"""`collimator receiver`: listens and stores in some processes, and follows the spool into the database in another.

    parent ─┬─ listener 0 … N-1   port -> spool, share the port          ┐ news: one pipe
            └─ indexer            spool -> database, at low priority  <──┘

An indexer in a listener's own process would take the interpreter's lock from the threads that receive
(docs/adr/0009-receiver-processes.md).
"""

import argparse
import sys
from collections.abc import Collection
from functools import partial

import structlog

from cli.at_rest import check_keys
from cli.children import Child, Crew
from cli.parts import open_spool, settings_for
from config.settings import ReceiverSettings
from domain.errors import Misconfigured
from storage.instances import Spool

log = structlog.get_logger()

# What pydicom imports when it is there, to decode pixels and to download samples: 20 MB and 0.3 s, and 10 MB for GDCM.
NOT_NEEDED = ("numpy", "PIL", "gdcm", "pylibjpeg", "jpeg_ls", "requests", "tqdm")
ABORTED_WITHIN_S = 5.0
INDEXER_STOPS_WITHIN_S = 15.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but --config."""


def run(args: argparse.Namespace) -> int:
    """In the parent, until all have stopped; in each child, until that one has (see `Crew.run`)."""
    settings = settings_for(args.config)
    check(settings.receiver)
    check_keys(settings)
    leave_out(NOT_NEEDED)
    from cli.indexer import index  # only now: these bring pydicom
    from cli.listener import listen
    from storage.arrivals.news import NewsPipe

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


def leave_out(packages: Collection[str]) -> None:
    """To whoever imports one of these from now on, in this process and its children, it is not installed."""
    for package in packages:
        sys.modules.setdefault(package, None)  # type: ignore[arg-type]  # what the import system takes for "not there"


def remove_leftovers(spool: Spool) -> None:
    """What a listener that died had begun to write."""
    if removed := spool.remove_leftovers():
        log.info("leftovers_removed", count=removed)
