"""Builds the rooms' parts from the settings; every role starts from here."""

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from cli import DEFAULT_CONFIG, log
from config.settings import Settings, check, load
from storage.database import Database

if TYPE_CHECKING:
    from workflow.rooms import Rooms

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


def build_rooms(settings: Settings, database: Database, *, stand_ins: dict[str, str] | None = None) -> "Rooms":
    """Everything that a worker's jobs use."""
    from domain.identity import MANUFACTURER, MODEL_NAME
    from inference.analyst import Analyst
    from inference.registry import Registry
    from reports.request import NodeIdentity
    from storage.instances import ResultFolder, Spool
    from storage.jobs import JobQueue
    from workflow.rooms import DeliveryRules, Rooms

    installed_dir = models_dir(settings)
    return Rooms(
        database=database,
        spool=Spool(settings.node.data_dir),
        results=ResultFolder(settings.node.data_dir),
        jobs=JobQueue(database),
        registry=Registry(installed_dir),
        analyst=Analyst(
            installed_dir=installed_dir,
            memory_limit_bytes=settings.inference.memory_limit_mb << 20,
            time_limit_s=settings.inference.time_limit_s,
        ),
        rulebook=settings.rulebook,
        clinics=settings.clinic_directory,
        node=NodeIdentity(
            manufacturer=MANUFACTURER,
            model_name=MODEL_NAME,
            serial_number=settings.node.serial_number,
            software_version=SOFTWARE_VERSION,
        ),
        ae_title=settings.node.ae_title,
        delivery=DeliveryRules(**settings.delivery.model_dump()),
        stand_ins=stand_ins or {},
    )


def models_dir(settings: Settings) -> Path:
    """Where pulled and added model packages lie."""
    return settings.node.data_dir / "models"


def stop_signal() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
