"""A database as a node leaves it: two clinics, of which each has a study, and one key for each role."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from domain.clinics import Caller, Clinic, Destination
from domain.plans import Tier
from domain.queueing import StatRules
from metering.care import Care
from portal_api.app import build_app
from portal_api.permissions import Role
from storage.api_keys import create_key
from storage.database import Database
from storage.intake import sync_clinics
from storage.jobs import JobQueue, migrate_jobs
from tests.portal_api.rows import MERCY, ST_MARY, beat, enter_everything, show_receiver

CLINICS = (
    Clinic(
        name=ST_MARY,
        tier=Tier.PROFESSIONAL,
        sends_notes=True,
        callers=(Caller(ae_title="MODALITY1", host="192.0.2.10"),),
        destinations=(Destination(name="pacs", ae_title="ORTHANC", host="192.0.2.20", port=4242),),
    ),
    Clinic(name=MERCY, tier=Tier.BASIC, sends_notes=False, callers=(), destinations=()),
)


def care_over(database: Database) -> Callable[[], Care]:
    """What does something for the studies of both clinics."""
    tiers = {clinic.name: clinic.tier for clinic in CLINICS}
    return lambda: Care(database, JobQueue(database), tiers=tiers, stat=StatRules())


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """empty.db has the tables and the two clinics; filled.db has rows, too. Tests work on copies."""
    folder = tmp_path_factory.mktemp("templates")
    empty = Database(f"sqlite:///{folder / 'empty.db'}")
    empty.migrate()
    migrate_jobs(empty)
    sync_clinics(empty, {clinic.name: clinic.tier for clinic in CLINICS})
    empty.close()
    shutil.copy(folder / "empty.db", folder / "filled.db")
    filled = Database(f"sqlite:///{folder / 'filled.db'}")
    enter_everything(filled)
    filled.close()
    return folder


@pytest.fixture
def database(templates: Path, tmp_path: Path) -> Iterator[Database]:
    """Tables, and the two clinics."""
    database = Database(f"sqlite:///{shutil.copy(templates / 'empty.db', tmp_path)}")
    yield database
    database.close()


@pytest.fixture
def filled(templates: Path, tmp_path: Path) -> Iterator[Database]:
    """A charged and a new generation of st-mary's study, a held study of mercy, and a bad instance of each."""
    filled = Database(f"sqlite:///{shutil.copy(templates / 'filled.db', tmp_path)}")
    beat(filled)
    show_receiver(filled)
    yield filled
    filled.close()


@pytest.fixture
def client(filled: Database, tmp_path: Path) -> TestClient:
    """The portal over that database, without a key."""
    app = build_app(
        database=filled,
        clinics=CLINICS,
        version="0.1.0",
        worker_lease_s=20.0,
        data_dir=tmp_path,
        open_care=care_over(filled),
    )
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def keys(filled: Database) -> dict[str, str]:
    """A key for each role, and "st-mary": an admin's key that is bound to that clinic."""
    made = {str(role): create_key(filled, name=role, role=role) for role in Role}
    return {**made, ST_MARY: create_key(filled, name="bound", role=Role.ADMIN, clinic=ST_MARY)}
