"""Everything that can go wrong goes wrong at least once while studies come, and each comes out once and unharmed.

The long form is `python -m benchmarks chaos`.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.databases import DATABASES
from tests.chaos.roles import MACHINE
from tests.conftest import skip_or_fail
from tests.journeys.house import Process

STUDIES = 12
WITHIN_S = 900.0
DONE = {
    "receiver killed",
    "receiver: a listener killed",
    "receiver: the indexer killed",
    "worker killed",
    "portal killed",
    "a machine dies for good",
    "a worker freezes and comes back",
    "trouble with the database",
    "the PACS refuses an association",
    "the PACS is full",
    "the PACS hangs",
    "the PACS aborts",
    "the PACS stores and loses the answer",
}


@pytest.fixture
def _machines(require_program: Callable[[str], str]) -> None:
    require_program(MACHINE[0])
    if subprocess.run([*MACHINE, "true"], capture_output=True).returncode:
        skip_or_fail("this system gives nobody a namespace of process ids (unshare --pid)")


@pytest.mark.slow
@pytest.mark.usefixtures("_machines")
@pytest.mark.parametrize("database", DATABASES)
def test_every_study_is_delivered_and_charged_once_whatever_goes_wrong(database: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = ["--database", database, "--studies", str(STUDIES), "--seconds", "1", "--seed", "1"]
    run = Process([sys.executable, "-m", "tests.chaos", *options, "--json", str(report)], tmp_path / "chaos.log")
    try:
        status = run.process.wait(WITHIN_S)
    finally:
        run.stop()
    (outcome,) = json.loads(report.read_text()) if report.exists() else pytest.fail(run.log.read_text())
    assert {promise: where for promise, where in outcome["broken"].items() if where} == {}
    assert status == 0
    assert set(outcome["done_to"]) == DONE
    assert outcome["studies"] >= STUDIES
    assert outcome["delivered"] == outcome["ledger_rows"] == outcome["studies"]
    assert outcome["results"] == 3 * outcome["studies"]
