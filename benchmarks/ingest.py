"""Receiving, side by side: the node's receiver with everything on, and DCMTK's storescp, which syncs nothing.

Rounds are interleaved (A B A B …) on one machine, with fresh folders; figures are medians over the rounds, and the
ratio is taken inside each round. CPU is the receiver's own, from /proc. storescp runs with TCP_NODELAY=1: with Nagle's
algorithm left on, as packaged, each answer would wait some 40 ms and the comparison would be worth nothing.
"""

import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import UID

LOOPBACK = "127.0.0.1"
Receiver = Callable[[Path], AbstractContextManager[tuple[int, int]]]

OUT = Path("bench-out")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """`instances` files of about `bytes_each`, sent over one association by DCMTK's storescu."""

    name: str
    instances: int
    bytes_each: int


LOADS = (
    Load(name="W1, 8 MB", instances=12, bytes_each=8 << 20),
    Load(name="W3, 64 KB", instances=200, bytes_each=64 << 10),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    instances_per_s: float
    cpu_s_per_gb: float
    peak_mb: float


def run(*, rounds: int) -> None:
    """Print a table and write bench-out/ingest.json."""
    missing = [program for program in ("storescp", "storescu") if shutil.which(program) is None]
    if missing:
        sys.exit(f"benchmarks: {', '.join(missing)} is not installed (Debian's package dcmtk)")
    report = []
    for load in LOADS:
        with tempfile.TemporaryDirectory() as folder:
            files = make_files(load, Path(folder))
            measured: dict[str, list[Figures]] = {name: [] for name in RECEIVERS}
            for _ in range(rounds):
                for name, receiver in RECEIVERS.items():
                    measured[name].append(measure(receiver, load, files))
        report += rows(load, measured)
    print_table(report)
    OUT.mkdir(exist_ok=True)
    (OUT / "ingest.json").write_text(json.dumps({"rounds": rounds, "rows": report}, indent=2) + "\n", encoding="utf-8")


def make_files(load: Load, folder: Path) -> Path:
    """CR images of noise, each a study of its own."""
    dataset = pydicom.dcmread(str(get_testdata_file("RG1_UNCR.dcm")))
    generator = np.random.default_rng(0)
    dataset.Rows, dataset.Columns = load.bytes_each // 2048, 1024
    for number in range(load.instances):
        dataset.PixelData = generator.integers(0, 1 << 15, load.bytes_each // 2, dtype=np.uint16).tobytes()
        dataset.StudyInstanceUID = f"2.25.7{number}"
        dataset.SeriesInstanceUID = f"2.25.7{number}.1"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"2.25.7{number}.1.1")
        dataset.save_as(folder / f"{number}.dcm")
    return folder


def measure(receiver: "Receiver", load: Load, files: Path) -> Figures:
    with tempfile.TemporaryDirectory() as folder, receiver(Path(folder)) as (port, process_id):
        before = cpu_s(process_id)
        begun = time.monotonic()
        command = ["storescu", "-aet", "BENCH", "-aec", "BENCH_SCP", "+sd", LOOPBACK, str(port), str(files)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "TCP_NODELAY": "1"})
        seconds = time.monotonic() - begun
        spent = cpu_s(process_id) - before
        peak = peak_mb(process_id)
    return Figures(
        instances_per_s=load.instances / seconds,
        cpu_s_per_gb=spent / (load.instances * load.bytes_each / 1e9),
        peak_mb=peak,
    )


@contextmanager
def collimator(folder: Path) -> Iterator[tuple[int, int]]:
    """Durable before 0x0000, directory synced, header read and rows in SQLite just behind."""
    port = free_port()
    config = folder / "collimator.toml"
    config.write_text(
        f'[node]\nae_title = "BENCH_SCP"\ndata_dir = "{folder / "var"}"\n[receiver]\nport = {port}\n'
        '[logging]\nlevel = "error"\n[[clinics]]\nname = "bench"\ntier = "basic"\n'
        '[[clinics.callers]]\nae_title = "BENCH"\n'
    )
    with running([sys.executable, "-m", "cli", "receiver", "--config", str(config)], port) as process_id:
        yield port, process_id


@contextmanager
def storescp(folder: Path) -> Iterator[tuple[int, int]]:
    """DCMTK, bit-preserving; nothing is synced and nothing is indexed."""
    port = free_port()
    command = ["storescp", "+B", "-pdu", "131072", "-aet", "BENCH_SCP", "-od", str(folder), str(port)]
    with running(command, port) as process_id:
        yield port, process_id


RECEIVERS: dict[str, Receiver] = {"collimator": collimator, "storescp +B": storescp}


@contextmanager
def running(command: list[str], port: int) -> Iterator[int]:
    """A receiver, from the moment its port answers until it is ended."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "TCP_NODELAY": "1"}
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection((LOOPBACK, port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        time.sleep(0.5)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def cpu_s(process_id: int) -> float:
    """User and system time of a process, in seconds (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def peak_mb(process_id: int) -> float:
    lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def rows(load: Load, measured: dict[str, list[Figures]]) -> list[dict[str, object]]:
    peer = measured["storescp +B"]
    return [
        {
            "load": load.name,
            "receiver": name,
            "instances_per_s": round(statistics.median(f.instances_per_s for f in figures), 1),
            "cpu_s_per_gb": round(statistics.median(f.cpu_s_per_gb for f in figures), 2),
            "peak_mb": round(statistics.median(f.peak_mb for f in figures)),
            "speed_ratio": round(
                statistics.median(f.instances_per_s / p.instances_per_s for f, p in zip(figures, peer, strict=True)), 2
            ),
        }
        for name, figures in measured.items()
    ]


def print_table(report: list[dict[str, object]]) -> None:
    heads = list(report[0])
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    for row in report:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")
