"""The receivers that are compared, each started afresh in an empty folder, and what shows that it has every instance.

DCMTK and Orthanc run with TCP_NODELAY=1: DCMTK leaves Nagle's algorithm on, so that with Linux's delayed
acknowledgements each answer comes some 40 ms late, and against that anybody wins.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.ingest import wire
from benchmarks.ingest.process_tree import ProcessTree
from benchmarks.ingest.raw_sender import LOOPBACK, Association
from tests.factories.ports import free_port

CALLING_AE_TITLE = "BENCH"
CALLED_AE_TITLE = "BENCH_SCP"
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
STARTS_WITHIN_S = 30.0
SETTLES_WITHIN_S = 5.0
ENDS_WITHIN_S = 20.0
POLL_S = 0.02
SLOW_SHARE = 1 / 6
SOURCE = Path(__file__).parent
DICOM_PREFIX_AT = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a receiver runs. `folder` is empty and its own; `programs`: what was built for this run."""

    folder: Path
    port: int
    programs: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Receiver:
    """
    needs: the program without which it cannot run.
    stored: the files that hold the instances.
    rows: how many instances its database holds, for those that have one.
    share: of a load's instances. The slow ones get fewer, so that a cell takes seconds with everyone.
    least_associations: from which on it differs from another.
    """

    name: str
    title: str
    needs: str
    command: Callable[[Place], list[str]]
    stored: Callable[[Path], Iterator[Path]]
    rows: Callable[[Path], int] | None = None
    share: float = 1.0
    least_associations: int = 1
    is_plain: bool = False
    is_product: bool = False
    is_encrypted: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    place: Place
    tree: ProcessTree
    log: Path

    def last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


class NotStarted(Exception):
    """The receiver ended, or did not answer in time."""


def storescp(place: Place) -> list[str]:
    options = ["--fork", "+xa", "+B", "-pdu", str(wire.LARGEST_PDU), "-aet", CALLED_AE_TITLE]
    return ["storescp", *options, "-od", str(place.folder), str(place.port)]


def orthanc(place: Place, *, is_tuned: bool) -> list[str]:
    """A node that takes DICOM and serves nothing else; durable as it is by default (SyncStorageArea)."""
    configuration = {
        "StorageDirectory": str(place.folder),
        "IndexDirectory": str(place.folder),
        "DicomAet": CALLED_AE_TITLE,
        "DicomPort": place.port,
        "HttpServerEnabled": False,
        "RemoteAccessAllowed": False,
        "Plugins": [],
    }
    if is_tuned:
        configuration |= {
            "MaximumPduLength": wire.LARGEST_PDU,
            "DicomThreadsCount": 8,
            "MaximumStorageCacheSize": 0,
            "StoreMD5ForAttachments": False,
        }
    file = place.folder.with_suffix(".json")
    file.write_text(json.dumps(configuration), encoding="utf-8")
    return ["Orthanc", str(file)]


def pynetdicom(place: Place) -> list[str]:
    return [sys.executable, str(SOURCE / "stock_pynetdicom.py"), CALLED_AE_TITLE, str(place.port), str(place.folder)]


def floor(place: Place, *, is_durable: bool) -> list[str]:
    """Compiled once for a run.

    Raises:
        NotStarted: it does not compile.
    """
    program = place.programs / "floor"
    if not program.exists():
        command = ["cc", "-O2", "-pthread", "-o", str(program), str(SOURCE / "floor.c")]
        compiled = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if compiled.returncode:
            raise NotStarted(f"floor.c does not compile: {compiled.stderr.strip()}")
    return [str(program), str(place.port), str(place.folder), str(int(is_durable))]


def collimator(place: Place, *, receiver: str = "", is_encrypted: bool = False) -> list[str]:
    """The default configuration, with one clinic that has one caller."""
    storage = ""
    if is_encrypted:
        key = place.folder.with_suffix(".key")
        key.write_text(secrets.token_hex(32) + "\n", encoding="utf-8")
        key.chmod(0o600)
        storage = f"[storage]\nencryption_key_file = {json.dumps(str(key))}\n"
    file = place.folder.with_suffix(".toml")
    file.write_text(
        f'[node]\nae_title = "{CALLED_AE_TITLE}"\ndata_dir = {json.dumps(str(place.folder))}\n'
        f"[receiver]\nport = {place.port}\n{receiver}\n{storage}"
        f'[[clinics]]\nname = "bench"\ntier = "basic"\n'
        f'[[clinics.callers]]\nae_title = "{CALLING_AE_TITLE}"\nhost = "{LOOPBACK}"\n',
        encoding="utf-8",
    )
    return [str(Path(sys.executable).with_name("collimator")), "receiver", "--config", str(file)]


def plain_files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def orthanc_files(folder: Path) -> Iterator[Path]:
    """It keeps the header of each instance as JSON beside it. Its index cannot be asked: it has the file for itself."""
    return (path for path in folder.glob("??/??/*") if _is_dicom(path))


def collimator_files(folder: Path) -> Iterator[Path]:
    return (folder / "spool").glob("[0-9a-f][0-9a-f]/*.dcm")


def collimator_rows(folder: Path) -> int:
    """0 as long as there is no table yet, or for a moment nobody may read it."""
    database = f"file:{folder / 'collimator.db'}?mode=ro"
    try:
        with closing(sqlite3.connect(database, uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM instances").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


_product = partial(Receiver, needs="collimator", stored=collimator_files, rows=collimator_rows, is_product=True)

RECEIVERS = {
    receiver.name: receiver
    for receiver in (
        Receiver(
            name="storescp",
            title="DCMTK storescp --fork +xa +B -pdu 131072: syncs nothing, indexes nothing",
            needs="storescp",
            command=storescp,
            stored=plain_files,
        ),
        _product(name="collimator", title="the node's receiver as it comes", command=collimator),
        _product(
            name="collimator-2",
            title="the same with [receiver] processes = 2",
            command=partial(collimator, receiver="processes = 2"),
            least_associations=2,
        ),
        _product(
            name="collimator-encrypted",
            title="the same with [storage] encryption_key_file",
            command=partial(collimator, is_encrypted=True),
            is_encrypted=True,
        ),
        _product(
            name="collimator-stock",
            title='the same with [receiver] path = "stock"',
            command=partial(collimator, receiver='path = "stock"'),
            share=SLOW_SHARE,
        ),
        Receiver(
            name="orthanc",
            title="Orthanc with its defaults",
            needs="Orthanc",
            command=partial(orthanc, is_tuned=False),
            stored=orthanc_files,
            share=SLOW_SHARE,
        ),
        Receiver(
            name="orthanc-tuned",
            title="Orthanc with PDU 131072, 8 DICOM threads, no storage cache, no MD5",
            needs="Orthanc",
            command=partial(orthanc, is_tuned=True),
            stored=orthanc_files,
            share=SLOW_SHARE,
        ),
        Receiver(
            name="pynetdicom",
            title="stock pynetdicom: event.dataset and save_as",
            needs=sys.executable,
            command=pynetdicom,
            stored=plain_files,
            share=SLOW_SHARE,
        ),
        Receiver(
            name="floor",
            title="a plain C copy from socket to file, no DICOM",
            needs="cc",
            command=partial(floor, is_durable=False),
            stored=plain_files,
            is_plain=True,
        ),
        Receiver(
            name="floor-durable",
            title="the same with fdatasync, rename and a sync of the directory",
            needs="cc",
            command=partial(floor, is_durable=True),
            stored=plain_files,
            is_plain=True,
        ),
    )
}


def missing(receiver: Receiver) -> str:
    """Why it cannot run on this machine; empty when it can."""
    if receiver.is_product or shutil.which(receiver.needs, path=_system_path()):
        return ""
    return f"there is no {receiver.needs} on this machine"


@contextmanager
def running(receiver: Receiver, folder: Path, programs: Path) -> Iterator[Running]:
    """The receiver, from the moment it answers and has nothing more to do, until it is ended.

    Raises:
        NotStarted: it ended, or did not answer in time.
    """
    folder.mkdir()
    place = Place(folder=folder, port=free_port(), programs=programs)
    command = receiver.command(place)
    log = folder.with_suffix(".log")
    with open(log, "wb") as output:
        environment = {**ENVIRONMENT, "PATH": _system_path()}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
    started = Running(place=place, tree=ProcessTree(process.pid), log=log)
    try:
        _wait_until_it_answers(receiver, process, started)
        started.tree.settle(at_most_s=SETTLES_WITHIN_S)
        yield started
    finally:
        _end(process, started.tree)


def check_stored(receiver: Receiver, folder: Path, *, instances: int, size_bytes: int) -> str:
    """What is missing of what was answered 0x0000; empty when nothing is."""
    files = list(receiver.stored(folder))
    stored_bytes = sum(path.stat().st_size for path in files)
    if len(files) != instances:
        return f"{len(files)} files of {instances} instances"
    if stored_bytes < size_bytes:
        return f"{stored_bytes} bytes of {size_bytes}"
    if receiver.is_encrypted and any(map(_is_dicom, files)):
        return "what it stored is not encrypted"
    return ""


def _wait_until_it_answers(receiver: Receiver, process: subprocess.Popen[bytes], started: Running) -> None:
    until = time.monotonic() + STARTS_WITHIN_S
    while True:
        try:
            _greet(receiver, started.place.port)
            return
        except OSError as error:
            if process.poll() is not None:
                raise NotStarted(f"{receiver.name} ended: {started.last_words()}") from error
            if time.monotonic() > until:
                raise NotStarted(f"{receiver.name} does not answer: {error}; {started.last_words()}") from error
            time.sleep(POLL_S)


def _greet(receiver: Receiver, port: int) -> None:
    if receiver.is_plain:
        socket.create_connection((LOOPBACK, port), timeout=5).close()
        return
    contexts = [(wire.VERIFICATION, wire.IMPLICIT_VR_LITTLE_ENDIAN)]
    Association(port, calling_ae_title=CALLING_AE_TITLE, called_ae_title=CALLED_AE_TITLE, contexts=contexts).release()


def _end(process: subprocess.Popen[bytes], tree: ProcessTree) -> None:
    """With its children, by their ids: first as it wishes to end itself, then what is left of it."""
    family = tree.born_at()
    process.terminate()
    try:
        process.wait(ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for process_id, born_at in family.items():
        if process_id != process.pid and ProcessTree(process_id).born_at().get(process_id) == born_at:
            os.kill(process_id, signal.SIGKILL)


def _is_dicom(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(DICOM_PREFIX_AT)
        return file.read(4) == b"DICM"


def _system_path() -> str:
    """pynetdicom installs scripts named like DCMTK's programs beside the interpreter: the system's go first."""
    own = str(Path(sys.executable).parent)
    return os.pathsep.join([*(part for part in os.environ.get("PATH", "").split(os.pathsep) if part != own), own])
