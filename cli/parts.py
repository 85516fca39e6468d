"""Builds the rooms' parts from the settings; every role starts from here."""

import getpass
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from cli import DEFAULT_CONFIG, log
from cli.database_version import is_at_this_version
from config.settings import Settings, check, load
from storage.audit import LONGEST_NAME
from storage.database import Database
from storage.instances import ResultFolder, Spool
from storage.requests.confirmation_folder import ConfirmationFolder
from storage.shared.files import SharedFiles
from storage.shared.url import open_shared_store
from storage.study_keys import StudyKeys, read_master_keys

SOFTWARE_VERSION = "0.1.0"
GIGABYTE = 10**9
CACHE = "cache"


def settings_for(path: Path) -> Settings:
    """Read the configuration and set up the log as it says."""
    settings = load(path)
    log.configure(output_format=settings.logging.format, level=settings.logging.level)
    return settings


def settings_or_defaults(path: Path) -> Settings:
    """For verbs that also help where no node is set up: without a configuration file, the defaults."""
    if path == DEFAULT_CONFIG and not path.exists():
        return check({}, origin="defaults")
    return load(path)


def whoever_asks() -> str:
    """Who stands in the audit trail for what is done on the command line."""
    return f"command line, {getpass.getuser()}"[:LONGEST_NAME]


def open_database(settings: Settings) -> Database:
    """The node's database. The embedded one is brought to this version by itself; a server's by `migrate`.

    One that is at this version is left alone: while a frozen process holds SQLite's write lock, roles can start.
    """
    database = Database(settings.database_url)
    if database.is_sqlite and not _is_ready(database):
        database.migrate()
    return database


def _is_ready(database: Database) -> bool:
    try:
        return is_at_this_version(database)
    except DBAPIError:  # who migrates it finds out why, and says so
        return False


def study_keys(settings: Settings) -> StudyKeys | None:
    """The studies' keys, where the node encrypts at rest.

    Raises:
        Misconfigured: the key file is missing, or is none.
    """
    path = settings.storage.encryption_key_file
    return None if path is None else StudyKeys(settings.node.data_dir, read_master_keys(path))


def open_spool(settings: Settings) -> Spool:
    """Where received instances lie."""
    return Spool(
        settings.node.data_dir,
        minimum_free_bytes=round(settings.receiver.minimum_free_gb * GIGABYTE),
        minimum_free_share=settings.receiver.minimum_free_percent / 100,
        keys=study_keys(settings),
        strangers_maximum_bytes=round(settings.receiver.quarantine_maximum_gb * GIGABYTE),
        shared=open_shared(settings),
        shares_before_commit=settings.storage.acknowledge == "shared",
    )


def open_results(settings: Settings) -> ResultFolder:
    """Where result objects lie."""
    return ResultFolder(settings.node.data_dir, keys=study_keys(settings), shared=open_shared(settings))


def open_confirmations(settings: Settings) -> ConfirmationFolder:
    """What destinations are asked to commit to, and what they report."""
    url = settings.storage.shared_url
    return ConfirmationFolder(settings.node.data_dir, shared=open_shared_store(url) if url else None)


def open_shared(settings: Settings) -> SharedFiles | None:
    """The store that this machine shares with others, if any. It is not looked for before it is used.

    Raises:
        Misconfigured: its URL is none.
    """
    if not settings.storage.shared_url:
        return None
    return SharedFiles(
        open_shared_store(settings.storage.shared_url),
        settings.node.data_dir / CACHE,
        cache_bytes=round(settings.storage.cache_gb * GIGABYTE),
    )


def models_dir(settings: Settings) -> Path:
    """Where pulled and added model packages lie."""
    return settings.node.data_dir / "models"
