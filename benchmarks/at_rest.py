"""What encryption at rest costs: an instance from memory into the spool, sealed and plain by turns.

Each instance is of a study of its own, as with radiographs, so that making the study's key is part of the figure.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.instances import Spool
from storage.study_keys import MasterKey, StudyKeys, study_name

FRAGMENT_BYTES = 131_060  # of a PDU of 128 KiB
FILE_META = bytes(700)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Medians. `cipher_ms` is AES-256-GCM alone, of the same bytes: what no program can go below here."""

    size_mb: float
    rounds: int
    plain_cpu_ms: float
    sealed_cpu_ms: float
    plain_wall_ms: float
    sealed_wall_ms: float
    cpu_ratio: float
    cipher_ms: float
    added_beyond_cipher_ms: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--size-mb", type=float, default=8.0)
    parser.add_argument("--dir", type=Path, help="on the disk to be measured; default: the temporary folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")


def run(arguments: argparse.Namespace) -> int:
    folder = Path(tempfile.mkdtemp(dir=arguments.dir))
    try:
        figures = measure(folder, rounds=arguments.rounds, size=int(arguments.size_mb * 1e6))
    finally:
        shutil.rmtree(folder)
    for name, value in asdict(figures).items():
        print(f"{name:<24} {value:10.2f}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(asdict(figures), indent=2), encoding="utf-8")
    return 0


def measure(folder: Path, *, rounds: int, size: int) -> Figures:
    """Interleaved, so that a noisy moment hits both."""
    plain = Spool(folder / "plain")
    sealed = Spool(folder / "sealed", keys=StudyKeys(folder / "sealed", [MasterKey(secret=os.urandom(32))]))
    memory = memoryview(bytearray(os.urandom(FRAGMENT_BYTES)))
    cipher = AESGCM(os.urandom(32))
    times: dict[str, list[tuple[float, float]]] = {"plain": [], "sealed": [], "cipher": []}
    for number in range(rounds):
        for name, spool in (("plain", plain), ("sealed", sealed)):
            times[name].append(timed(partial(receive, spool, number, memory, size)))
            for key in spool.stored_keys():
                spool.remove(key)
        times["cipher"].append(timed(partial(encrypt, cipher, memory, size)))
    cpu = {name: statistics.median(cpu_ms for cpu_ms, _ in pairs) for name, pairs in times.items()}
    wall = {name: statistics.median(wall_ms for _, wall_ms in pairs) for name, pairs in times.items()}
    return Figures(
        size_mb=size / 1e6,
        rounds=rounds,
        plain_cpu_ms=cpu["plain"],
        sealed_cpu_ms=cpu["sealed"],
        plain_wall_ms=wall["plain"],
        sealed_wall_ms=wall["sealed"],
        cpu_ratio=cpu["sealed"] / cpu["plain"],
        cipher_ms=cpu["cipher"],
        added_beyond_cipher_ms=cpu["sealed"] - cpu["plain"] - cpu["cipher"],
    )


def receive(spool: Spool, number: int, memory: memoryview, size: int) -> str:
    """What the receiver does with an instance once its bytes are there; the spool key."""
    file = spool.receive(study_name("st-mary", f"1.2.{number}"))
    file.write(FILE_META)
    for start in range(0, size, FRAGMENT_BYTES):
        file.write(memory[: min(FRAGMENT_BYTES, size - start)])
    return file.commit()


def encrypt(cipher: AESGCM, memory: memoryview, size: int) -> None:
    block = bytearray(65_536 + 16)
    for start in range(0, size, 65_536):
        cipher.encrypt_into(start.to_bytes(12, "big"), memory[:65_536], None, block)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds of processor and of wall clock."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return (time.process_time() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3
