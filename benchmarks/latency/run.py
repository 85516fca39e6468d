"""From the sender's release to the last result at the destination: an idle node, one at half load, the work alone.

Idle studies and the stages alone take turns, so that a noisy minute meets both.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pydicom

from benchmarks.fairness import databases
from benchmarks.ingest.conditions import conditions
from benchmarks.latency.node import AFTER_RELEASE_S, Failed, Node, missing, radiograph, running, wait_until
from benchmarks.latency.report import HalfLoad, Idle, Run, as_markdown
from benchmarks.latency.trace import last_stored, trace
from benchmarks.page import publish
from inference.bare_environment import ONE_THREAD

TITLE = "latency: from the release of an association to the last result at the destination"
SERVERS = ("SQLite", "PostgreSQL")
DONE_WITHIN_S = 120.0
SETTLES_S = 1.5
WARM_UP = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """rounds: of `idle` studies and then `alone` times each stage. burst: studies at once, to see the rate that the
    worker can do. `loaded`: studies at half of it. idle_cpu_s: how long an idle worker is watched.
    """

    rounds: int = 3
    idle: int = 8
    alone: int = 8
    burst: int = 15
    loaded: int = 60
    idle_cpu_s: float = 30.0


FULL = Effort()
QUICK = Effort(rounds=1, idle=3, alone=3, burst=4, loaded=6, idle_cpu_s=5.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything has a default."""
    parser.add_argument("--rounds", type=int, help=f"default {FULL.rounds}")
    parser.add_argument("--servers", default=",".join(SERVERS), metavar="NAMES", help="default both")
    parser.add_argument("--quick", action="store_true", help="about a minute: does it work?")
    parser.add_argument("--out", type=Path, default=Path("bench-out"), metavar="DIR")
    parser.add_argument("--page", action="store_true", help="write the tables into docs/benchmarks.md as well")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables, write latency.json and latency.md in DIR. 1 where one failed or is missing."""
    effort = QUICK if arguments.quick else FULL
    asked = arguments.servers.split(",")
    if unknown := set(asked) - set(SERVERS):
        print(f"there is no {', '.join(unknown)}; there are {', '.join(SERVERS)}", file=sys.stderr)
        return 2
    skipped = {name: reason for name in asked if (reason := missing() or databases.missing(name))}
    arguments.out.mkdir(parents=True, exist_ok=True)
    report = Run(rounds=arguments.rounds or effort.rounds, is_quick=arguments.quick, skipped=skipped)
    with tempfile.TemporaryDirectory(dir=arguments.out.absolute(), prefix="work-") as folder:
        report.conditions = conditions(Path(folder))
        with suppress(KeyboardInterrupt, SystemExit):  # who ends it early gets what there is
            for name in asked:
                if name not in skipped:
                    try:
                        _measure(name, effort, report, Path(folder))
                    except Failed as error:
                        report.failures.append(f"{name}: {error}")
            report.is_complete = True
    publish("latency", report, as_markdown(report), out=arguments.out, is_for_page=arguments.page)
    return 0 if report.is_complete and not report.failures else 1


def _measure(name: str, effort: Effort, report: Run, folder: Path) -> None:
    with _node(name, folder) as node:
        sending = Sending(node, folder / name)
        for _ in range(WARM_UP):
            sending.wait_for(*sending.send())
        idle = report.idle.setdefault(name, Idle())
        for _ in range(report.rounds):
            sending.make(effort.idle)
            for _ in range(effort.idle):
                time.sleep(SETTLES_S)
                uid, released_at = sending.send()
                stored_at = sending.wait_for(uid, released_at)
                time.sleep(SETTLES_S)
                idle.traces.append(trace(node, uid, released_at=released_at, stored_at=stored_at))
                _say(f"{name}, idle: {idle.traces[-1].total:.0f} ms")
            for stage, times in _alone(node, effort.alone).items():
                idle.alone.setdefault(stage, []).extend(times)
        time.sleep(SETTLES_S)
        idle.cpu_percent = _idle_cpu_percent(node, effort.idle_cpu_s)
        _say(f"{name}, idle worker: {idle.cpu_percent:.1f} % of a core")
        report.half_load[name] = _half_load(sending, effort)


class Sending:
    """Sends studies, each of its own, and waits for their results."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node = node
        self._folder = folder
        self._made: deque[Path] = deque()
        self._number = 0

    def make(self, count: int) -> None:
        """Studies to be sent later, while nothing else should be at work here."""
        for _ in range(count):
            self._number += 1
            self._made.append(radiograph(self._folder, self._number))

    def send(self) -> tuple[str, float]:
        """(Study Instance UID, when its association was released, in seconds since 1970)."""
        if not self._made:
            self.make(1)
        path = self._made.popleft()
        uid = str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID)
        released_at = self.node.send(path)
        path.unlink()
        return uid, released_at

    def wait_for(self, uid: str, released_at: float) -> float:
        """When its last result was stored, in seconds since 1970.

        Raises:
            Failed: it was not, in time.
        """
        left_s = released_at + DONE_WITHIN_S - time.time()
        wait_until(lambda: last_stored(self.node, uid) is not None, max(left_s, 1.0), "all results are stored")
        return last_stored(self.node, uid) or 0.0


def _half_load(sending: Sending, effort: Effort) -> HalfLoad:
    """First all at once, for the rate; then half as many each second, as a Poisson process."""
    sending.make(effort.burst + effort.loaded)
    burst = [sending.send() for _ in range(effort.burst)]
    stored = sorted(sending.wait_for(*one) for one in burst)
    rate_per_s = (len(stored) - 1) / (stored[-1] - stored[0])
    chance, at, sent = random.Random(1), time.monotonic(), []
    for _ in range(effort.loaded):
        at += chance.expovariate(rate_per_s / 2)
        time.sleep(max(0.0, at - time.monotonic()))
        sent.append(sending.send())
    latencies = [sending.wait_for(*one) - one[1] for one in sent]
    _say(f"half of {rate_per_s:.2f}/s: median {statistics.median(latencies):.2f} s")
    return HalfLoad(rate_per_s=rate_per_s / 2, latencies_s=latencies, after_release_s=AFTER_RELEASE_S)


def _alone(node: Node, times: int) -> dict[str, list[float]]:
    command = [sys.executable, "-m", "benchmarks.latency.stages", str(node.config), str(times), str(node.pacs.port)]
    # With one thread, as the node's analysis process has it.
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ONE_THREAD})
    if done.returncode:
        raise Failed(f"the stages alone: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    stages: dict[str, list[tuple[float, float]]] = json.loads(done.stdout)
    # The first one loads the network.
    return {stage: [wall for wall, _ in times[1:]] for stage, times in stages.items()}


def _idle_cpu_percent(node: Node, for_s: float) -> float:
    before, began = node.worker_cpu_s(), time.monotonic()
    time.sleep(for_s)
    return (node.worker_cpu_s() - before) / (time.monotonic() - began) * 100


@contextmanager
def _node(name: str, folder: Path) -> Iterator[Node]:
    with ExitStack() as stack:
        url = ""
        if name == "PostgreSQL":
            url = stack.enter_context(databases.server(name, folder / "server")).new()
        yield stack.enter_context(running(folder / name, url))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
