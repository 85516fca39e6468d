"""Writing results: what is measured is there, and a goal stands beside what was seen. No test asks how fast."""

from pathlib import Path

from benchmarks.results import as_markdown, measure
from reports.write import PROFILES


def test_every_object_is_measured_both_ways(tmp_path: Path) -> None:
    run = measure(tmp_path, rounds=2)
    assert tuple(run.costs) == PROFILES["standard"]
    for cost in run.costs.values():
        assert [len(spent) for spent in (cost.drafted, cost.direct, cost.filled, cost.checked)] == [2, 2, 2, 2]
        assert min(*cost.direct, *cost.filled, *cost.checked) > 0
    lines = as_markdown(run).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines if "x |" in line] == list(PROFILES["standard"])
    assert any("at most 25 ms of CPU" in line and ("met" in line or "missed" in line) for line in lines)
