"""The part `gpu`: without a GPU it says so and invents nothing; with one it measures. Here the CPU stands in."""

import json
import time
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

import pytest

from benchmarks.gpu import run as gpu
from benchmarks.gpu.measure import Figures, Plan, _rate, bare, node, served
from benchmarks.gpu.packages import small_filter
from benchmarks.gpu.report import Run, as_markdown
from benchmarks.latency.node import Failed
from tests.inference.images import write_image


def asked(*options: str) -> Namespace:
    parser = ArgumentParser()
    gpu.add_arguments(parser)
    return parser.parse_args(options)


def figures(*, served: float, node: float = 8.0) -> Figures:
    return Figures(bare={1: 50.0, 8: 100.0}, served=served, decode=10.0, node=node)


def report(*rounds: Figures, failures: list[str] | None = None) -> str:
    return as_markdown(
        Run(
            device="cuda:0",
            title="a GPU",
            network="densenet121",
            processes=4,
            is_quick=False,
            is_complete=True,
            rounds=list(rounds),
            failures=failures or [],
        )
    )


def test_without_a_gpu_it_says_so_and_leaves_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.run(asked("--device", "cuda:99", "--out", str(tmp_path / "out"), "--page")) == 0
    said = capsys.readouterr().out
    assert said.startswith("There is no GPU to measure (cuda:99 cannot be used: ")
    assert said.endswith("Nothing was measured, and there is no table: figures of a GPU come from a GPU.\n")
    assert not (tmp_path / "out").exists()


def test_a_quick_run_measures_each_stage_and_the_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("<!-- table: gpu -->\n<!-- end -->\n")
    monkeypatch.setattr("benchmarks.page.PAGE", page)
    options = ("--device", "cpu", "--network", "filter", "--quick", "--seconds", "0.5", "--largest-batch", "4")
    assert gpu.run(asked(*options, "--processes", "1", "--page", "--out", str(tmp_path / "out"))) == 0
    run = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert (run["is_complete"], run["failures"], run["title"]) == (True, [], "CPU")
    (seen,) = run["rounds"]
    assert sorted(seen["bare"], key=int) == ["1", "2", "4"]
    assert min(*seen["bare"].values(), seen["served"], seen["decode"], seen["node"]) > 0
    assert "served images/s over the bare network at its best batch | at least 0.9x |" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["gpu.json", "gpu.md"]
    assert page.read_text() == "<!-- table: gpu -->\n<!-- end -->\n"  # the CPU is no GPU


def test_what_another_device_did_is_a_failed_measurement(tmp_path: Path) -> None:
    small_filter(tmp_path / "models" / "chest")
    manifest = tmp_path / "models" / "chest" / "manifest.toml"
    text = manifest.read_text(encoding="utf-8")
    plan = Plan(
        device="cpu",
        folder=tmp_path / "models",
        images=(write_image(tmp_path / "image.dcm"),),
        largest_batch=2,
        processes=1,
        for_s=0.1,
    )
    manifest.write_text(text.replace("scores = [0.", "scores = [0.0"), encoding="utf-8")
    for measurement in (served, node):
        with pytest.raises(Failed, match="what it gives for the golden radiograph differs"):
            measurement(plan)
    manifest.with_name("model.safetensors").write_bytes(b"")
    with pytest.raises(Failed, match="the bare network: "):
        bare(plan)


def test_what_takes_longer_than_the_time_it_is_given_is_measured_all_the_same() -> None:
    assert _rate([partial(time.sleep, 0.2)], 0.001) > 0


@pytest.mark.parametrize(("speed", "verdict"), [(90.0, "0.90x met"), (89.0, "0.89x **missed**")])
def test_what_is_served_stands_beside_the_best_of_the_bare_network(speed: float, verdict: str) -> None:
    assert f"best batch | at least 0.9x | {verdict} |" in report(figures(served=speed))


@pytest.mark.parametrize(("speed", "verdict"), [(8.5, "0.85x met"), (8.4, "0.84x **missed**")])
def test_the_node_stands_beside_its_slowest_stage(speed: float, verdict: str) -> None:
    assert f"stage alone | at least 0.85x | {verdict} |" in report(figures(served=90.0, node=speed))
    assert "stage alone | at least 0.85x | 1.00x met |" in report(figures(served=4.0, node=4.0))


def test_a_ratio_is_taken_inside_a_round_and_then_the_median() -> None:
    assert "| 0.50x **missed** |" in report(figures(served=50.0), figures(served=10.0), figures(served=95.0))


def test_a_round_that_failed_is_told() -> None:
    page = report(failures=["round 1: the device's process died"])
    assert "- failed: round 1: the device's process died" in page
    assert page.count("| not measured |") == 2
