"""A node and a PACS as processes of their own, for the journeys."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from domain.errors import Retry
from metering.ledger import LedgerRow, read_ledger
from scu.echo import echo
from scu.store import Address, describe, send_files
from storage.counts import Counts, read_counts
from storage.database import Database
from storage.overview import StudyFilter, StudyHistory, read_history
from tests.factories.ports import free_port

LOOPBACK = "127.0.0.1"
WAIT_S = 120.0
MODALITY = "MODALITY1"
PACS = "ORTHANC"

CONFIGURATION = """\
[node]
ae_title = "COLLIMATOR"
data_dir = "{data_dir}"
database_url = "{database_url}"

[receiver]
port = {receiver_port}

[portal]
port = {portal_port}

[completion]
after_release_s = 0.3

[delivery]
first_retry_s = 0.5
longest_retry_s = 2.0
timeout_s = 5.0

[[clinics]]
name = "st-mary"
tier = "professional"

[[clinics.callers]]
ae_title = "MODALITY1"
host = "127.0.0.1"

[[clinics.callers]]
ae_title = "ORTHANC"
host = "127.0.0.1"
commitment_port = {pacs_port}

[[clinics.destinations]]
name = "pacs"
ae_title = "ORTHANC"
host = "127.0.0.1"
port = {pacs_port}
"""


def wait_until(condition: Callable[[], Any], what: str, *, within_s: float = WAIT_S) -> Any:
    """The first true value of `condition`; a test that waits in vain says for what."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {within_s:.0f} s in vain until {what}")


class Process:
    """A child process whose output lies in a file."""

    def __init__(self, command: Sequence[str], log: Path, **environment: str) -> None:
        self.log = log
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **environment}
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)


class Node:
    """A node's configuration, its processes, and a window on its database."""

    def __init__(self, folder: Path, *, pacs_port: int, database_url: str = "") -> None:
        self.folder = folder
        self.config = folder / "collimator.toml"
        self.data_dir = folder / "var"
        self.receiver_port, self.portal_port = free_port(), free_port()
        self.config.write_text(
            CONFIGURATION.format(
                data_dir=self.data_dir,
                database_url=database_url,
                receiver_port=self.receiver_port,
                portal_port=self.portal_port,
                pacs_port=pacs_port,
            )
        )
        self.database = Database(database_url or f"sqlite:///{self.data_dir / 'collimator.db'}")
        self.address = Address(ae_title="COLLIMATOR", host=LOOPBACK, port=self.receiver_port)
        self.processes: list[Process] = []

    def run(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one verb to its end."""
        command = [sys.executable, "-m", "cli", verb, *arguments, "--config", str(self.config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def start(self, role: str) -> Process:
        """Start a role (or `serve`) and, where it receives, wait until it answers."""
        return self.start_command([sys.executable, "-m", "cli", role, "--config", str(self.config)], role)

    def start_command(self, command: Sequence[str], role: str, **environment: str) -> Process:
        process = Process(command, self.folder / f"{role}.log", **environment)
        self.processes.append(process)
        if role in ("serve", "receiver"):
            wait_until(self.answers_echo, f"{role} answers C-ECHO")
        return process

    def stop(self) -> None:
        for process in self.processes:
            if process.process.poll() is None:
                process.stop()
        self.database.close()

    def answers_echo(self) -> bool:
        try:
            echo(self.address, calling_ae_title=MODALITY, timeout_s=5.0)
        except Retry:
            return False
        return True

    def send(self, *paths: Path) -> list[str]:
        """Send files as the modality; the answers."""
        outcomes = send_files(
            [describe(path) for path in paths], self.address, calling_ae_title=MODALITY, timeout_s=30.0
        )
        return [outcome.answer.value for outcome in outcomes]

    def histories(self, study_instance_uid: str | None = None) -> list[StudyHistory]:
        return read_history(self.database, StudyFilter(study_instance_uid=study_instance_uid))

    def wait_for(self, state: str, study_instance_uid: str | None = None) -> StudyHistory:
        """The history of the study once it is in this state and nothing is on its way."""

        def arrived() -> StudyHistory | None:
            for history in self.histories(study_instance_uid):
                on_its_way = any(d.state == "pending" for result in history.results for d in result.deliveries)
                if history.state == state and not on_its_way:
                    return history
            return None

        history: StudyHistory = wait_until(arrived, f"a study is {state}; they are {self._states()}")
        return history

    def _states(self) -> list[tuple[str, str]]:
        return [(history.state, history.reason) for history in self.histories()]

    def ledger(self) -> list[LedgerRow]:
        return read_ledger(self.database)

    def counts(self) -> Counts:
        return read_counts(self.database, clinics=None)


class Orthanc:
    """A real PACS: Orthanc with its DICOMweb plugin."""

    def __init__(self, program: str, folder: Path) -> None:
        self.port, self.http_port = free_port(), free_port()
        self._program, self._folder = program, folder
        self._process: Process | None = None

    def start(self, *, node_port: int) -> None:
        storage = self._folder / "orthanc"
        storage.mkdir(exist_ok=True)
        configuration = {
            "Name": "a PACS",
            "StorageDirectory": str(storage),
            "IndexDirectory": str(storage),
            "DicomAet": PACS,
            "DicomPort": self.port,
            "DicomCheckCalledAet": True,
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomModalities": {"node": ["COLLIMATOR", LOOPBACK, node_port], "finder": ["FINDSCU", LOOPBACK, 104]},
            "Plugins": ["/usr/share/orthanc/plugins"],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        config = self._folder / "orthanc.json"
        config.write_text(json.dumps(configuration))
        self._process = Process([self._program, str(config)], self._folder / "orthanc.log", TCP_NODELAY="1")
        wait_until(self._answers, "Orthanc answers", within_s=90.0)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def get(self, path: str) -> Any:
        response = httpx.get(f"http://{LOOPBACK}:{self.http_port}{path}", timeout=30.0)
        response.raise_for_status()
        return response.json()

    def instances(self) -> list[str]:
        """Orthanc's own identifiers of what it holds."""
        return sorted(self.get("/instances"))

    def file(self, instance: str) -> bytes:
        return httpx.get(f"http://{LOOPBACK}:{self.http_port}/instances/{instance}/file", timeout=30.0).content

    def send_to_node(self, instances: list[str]) -> None:
        """Have Orthanc send by C-STORE what it holds."""
        url = f"http://{LOOPBACK}:{self.http_port}/modalities/node/store"
        httpx.post(url, json={"Resources": instances, "Synchronous": True}, timeout=60.0).raise_for_status()

    def put_in(self, path: Path) -> str:
        """Have Orthanc hold this file; its own identifier of it."""
        url = f"http://{LOOPBACK}:{self.http_port}/instances"
        response = httpx.post(url, content=path.read_bytes(), timeout=30.0)
        response.raise_for_status()
        return str(response.json()["ID"])

    def ask_node_for_commitment(self, *references: tuple[str, str]) -> str:
        """Have Orthanc ask the node, by SOP Class UID and SOP Instance UID; the path of the transaction."""
        url = f"http://{LOOPBACK}:{self.http_port}/modalities/node/storage-commitment"
        instances = [{"SOPClassUID": sop_class, "SOPInstanceUID": uid} for sop_class, uid in references]
        response = httpx.post(url, json={"DicomInstances": instances}, timeout=30.0)
        response.raise_for_status()
        return str(response.json()["Path"])

    def _answers(self) -> bool:
        try:
            return bool(self.get("/system"))
        except httpx.HTTPError:
            return False
