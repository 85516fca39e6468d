"""A node with a small chest model, beside a real PACS, on SQLite and on PostgreSQL."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from tests.conftest import ROOT, skip_or_fail
from tests.factories.packages import build_package
from tests.journeys.house import Node, Orthanc


@pytest.fixture(scope="session")
def chest() -> Path:
    """RG1: a real CR chest, PA, of a patient of 64 years (NEMA WG-04, from pydicom-data)."""
    return Path(str(get_testdata_file("RG1_UNCR.dcm")))


@pytest.fixture(scope="session")
def limb() -> Path:
    """RG3: a real CR of an extremity."""
    return Path(str(get_testdata_file("RG3_UNCR.dcm")))


@pytest.fixture
def orthanc(require_program: Callable[[str], str], tmp_path: Path) -> Iterator[Orthanc]:
    """A PACS that is not started yet."""
    pacs = Orthanc(require_program("Orthanc"), tmp_path)
    yield pacs
    pacs.stop()


@pytest.fixture(scope="session")
def commitment_scu(require_program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The requester of storage commitment that tests/dcmtk builds on DCMTK's library, compiled."""
    compiler = require_program("g++")
    has_library = subprocess.run(
        [compiler, "-E", "-include", "dcmtk/dcmnet/scu.h", "-x", "c++", "/dev/null"], capture_output=True
    )
    if has_library.returncode:
        skip_or_fail("DCMTK's headers (libdcmtk-dev) are not installed")
    program = tmp_path_factory.mktemp("dcmtk") / "commitment_scu"
    source = ROOT / "tests" / "dcmtk" / "commitment_scu.cc"
    libraries = ["-ldcmnet", "-ldcmdata", "-loflog", "-lofstd"]
    compiled = subprocess.run(
        [compiler, "-Wall", "-Wextra", "-o", str(program), str(source), *libraries], capture_output=True, text=True
    )
    assert (compiled.returncode, compiled.stderr) == (0, "")
    return program


@pytest.fixture(params=["sqlite", "postgresql"])
def node(request: pytest.FixtureRequest, tmp_path: Path, orthanc: Orthanc) -> Iterator[Node]:
    """A node that is configured, migrated and has a chest model; none of its roles runs yet."""
    url = request.getfixturevalue("postgresql_url") if request.param == "postgresql" else ""
    node = Node(tmp_path, pacs_port=orthanc.port, database_url=url)
    migrated = node.run("migrate")
    assert migrated.returncode == 0, migrated.stderr
    build_package(node.data_dir / "models" / "chest", name="chest")
    yield node
    node.stop()


@pytest.fixture
def sqlite_node(tmp_path: Path, orthanc: Orthanc) -> Iterator[Node]:
    """The same on the embedded database only, for journeys that do not depend on it."""
    node = Node(tmp_path, pacs_port=orthanc.port)
    build_package(node.data_dir / "models" / "chest", name="chest")
    yield node
    node.stop()
