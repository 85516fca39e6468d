"""`make bench` measures what it says, and says what it could not measure. How fast anything is, no test asks."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ingest import loads, receivers
from benchmarks.ingest.cell import Cell, Figures, Plan, measure
from benchmarks.ingest.goals import outcomes
from benchmarks.ingest.loads import LOADS, make_items
from benchmarks.ingest.process_tree import MemoryWatch, ProcessTree
from benchmarks.ingest.receivers import RECEIVERS, check_stored, running
from benchmarks.ingest.senders import send_raw
from benchmarks.ingest.summary import ratio, summarize
from benchmarks.ingest.wire import Item
from benchmarks.page import write_into
from tests.inference.processes import is_running
from tests.journeys.house import wait_until

ROOT = Path(__file__).parent.parent.parent
SPEED = "instances_per_s"


def quick_run(out: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit status and what it wrote."""
    command = [sys.executable, "-m", "benchmarks", "ingest", "--quick", "--out", str(out), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert (out / "ingest.json").exists(), done.stderr
    return done.returncode, json.loads((out / "ingest.json").read_text())


def small_items(folder: Path, count: int) -> tuple[Item, ...]:
    return make_items(replace(LOADS["W3"], quick_instances=count), folder, is_quick=True)


def work_folder(folder: Path) -> Path:
    (folder / "programs").mkdir()
    return folder


def cell(receiver: str, round_number: int, instances_per_s: float) -> Cell:
    figures = Figures(
        instances=1,
        instances_per_s=instances_per_s,
        mb_per_s=1.0,
        cpu_s_per_gb=1.0,
        cpu_s_per_1000=1.0,
        sender_cpu_s_per_gb=1.0,
        latency_ms=None,
        peak_rss_mb=1.0,
        peak_pss_mb=1.0,
        indexed_after_s=None,
    )
    plan = Plan(round=round_number, load="W1", associations=1, sender="raw", receiver=receiver)
    return Cell(plan=plan, load_average=0.0, figures=figures)


def test_a_quick_run_leaves_every_figure_of_the_node_and_of_its_peer(
    tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    require_program("storescp")
    require_program("storescu")
    status, run = quick_run(
        tmp_path, "--loads", "W3", "--associations", "1", "--receivers", "storescp,collimator", "--sender", "both"
    )
    assert (status, run["skipped"], [one["failure"] for one in run["cells"]]) == (0, {}, [""] * 4)
    assert [(one["plan"]["sender"], one["plan"]["receiver"]) for one in run["cells"]] == [
        ("raw", "storescp"),
        ("raw", "collimator"),
        ("storescu", "storescp"),
        ("storescu", "collimator"),
    ]
    assert run["conditions"]["versions"].keys() >= {"collimator", "DCMTK", "pynetdicom", "pydicom", "Python"}
    assert run["conditions"].keys() >= {"kernel", "cores", "load_average"}
    for one in run["cells"]:
        figures = one["figures"]
        assert figures["instances"] == LOADS["W3"].quick_instances
        assert min(figures[name] for name in (SPEED, "mb_per_s", "peak_rss_mb", "peak_pss_mb")) > 0
        assert (figures["indexed_after_s"] is None) == (one["plan"]["receiver"] == "storescp")
    node = next(one for one in run["medians"] if one["receiver"] == "collimator")
    assert node["ratios"]["storescp"].keys() == {SPEED, "cpu_s_per_gb"}
    assert {one["receiver"]: one["failure"] for one in run["association_costs"]} == {"storescp": "", "collimator": ""}
    seen = [outcome["seen"] for outcome in run["goals"]["raw"] if outcome["about"].startswith("W3, 1 association:")]
    assert node["ratios"]["storescp"][SPEED] in seen
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_receiver_that_does_not_start_is_a_failed_measurement(tmp_path: Path) -> None:
    broken = replace(RECEIVERS["storescp"], command=lambda place: [sys.executable, "-c", "import sys; sys.exit('no')"])
    plan = Plan(round=1, load="W3", associations=1, sender="raw", receiver="storescp")
    measured = measure(plan, broken, small_items(tmp_path / "items", 1), work_folder(tmp_path))
    assert (measured.figures, measured.failure) == (None, "storescp ended: no")


def test_a_receiver_that_lost_an_instance_is_a_failed_measurement(
    tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    require_program("storescp")
    forgetful = replace(RECEIVERS["storescp"], stored=lambda folder: iter(sorted(folder.iterdir())[1:]))
    plan = Plan(round=1, load="W3", associations=1, sender="raw", receiver="storescp")
    measured = measure(plan, forgetful, small_items(tmp_path / "items", 3), work_folder(tmp_path))
    assert measured.figures is None
    assert measured.failure.startswith("2 files of 3 instances")


def test_a_truncated_instance_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(bytes(99))
    assert check_stored(RECEIVERS["storescp"], tmp_path, instances=1, size_bytes=100) == "99 bytes of 100"
    assert check_stored(RECEIVERS["storescp"], tmp_path, instances=1, size_bytes=99) == ""


def test_what_was_to_be_encrypted_and_is_not_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(bytes(128) + b"DICM")
    encrypted = replace(RECEIVERS["storescp"], is_encrypted=True)
    assert check_stored(encrypted, tmp_path, instances=1, size_bytes=1) == "what it stored is not encrypted"


def test_a_program_that_is_not_installed_is_a_stated_reason() -> None:
    absent = replace(RECEIVERS["orthanc"], needs="no-such-program")
    assert receivers.missing(absent) == "there is no no-such-program on this machine"


@pytest.mark.parametrize("associations", [1, 3])
def test_the_raw_sender_sends_the_data_sets_of_its_files(
    tmp_path: Path, require_program: Callable[[str], str], associations: int
) -> None:
    require_program("storescp")
    items = small_items(tmp_path / "items", 6)
    sent = {Path(item.path).read_bytes()[item.data_set_at :] for item in items}
    with running(RECEIVERS["storescp"], tmp_path / "storescp", work_folder(tmp_path)) as started:
        answered: list[float] = []
        send_raw(started.place.port, list(loads.shares(items, associations)), is_plain=False, answered=answered.append)
        stored = [path.read_bytes() for path in (tmp_path / "storescp").iterdir()]
    assert len(answered) == 1
    assert len(stored) == len(sent) == 6
    assert {content[-len(data_set) :] for content, data_set in zip(stored, sent, strict=True)} == sent


def test_a_tree_counts_the_children_that_have_ended() -> None:
    # Of each of four times the kernel tells whole ticks only: 40 ms may be missing.
    burn = "import time\nwhile time.process_time() < 0.35: pass"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\nprint(1, flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        tree = ProcessTree(parent.pid)
        assert tree.process_ids() == [parent.pid]
        assert tree.cpu_s() >= 0.3
        parent.communicate(b"\n")
    assert ProcessTree(parent.pid).cpu_s() == 0


def test_a_tree_counts_the_children_of_every_thread() -> None:
    code = (
        "import subprocess, sys, threading\n"
        "def child(): print(subprocess.Popen(['sleep', '60']).pid, flush=True); threading.Event().wait()\n"
        "threading.Thread(target=child, daemon=True).start()\ninput()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert ProcessTree(parent.pid).process_ids() == [parent.pid, child]
        assert ProcessTree(parent.pid).born_at().keys() == {parent.pid, child}
        subprocess.run(["kill", str(child)], check=True)
        parent.communicate(b"\n")


def test_a_short_peak_of_memory_is_seen() -> None:
    code = "input(); a = bytearray(200_000_000); import time; time.sleep(0.3); del a; print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with MemoryWatch(ProcessTree(process.pid)) as memory:
            process.stdin.write(b"\n")
            process.stdin.flush()
            process.stdout.readline()
        process.communicate(b"\n")
    assert memory.peak_rss_bytes > 200_000_000
    assert memory.peak_pss_bytes > 200_000_000


def test_a_run_that_is_ended_early_shows_what_it_has(tmp_path: Path, require_program: Callable[[str], str]) -> None:
    require_program("storescp")
    options = ["--quick", "--rounds", "1000", "--loads", "W3", "--receivers", "storescp", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "benchmarks", "ingest", *options]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as running_one:
        assert running_one.stderr is not None
        running_one.stderr.readline()
        running_one.terminate()
        running_one.communicate(timeout=60)
    run = json.loads((tmp_path / "ingest.json").read_text())
    assert (running_one.returncode, run["is_complete"]) == (1, False)
    assert 1 <= len(run["cells"]) < 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ingest.json", "ingest.md"]


def test_a_receiver_is_gone_with_its_children(tmp_path: Path) -> None:
    with running(RECEIVERS["collimator"], tmp_path / "collimator", work_folder(tmp_path)) as started:
        family = started.tree.process_ids()
        assert len(family) > 1
    wait_until(lambda: not any(is_running(process_id) for process_id in family), "none of them is left")


def test_a_ratio_is_taken_inside_a_round_and_then_the_median() -> None:
    own, peer = (10.0, 2.0, 30.0), (10.0, 1.0, 10.0)
    cells = [cell("collimator", number, value) for number, value in enumerate(own, 1)]
    cells += [cell("storescp", number, value) for number, value in enumerate(peer, 1)]
    node = summarize(cells)[0]
    assert (node.receiver, node.figures[SPEED], node.slowest, node.fastest) == ("collimator", 10.0, 2.0, 30.0)
    assert ratio(node, "storescp", SPEED) == 2.0
    assert ratio(node, "orthanc-tuned", SPEED) is None


def test_a_failed_round_is_told_and_has_no_part_in_the_median() -> None:
    failed = replace(cell("collimator", 2, 0.0), figures=None, failure="it fell over")
    node = summarize([cell("collimator", 1, 7.0), failed])[0]
    assert (node.rounds, node.figures[SPEED], node.failures) == (1, 7.0, ("it fell over",))


@pytest.mark.parametrize(("speed", "is_reached"), [(1.0, True), (0.99, False)])
def test_a_goal_stands_beside_what_was_seen(speed: float, is_reached: bool) -> None:
    medians = summarize([cell("collimator", 1, speed), cell("storescp", 1, 1.0)])
    goal = outcomes(medians, {}, sender="raw")[0]
    assert goal.about == "W1, 1 association: collimator against storescp, instances/s"
    assert (goal.goal, goal.seen, goal.is_reached) == ("at least 1x", speed, is_reached)
    assert [one.seen for one in outcomes(medians, {}, sender="storescu") if one.seen is not None] == []


def test_a_run_writes_its_table_into_the_page_and_leaves_the_rest(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    other = "<!-- table: latency -->\nother\n<!-- end -->\n"
    page.write_text(f"before\n<!-- table: ingest -->\nold\n<!-- end -->\nafter\n{other}")
    write_into(page, "ingest", "new\n")
    assert page.read_text() == f"before\n<!-- table: ingest -->\nnew\n<!-- end -->\nafter\n{other}"


@pytest.mark.parametrize("part", ["ingest", "inference", "fairness", "latency", "results", "gpu"])
def test_the_page_has_a_place_for_each_table(part: str) -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert page.count(f"<!-- table: {part} -->\n") == 1
