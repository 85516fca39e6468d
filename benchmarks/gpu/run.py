"""What of a GPU's speed is left when the node serves from it: its bare network, its owner, decoding, and the whole."""

import argparse
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from benchmarks.gpu.measure import Plan, measure
from benchmarks.gpu.report import Run, as_markdown
from benchmarks.ingest.conditions import conditions
from benchmarks.latency.node import Failed, radiograph
from benchmarks.page import publish
from cli import log
from inference.children import REMEMBERED_IMAGES
from inference.gpu.devices import Devices
from inference.gpu.options import OwnerOptions

TITLE = "gpu: what of a GPU's speed is left when the node serves from it"
NO_GPU = "Nothing was measured, and there is no table: figures of a GPU come from a GPU."
NETWORKS = ("densenet121", "filter")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything has a default."""
    parser.add_argument("--device", default="cuda:0", help='default cuda:0; "cpu" shows that it works, and no more')
    parser.add_argument("--network", choices=NETWORKS, default=NETWORKS[0], help="filter: one convolution")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each measurement; default 20")
    parser.add_argument("--largest-batch", type=int, default=64)
    parser.add_argument("--processes", type=int, default=0, help="that decode; default one for each core but one")
    parser.add_argument("--quick", action="store_true", help="one round of short measurements: does it work?")
    parser.add_argument("--out", type=Path, default=Path("bench-out"), metavar="DIR")
    parser.add_argument("--page", action="store_true", help="write the tables into docs/benchmarks.md as well")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables, write gpu.json and gpu.md in DIR; without the device say so, and that is all."""
    log.configure(output_format="console", level="warning")
    title, why_not = look_for(arguments.device)
    if why_not:
        print(f"There is no GPU to measure ({why_not}). {NO_GPU}")
        return 0
    processes = arguments.processes or max(1, len(os.sched_getaffinity(0)) - 1)
    report = Run(
        device=arguments.device,
        title=title,
        network=arguments.network,
        processes=processes,
        is_quick=arguments.quick,
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.out.absolute(), prefix="work-") as folder:
        report.conditions = conditions(Path(folder))
        with suppress(KeyboardInterrupt, SystemExit):  # who ends it early gets what there is
            plan = _plan(arguments, Path(folder), processes)
            for number in range(1 if arguments.quick else arguments.rounds):
                try:
                    report.rounds.append(measure(plan))
                    _say(f"round {number + 1}: {report.rounds[-1]}")
                except Failed as error:
                    report.failures.append(f"round {number + 1}: {error}")
            report.is_complete = True
    is_for_page = arguments.page and arguments.device != "cpu"
    publish("gpu", report, as_markdown(report), out=arguments.out, is_for_page=is_for_page)
    return 0 if report.is_complete and not report.failures else 1


def look_for(device: str) -> tuple[str, str]:
    """(what it is called, why it cannot be used); one of them is empty. torch is not imported here."""
    devices = Devices(
        [device],
        options=OwnerOptions(device="", largest_batch=1, batch_wait_s=0.0, memory_mb=0),
        time_limit_s=60.0,
    )
    (report,) = devices.start([])
    devices.close()
    return report.title, report.why_not


def _plan(arguments: argparse.Namespace, folder: Path, processes: int) -> Plan:
    from benchmarks.gpu.packages import NETWORKS as BUILDERS

    (folder / "images").mkdir()
    images = 4 * REMEMBERED_IMAGES * processes
    _say(f"making {arguments.network} and {images} radiographs")
    BUILDERS[arguments.network](folder / "models" / "chest")
    return Plan(
        device=arguments.device,
        folder=folder / "models",
        images=tuple(radiograph(folder / "images", number) for number in range(images)),
        largest_batch=arguments.largest_batch,
        processes=processes,
        for_s=min(arguments.seconds, 2.0) if arguments.quick else arguments.seconds,
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
