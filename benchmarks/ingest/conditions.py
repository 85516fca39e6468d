"""Under what conditions a run was made: without them its figures say little."""

import importlib.metadata
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

PACKAGES = ("collimator", "pynetdicom", "pydicom")
PROGRAMS = {"DCMTK": ["storescp", "--version"], "Orthanc": ["Orthanc", "--version"], "cc": ["cc", "--version"]}
VERSION = re.compile(r"\d+(\.\d+)+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """load_average: of the last minute, when the run began; above the number of cores, others were at work.

    processor_ticks, stolen_ticks: of all cores since the machine started, when the run began (proc(5), /proc/stat).
    """

    date: str
    kernel: str
    processor: str
    cores: int
    memory_gb: float
    file_system: str
    load_average: float
    versions: dict[str, str]
    processor_ticks: int
    stolen_ticks: int


def conditions(folder: Path) -> Conditions:
    """`folder`: where the receivers will store."""
    versions = {"Python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in PACKAGES}
    for name, command in PROGRAMS.items():
        if found := VERSION.search(_output(command)):
            versions[name] = found[0]
    processor_ticks, stolen_ticks = _ticks()
    return Conditions(
        date=datetime.now(UTC).date().isoformat(),
        kernel=f"{platform.system()} {platform.release()}",
        processor=_field("/proc/cpuinfo", "model name") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        file_system=_output(["findmnt", "--noheadings", "--output", "FSTYPE", "--target", str(folder)]),
        load_average=os.getloadavg()[0],
        versions=versions,
        processor_ticks=processor_ticks,
        stolen_ticks=stolen_ticks,
    )


def stolen_since(began: Conditions) -> float:
    """The share of the cores' time since then that the host of this virtual machine gave to others, 0 to 1.

    The load average knows nothing of it: a run that was robbed looks like a slow one.
    """
    processor_ticks, stolen_ticks = _ticks()
    return (stolen_ticks - began.stolen_ticks) / max(1, processor_ticks - began.processor_ticks)


def _ticks() -> tuple[int, int]:
    """(all, stolen)."""
    ticks = [int(field) for field in _line("/proc/stat", "cpu ").split()[1:9]]  # what follows is counted in these
    return sum(ticks), ticks[7]


def _output(command: list[str]) -> str:
    """Empty where there is no such program."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except OSError:
        return ""


def _field(file: str, name: str) -> str:
    return _line(file, name).partition(":")[2].strip()


def _line(file: str, beginning: str) -> str:
    lines = Path(file).read_text(encoding="ascii", errors="replace").splitlines()
    return next((line for line in lines if line.startswith(beginning)), "")
