"""Fairness and latency: what is measured is there, and a goal stands beside what was seen. No test asks how fast."""

import time
from pathlib import Path

import pydicom
import pytest

from benchmarks.fairness import databases
from benchmarks.fairness.clinics import BIG
from benchmarks.fairness.measure import Throughput, Waits, throughput, waits
from benchmarks.fairness.report import Measured
from benchmarks.fairness.report import Run as FairnessRun
from benchmarks.fairness.report import as_markdown as fairness_page
from benchmarks.ingest.conditions import Conditions
from benchmarks.latency import node as node_module
from benchmarks.latency.node import radiograph, running, wait_until
from benchmarks.latency.report import HalfLoad, Idle
from benchmarks.latency.report import Run as LatencyRun
from benchmarks.latency.report import as_markdown as latency_page
from benchmarks.latency.trace import Trace, last_stored, trace
from tests.conftest import skip_or_fail

CONDITIONS = Conditions(
    date="2026-11-21",
    kernel="Linux",
    processor="any",
    cores=2,
    memory_gb=8.0,
    file_system="ext4",
    load_average=0.1,
    versions={"Python": "3.11"},
    processor_ticks=0,
    stolen_ticks=0,
)
PARTS_OF_TOTAL = ("late", "queue", "read", "analyse", "write", "bookkeeping", "queue_to_send", "deliver")


def wait_figures(start_median_s: float, stat_longest_s: float = 0.1) -> Waits:
    return Waits(
        others=100, unstarted=0, start_median_s=start_median_s, start_p95_s=1.0, done_median_s=1.0, stat=9,
        stat_median_s=0.1, stat_longest_s=stat_longest_s, queued=0, done_per_s=1.0, cpu_s_per_s=0.1, load_average=1.0,
    )  # fmt: skip


def fairness_run(*measured: Measured) -> FairnessRun:
    return FairnessRun(
        conditions=CONDITIONS, rounds=1, is_quick=False, is_complete=True, skipped={}, measured=list(measured)
    )


def test_the_waits_of_all_are_measured_while_one_clinic_sends_more_than_can_be_done(tmp_path: Path) -> None:
    with databases.server("SQLite", tmp_path / "databases") as on:
        filled = databases.template(on, queued=60, of=[BIG])
        figures = waits(
            on, filled, tmp_path, others_per_s=3.0, dump=20, work_s=0.2, for_s=6.0, stat_every_s=1.0, seed=1
        )
    assert figures.others >= 5
    assert figures.stat >= 2
    assert figures.queued > 0
    assert min(figures.start_median_s, figures.done_median_s, figures.stat_median_s, figures.done_per_s) > 0


def test_the_throughput_with_a_queue_is_measured(tmp_path: Path) -> None:
    with databases.server("SQLite", tmp_path / "databases") as on:
        figures = throughput(on, databases.template(on, queued=90), tmp_path, queued=90, for_s=60.0)
    assert (figures.done, figures.done_per_s > 0, figures.cpu_ms > 0) == (61, True, True)


@pytest.mark.parametrize(("seen", "verdict"), [(2.0, "2.00x met"), (2.02, "2.02x **missed**")])
def test_a_ratio_of_waits_stands_beside_its_goal(seen: float, verdict: str) -> None:
    page = fairness_page(
        fairness_run(
            Measured(server="SQLite", title="without", round=1, figures=wait_figures(1.0)),
            Measured(server="SQLite", title="with", round=1, figures=wait_figures(seen)),
        )
    )
    assert f"until they start, with the big clinic against without | at most 2x | {verdict} |" in page
    assert "throughput with the long queue against the short one | at least 0.9x | not measured |" in page


def test_one_stat_study_that_starts_late_misses_the_goal() -> None:
    late = Measured(server="SQLite", title="with", round=1, figures=wait_figures(1.0, stat_longest_s=0.51))
    assert "| within 0.5 s | 0.51 s **missed** |" in fairness_page(fairness_run(late))


def test_a_measurement_that_failed_is_told() -> None:
    failed = Measured(server="SQLite", title="long", round=2, failure="the worker ended")
    whole = Measured(
        server="SQLite",
        title="short",
        round=2,
        figures=Throughput(done_per_s=9.0, done=9, cpu_ms=1.0, load_average=0.0),
    )
    assert "- failed: SQLite, long, round 2: the worker ended" in fairness_page(fairness_run(whole, failed))


def test_the_time_of_a_study_is_told_apart_without_a_rest(tmp_path: Path) -> None:
    if reason := node_module.missing():
        skip_or_fail(reason)
    with running(tmp_path / "node") as node:
        path = radiograph(tmp_path, 1)
        uid = str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID)
        released_at = node.send(path)
        wait_until(lambda: last_stored(node, uid) is not None, 90.0, "the results are stored")
        stored_at = last_stored(node, uid) or 0.0
        time.sleep(1.0)
        seen = trace(node, uid, released_at=released_at, stored_at=stored_at)
    assert sum(getattr(seen, part) for part in PARTS_OF_TOTAL) == pytest.approx(seen.total)
    assert seen.decode is not None
    assert seen.infer is not None
    assert 0 < seen.decode + seen.infer < seen.analyse + 1


def test_what_the_node_adds_is_its_median_less_the_stages_alone() -> None:
    parts = dict.fromkeys(PARTS_OF_TOTAL, 0.0)
    traces = [Trace(**parts, decode=None, infer=None, total=total) for total in (700.0, 900.0, 751.0)]
    alone = {stage: [90.0, 100.0, 110.0] for stage in ("read", "decode", "infer", "write", "send")}
    idle = Idle(traces=traces, alone=alone, cpu_percent=2.0)
    load = HalfLoad(1.0, [1.5] * 9 + [2.5] * 11, 1.0)
    run = LatencyRun(
        rounds=1,
        is_quick=False,
        skipped={},
        conditions=CONDITIONS,
        is_complete=True,
        idle={"SQLite": idle},
        half_load={"SQLite": load},
    )
    page = latency_page(run)
    assert "| at most 250 ms | 251 ms **missed** |" in page
    assert "at half load, without the completion wait | at most 2x | 1.00x met |" in page
    assert "| at most 3 % of a core | 2.0 % met |" in page
