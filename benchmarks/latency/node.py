"""A real node with the model that comes with it, and DCMTK's storescp as its only destination."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pydicom
import sqlalchemy as sa
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from benchmarks.ingest.process_tree import ProcessTree
from benchmarks.ingest.receivers import ENVIRONMENT
from domain.errors import Retry
from scu.echo import echo
from scu.store import Address, describe, send_files
from storage.database import Database
from storage.tables import executors
from tests.factories.ports import free_port

LOOPBACK = "127.0.0.1"
AFTER_RELEASE_S = 1.0
STARTS_WITHIN_S = 90.0
SENDER, PACS, NODE = "MODALITY1", "PACS", "COLLIMATOR"

CONFIGURATION = """\
[node]
ae_title = "COLLIMATOR"
data_dir = {data_dir}
database_url = {database_url}
[receiver]
port = {port}
minimum_free_gb = 0.2
minimum_free_percent = 0.0
[portal]
port = {portal_port}
[completion]
after_release_s = {after_release_s}
[logging]
level = "debug"
format = "json"
[[clinics]]
name = "st-mary"
tier = "enterprise"
[[clinics.callers]]
ae_title = "MODALITY1"
host = "127.0.0.1"
[[clinics.destinations]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs_port}
"""


class Failed(Exception):
    """There is no figure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """`stored`: where the destination puts what it gets."""

    config: Path
    log: Path
    stored: Path
    database: Database
    address: Address
    pacs: Address
    tree: ProcessTree

    def send(self, path: Path) -> float:
        """Send one file; when its association was released, in seconds since 1970."""
        send_files([describe(path)], self.address, calling_ae_title=SENDER, timeout_s=30.0)
        return time.time()

    def worker_cpu_s(self) -> float:
        """Of the worker and its analysis process, so far."""
        return sum(ProcessTree(number).cpu_s() for number in self.tree.process_ids() if _is_worker(number))


@contextmanager
def running(folder: Path, database_url: str = "") -> Iterator[Node]:
    """Both, from when the worker is at work until they are ended.

    Raises:
        Failed: one of them did not start.
    """
    stored, config, log = folder / "stored", folder / "collimator.toml", folder / "serve.log"
    stored.mkdir(parents=True)
    port, pacs_port = free_port(), free_port()
    config.write_text(
        CONFIGURATION.format(
            data_dir=json.dumps(str(folder / "data")),
            database_url=json.dumps(database_url),
            port=port,
            portal_port=free_port(),
            pacs_port=pacs_port,
            after_release_s=AFTER_RELEASE_S,
        ),
        encoding="utf-8",
    )
    database = Database(database_url or f"sqlite:///{folder / 'data' / 'collimator.db'}")
    with open(log, "wb") as output:
        collimator = [sys.executable, "-m", "cli"]
        subprocess.run([*collimator, "migrate", "--config", str(config)], check=True, stdout=output, stderr=output)
        storescp = [_storescp(), "+xa", "+B", "-aet", PACS, "-od", str(stored), str(pacs_port)]
        pacs = subprocess.Popen(storescp, stdout=output, stderr=output, env=ENVIRONMENT)
        serve = subprocess.Popen([*collimator, "serve", "--config", str(config)], stdout=output, stderr=output)
    node = Node(
        config=config,
        log=log,
        stored=stored,
        database=database,
        address=Address(ae_title=NODE, host=LOOPBACK, port=port),
        pacs=Address(ae_title=PACS, host=LOOPBACK, port=pacs_port),
        tree=ProcessTree(serve.pid),
    )
    try:
        wait_until(lambda: _answers(node) and _works(node), STARTS_WITHIN_S, "the node is at work")
        yield node
    finally:
        for process in (serve, pacs):
            process.terminate()
        for process in (serve, pacs):
            process.wait(120)
        database.close()


def radiograph(folder: Path, number: int) -> Path:
    """The chest radiograph RG1 (NEMA WG-04, from pydicom-data), as a study of its own of a child of five years."""
    path = folder / f"{number}.dcm"
    image = pydicom.dcmread(str(get_testdata_file("RG1_UNCR.dcm")))
    image.PatientAge = "005Y"
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    if "PatientBirthDate" in image:
        image.PatientBirthDate = ""
    image.save_as(path)
    return path


def wait_until(is_so: Callable[[], bool], within_s: float, what: str, *, look_every_s: float = 0.02) -> None:
    """Raises:
    Failed: it did not come about.
    """
    until = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > until:
            raise Failed(f"waited {within_s:.0f} s in vain until {what}")
        time.sleep(look_every_s)


def missing() -> str:
    """Why it cannot be measured on this machine; empty when it can."""
    return "" if _storescp() else "there is no storescp on this machine"


def _storescp() -> str:
    """pynetdicom installs a script of the same name beside the interpreter."""
    own = str(Path(sys.executable).parent)
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if folder != own]
    return shutil.which("storescp", path=os.pathsep.join(folders)) or ""


def _answers(node: Node) -> bool:
    with suppress(Retry):
        echo(node.address, calling_ae_title=SENDER, timeout_s=5.0)
        return True
    return False


def _works(node: Node) -> bool:
    with node.database.read() as connection:
        return bool(connection.scalar(sa.select(sa.func.count()).select_from(executors)))


def _is_worker(process_id: int) -> bool:
    try:
        return b"\x00worker\x00" in Path(f"/proc/{process_id}/cmdline").read_bytes()
    except OSError:
        return False
