"""The part `inference` measures both ways on the same images, and says what it could not. How fast, no test asks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.inference.report import STAGES, Measured, Run, as_markdown
from benchmarks.inference.side import Answer, Failed, Question, Side
from benchmarks.inference.throughput import Burst, missing, rate
from tests.conftest import skip_or_fail

ROOT = Path(__file__).parent.parent.parent


def answer(**cpu_ms: float) -> Answer:
    stages = dict.fromkeys(STAGES, 0.0) | cpu_ms
    return Answer(cpu_ms=stages, wall_ms=stages, scores=[0.5])


def run_of(
    *, readme_ms: float = 1000.0, forward_ms: float = 50.0, overlay_ms: float = 10.0, eager_ms: float = 200.0
) -> Run:
    measured = Measured(
        syntax="raw",
        round=1,
        readme=answer(forward=readme_ms),
        node_page=answer(forward=forward_ms, overlay=overlay_ms),
        node_film=answer(forward=forward_ms, overlay=overlay_ms),
        eager_forward_ms=eager_ms,
        difference=2e-5,
    )
    return Run(rounds=1, is_quick=False, is_complete=True, measured=[measured])


@pytest.mark.slow
def test_a_quick_run_measures_both_ways_in_every_syntax_and_a_whole_node(tmp_path: Path, random_chest: Path) -> None:
    if reason := missing():
        skip_or_fail(reason)
    command = [sys.executable, "-m", "benchmarks", "inference", "--quick", "--out", str(tmp_path)]
    command += ["--weights", str(random_chest)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert (tmp_path / "inference.json").exists(), done.stderr
    run = json.loads((tmp_path / "inference.json").read_text())
    assert (done.returncode, run["failures"]) == (0, [])
    # Whatever pydicom has no decoder for is told; the others are there.
    measured = {one["syntax"] for one in run["measured"]}
    assert measured | run["skipped"].keys() == {"raw", "rle", "jpeg_lossless", "jpeg_ls", "jpeg_2000"}
    assert measured >= {"raw", "rle"}
    for one in run["measured"]:
        assert one["difference"] <= 1e-4
        for way in ("readme", "node_page", "node_film"):
            assert set(one[way]["cpu_ms"]) == set(STAGES)
            assert min(one[way]["cpu_ms"][stage] for stage in ("decode", "forward", "overlay")) > 0
    (burst,) = run["bursts"]
    assert burst["alone_ms"].keys() == {"read", "decode", "infer", "write", "send"}
    assert burst["per_s"] > 0
    assert burst["node_cpu_ms"]["decode, infer, display"] > 0
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(("readme_ms", "verdict"), [(720.0, "12.00x met"), (719.0, "11.98x **missed**")])
def test_how_many_times_faster_stands_beside_its_goal(readme_ms: float, verdict: str) -> None:
    page = as_markdown(run_of(readme_ms=readme_ms))
    assert f"| uncompressed, the node's page: times faster than the README way | at least 12x | {verdict} |" in page
    assert "| RLE, the node's page: times faster than the README way | at least 11x | not measured |" in page


@pytest.mark.parametrize(("eager_ms", "verdict"), [(125.0, "0.40x met"), (116.0, "0.43x **missed**")])
def test_the_forward_pass_stands_beside_eager_torch(eager_ms: float, verdict: str) -> None:
    page = as_markdown(run_of(eager_ms=eager_ms))
    assert f"| forward pass against eager torch in inference mode | at most 0.42x | {verdict} |" in page


@pytest.mark.parametrize(("overlay_ms", "verdict"), [(35.0, "0.70x met"), (36.0, "0.72x **missed**")])
def test_what_is_neither_decoding_nor_network_stands_beside_the_network(overlay_ms: float, verdict: str) -> None:
    page = as_markdown(run_of(overlay_ms=overlay_ms))
    assert f"against the forward pass | at most 0.7x | {verdict} |" in page


@pytest.mark.parametrize(("per_s", "verdict"), [(1.4, "0.70x met"), (1.38, "0.69x **missed**")])
def test_a_whole_node_stands_beside_its_stages_in_a_bare_loop(per_s: float, verdict: str) -> None:
    run = run_of()
    run.bursts.append(
        Burst(
            studies=9,
            per_s=per_s,
            loops=1,
            alone_ms={"decode": (100.0, 90.0), "write": (400.0, 300.0)},
            node_cpu_ms={"decode, infer, display": 120.0, "write, send, jobs": 410.0},
        )
    )
    page = as_markdown(run)
    assert f"in a bare loop on each core | at least 0.7x | {verdict} |" in page
    assert (
        "| alone, ms a study | decode | write | sum |\n| --- | --- | --- | --- |\n| wall | 100 | 400 | 500 |\n" in page
    )
    assert "| CPU | 120 | 410 | 530 |" in page


def test_the_bare_loops_of_all_cores_count_together() -> None:
    burst = Burst(studies=9, per_s=1.0, loops=2, alone_ms={"decode": (500.0, 490.0)}, node_cpu_ms={})
    assert burst.alone_per_s == pytest.approx(4.0)


def test_a_nodes_rate_is_the_slope_of_what_it_has_done_though_it_comes_in_batches() -> None:
    evenly = [0.5 * number for number in range(24)]
    in_batches = [moment for moment in evenly[3::4] for _ in range(4)]
    begun_late = [30.0 + moment for moment in evenly]
    assert rate(evenly) == rate(begun_late) == pytest.approx(2.0)
    assert rate(in_batches) == pytest.approx(2.0, rel=0.1)


def test_a_syntax_that_cannot_be_decoded_here_is_told() -> None:
    run = run_of()
    run.skipped["jpeg_lossless"] = "RuntimeError: no decoder"
    assert "- skipped jpeg_lossless: RuntimeError: no decoder\n" in as_markdown(run)


def test_a_way_that_does_not_start_is_a_failed_measurement(tmp_path: Path) -> None:
    side = Side("benchmarks.inference.node_way", tmp_path)
    with pytest.raises(Failed, match="the process ended"):
        side.ask(Question(image="nowhere.dcm", overlay="page"))
    side.close()
