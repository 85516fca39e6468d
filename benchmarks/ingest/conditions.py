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
    """load_average: of the last minute, when the run began; above the number of cores, others were at work."""

    date: str
    kernel: str
    processor: str
    cores: int
    memory_gb: float
    file_system: str
    load_average: float
    versions: dict[str, str]


def conditions(folder: Path) -> Conditions:
    """`folder`: where the receivers will store."""
    versions = {"Python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in PACKAGES}
    for name, command in PROGRAMS.items():
        if found := VERSION.search(_output(command)):
            versions[name] = found[0]
    return Conditions(
        date=datetime.now(UTC).date().isoformat(),
        kernel=f"{platform.system()} {platform.release()}",
        processor=_field("/proc/cpuinfo", "model name") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        file_system=_output(["findmnt", "--noheadings", "--output", "FSTYPE", "--target", str(folder)]),
        load_average=os.getloadavg()[0],
        versions=versions,
    )


def _output(command: list[str]) -> str:
    """Empty where there is no such program."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except OSError:
        return ""


def _field(file: str, name: str) -> str:
    lines = Path(file).read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
