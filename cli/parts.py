"""Builds the rooms' parts from the settings; every role starts from here."""

import signal
import threading
from pathlib import Path

from cli import DEFAULT_CONFIG, log
from config.settings import Settings, check, load
from storage.database import Database

SOFTWARE_VERSION = "0.1.0"


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


def open_database(settings: Settings) -> Database:
    """The node's database. The embedded one is brought to this version by itself; a server's by `migrate`."""
    database = Database(settings.database_url)
    if database.is_sqlite:
        database.migrate()
    return database


def models_dir(settings: Settings) -> Path:
    """Where pulled and added model packages lie."""
    return settings.node.data_dir / "models"


def stop_signal() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
