"""`collimator portal`: the REST interface on its own."""

import argparse
import socket
import threading
from contextlib import suppress
from functools import cache, partial

import structlog
import uvicorn
from sqlalchemy.exc import DBAPIError

from cli.care import open_care
from cli.parts import SOFTWARE_VERSION, open_database, settings_for
from cli.payments import open_payments
from cli.stopping import stop_signal
from config.settings import PortalSettings
from domain.errors import Misconfigured
from portal_api.app import build_app
from storage.api_keys import list_keys
from storage.database import Database

log = structlog.get_logger()

REQUESTS_AT_ONCE = 100
WAITING_CONNECTIONS = 128
REQUESTS_FINISH_WITHIN_S = 5
IDLE_CONNECTION_S = 15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but --config."""


def run(args: argparse.Namespace) -> int:
    settings = settings_for(args.config)
    stop = stop_signal()
    database = open_database(settings)
    data_dir = settings.node.data_dir
    app = build_app(
        database=database,
        clinics=settings.clinic_directory,
        version=SOFTWARE_VERSION,
        worker_lease_s=settings.worker.lease_s,
        data_dir=data_dir if data_dir.is_dir() else None,
        open_care=cache(partial(open_care, settings, database)),
        open_payments=cache(partial(open_payments, settings, database)),
        return_url=settings.billing.return_url,
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            limit_concurrency=REQUESTS_AT_ONCE,
            timeout_keep_alive=IDLE_CONNECTION_S,
            timeout_graceful_shutdown=REQUESTS_FINISH_WITHIN_S,
        )
    )
    # uvicorn sees only the signals that come while it runs; one that came before must end it as well.
    threading.Thread(target=_end_when, args=(stop, server), daemon=True).start()
    with _listen(settings.portal) as listening:
        log.info("portal_ready", port=settings.portal.port)
        _warn_without_keys(database)
        server.run(sockets=[listening])
    database.close()
    return 0


def _end_when(stop: threading.Event, server: uvicorn.Server) -> None:
    stop.wait()
    server.should_exit = True


def _listen(portal: PortalSettings) -> socket.socket:
    """A listening socket of our own, so that a port that is taken is told as what it is."""
    family = socket.AF_INET6 if ":" in portal.host else socket.AF_INET
    try:
        return socket.create_server((portal.host, portal.port), family=family, backlog=WAITING_CONNECTIONS)
    except OSError as error:
        raise Misconfigured(
            f"the portal cannot listen on {portal.host}:{portal.port}: {error.strerror}",
            hint="change portal.host or portal.port, or stop what uses the port",
        ) from error


def _warn_without_keys(database: Database) -> None:
    """Without its database the portal still tells by /health that it is away."""
    with suppress(DBAPIError):
        if any(key.revoked_at is None for key in list_keys(database)):
            return
        log.warning("portal_has_no_key", reason="make one with `collimator keys create NAME`")
