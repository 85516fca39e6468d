"""Fuzzes what reads a peer's bytes, each target in a process of its own. `python -m tests.fuzz [TARGET…] --seconds 20`

What breaks a promise is kept in tests/fuzz/findings/TARGET, where a test tries it again for ever.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
FINDINGS = Path(__file__).parent / "findings"
MEMORY_MB = 1024
MEMORY_FOLDER = Path("/dev/shm")  # where there is one, nothing waits for a disk
HANGS_AFTER_S = 20  # the clock's, on a busy machine; what is too slow is told by processor time


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """`findings`: the inputs that broke a promise; at most one a run, because the fuzzer ends with it."""

    inputs_tried: int
    findings: tuple[Path, ...]
    output: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of: {', '.join(TARGETS)}; all if none is named")
    parser.add_argument("--seconds", type=int, default=20, help="for each target (20)")
    arguments = parser.parse_args()
    status = 0
    for name in arguments.targets or TARGETS:
        if name not in TARGETS:
            parser.error(f"there is no target {name!r}")
        outcome = fuzz(name, seconds=arguments.seconds, findings=FINDINGS / name)
        print(f"{name}: {outcome.inputs_tried:,} inputs, {len(outcome.findings)} findings", flush=True)
        if outcome.findings or not outcome.inputs_tried:
            print(outcome.output, *outcome.findings, sep="\n")
            status = 1
    return status


def fuzz(name: str, *, seconds: int, findings: Path) -> Outcome:
    """Fuzz one target for so long. New findings are written into the folder `findings`; known ones are begun with."""
    before = set(findings.glob("*"))
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None) as folder:
        corpus, spool, found = (Path(folder, part) for part in ("corpus", "spool", "found"))
        for part in (corpus, spool, found):
            part.mkdir()
        for number, seed in enumerate([*TARGETS[name].seeds(), *(path.read_bytes() for path in sorted(before))]):
            (corpus / str(number)).write_bytes(seed)
        command = [sys.executable, "-m", "tests.fuzz.one", name, str(spool)]
        command += [f"-max_total_time={seconds}", f"-max_len={TARGETS[name].longest}", "-print_final_stats=1"]
        command += [
            f"-timeout={HANGS_AFTER_S}",
            f"-rss_limit_mb={MEMORY_MB}",
            f"-artifact_prefix={found}/",
            str(corpus),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
        for path in found.iterdir():
            findings.mkdir(parents=True, exist_ok=True)
            (findings / path.name).write_bytes(path.read_bytes())
    return Outcome(
        inputs_tried=inputs_tried(done.stderr),
        findings=tuple(sorted(set(findings.glob("*")) - before)),
        output=done.stdout[-4_000:] + done.stderr[-4_000:],
    )


def inputs_tried(output: str) -> int:
    numbers = [line.split()[-1] for line in output.splitlines() if line.startswith("stat::number_of_executed_units")]
    return int(numbers[0]) if numbers else 0


if __name__ == "__main__":
    sys.exit(main())
