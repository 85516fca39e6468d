"""Results go over TLS to a destination that asks for it, and wait where it cannot be trusted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from domain.tls import TlsFiles
from scu.tls import Secured
from storage.database import Database
from tests.factories.certificates import Authority, files_of
from tests.scu.conftest import Peer, storescp  # noqa: F401  # a fixture
from tests.workflow.conftest import Puts
from tests.workflow.test_compressed_pictures import arrived, overlay, rooms_with  # noqa: F401  # a fixture
from tests.workflow.test_delivery import run_newest, states
from workflow.rooms import Rooms


@pytest.fixture
def tls_files(tmp_path: Path) -> TlsFiles:
    authority = Authority(tmp_path, "authority")
    authority.identity("archive")
    return files_of(authority.identity("collimator"), authority)


@pytest.fixture
def archive(storescp: Callable[..., Peer], tls_files: TlsFiles) -> Peer:  # noqa: F811
    folder = tls_files.ca_file.parent
    return storescp(
        *("--enable-tls", str(folder / "archive.key"), str(folder / "archive.pem")),
        *("--add-cert-file", str(tls_files.ca_file)),
        secured=Secured(files=tls_files, name="127.0.0.1"),
    )


def rooms_over_tls(rooms: Rooms, archive: Peer, tls_files: TlsFiles, tls_name: str = "") -> Rooms:
    rooms = rooms_with(rooms, archive, "none")
    clinics = tuple(
        replace(clinic, destinations=tuple(replace(one, tls=True, tls_name=tls_name) for one in clinic.destinations))
        for clinic in rooms.clinics
    )
    return replace(rooms, clinics=clinics, tls_files=tls_files)


def test_a_result_is_delivered_over_tls(
    database: Database,
    rooms: Rooms,
    puts: Puts,
    archive: Peer,
    tls_files: TlsFiles,
    overlay: bytes,  # noqa: F811
) -> None:
    run_newest(rooms_over_tls(rooms, archive, tls_files), puts)
    assert states(database) == ("done", ["delivered"])
    assert arrived(archive).file_meta.MediaStorageSOPInstanceUID


def test_a_result_waits_while_the_archive_cannot_be_trusted(
    database: Database,
    rooms: Rooms,
    puts: Puts,
    archive: Peer,
    tls_files: TlsFiles,
    overlay: bytes,  # noqa: F811
) -> None:
    run_newest(rooms_over_tls(rooms, archive, tls_files, tls_name="another.example"), puts)
    assert states(database)[1] == ["pending"]
    assert list(archive.folder.iterdir()) == []
