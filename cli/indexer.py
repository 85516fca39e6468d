"""The indexer of the receiver: follows the spool, and the requests beside it, into the database."""

import os
import socket
import threading
from functools import partial

from cli.children import in_own_process
from cli.parts import open_database, open_spool
from config.settings import Settings
from storage.arrivals.followers import followers
from storage.arrivals.indexer import Indexer
from storage.arrivals.news import NewsPipe
from storage.arrivals.receivers import Beat
from storage.database import Database

NICENESS = 10  # receiving goes first; what has come is safe in the spool


def index(settings: Settings, pipe: NewsPipe, stop: threading.Event) -> int:
    """Be the indexer."""
    os.nice(NICENESS)
    # Alembic takes 10 MB, which are needed for a moment.
    if status := in_own_process(partial(migrate, settings)):
        return status
    database = Database(settings.database_url)
    name = f"{socket.gethostname()}:{settings.receiver.port}"
    indexer = Indexer(
        database,
        open_spool(settings),
        tiers={clinic.name: clinic.tier for clinic in settings.clinics},
        pipe=pipe,
        beat=Beat(database, name, listeners=pipe.listeners),
    )
    beside = followers(database, settings.node.data_dir, mark=indexer.mark)
    indexer.start()
    for follower in beside:
        follower.start()
    stop.wait()
    for follower in beside:
        follower.stop()
    indexer.stop()
    database.close()
    return 0


def migrate(settings: Settings) -> int:
    """Raises:
    Misconfigured: the database cannot be used.
    """
    open_database(settings).close()
    return 0
