"""How a role starts whose database goes away just then."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy.exc import DBAPIError

from storage.database import Database, is_away

log = structlog.get_logger()


@contextmanager
def starting(database: Database, stop: threading.Event) -> Iterator[None]:
    """Within this block the process starts. Where the server goes away meanwhile, the process waits until it is back,
    or until `stop`, and then begins anew as the same process with the same command: of what had started, some may lack
    what it missed.
    """
    try:
        yield
    except DBAPIError as error:
        if not is_away(error):
            raise
        log.warning("database_away", job="start", error=type(error).__name__)
        if not database.wait_until_reachable(stop):
            sys.exit(0)
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606
