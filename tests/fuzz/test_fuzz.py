"""Whatever bytes a peer sends, its parsers say what they think of them: within a second, and in one way only.

Here each target is fuzzed for a short, bounded time (COLLIMATOR_FUZZ_SECONDS, for each); `python -m tests.fuzz` goes on
for as long as one likes.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import ROOT, skip_or_fail
from tests.fuzz.__main__ import FINDINGS, fuzz
from tests.fuzz.targets import TARGETS, Escaped, stream_target

SECONDS = int(os.environ.get("COLLIMATOR_FUZZ_SECONDS", "20"))
FOUND = sorted(path for path in FINDINGS.glob("*/*"))


@pytest.fixture(scope="module")
def fuzzer() -> None:
    if find_spec("atheris") is None:
        skip_or_fail("atheris is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_random_bytes_break_no_promise(fuzzer: None, name: str, tmp_path: Path) -> None:
    outcome = fuzz(name, seconds=SECONDS, findings=tmp_path)
    assert outcome.inputs_tried > len(TARGETS[name].seeds()), outcome.output
    assert outcome.findings == (), outcome.output


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_once_stays_mended(path: Path, tmp_path: Path) -> None:
    TARGETS[path.parent.name].target(tmp_path)(path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_well_formed_input_breaks_no_promise(name: str, tmp_path: Path) -> None:
    check = TARGETS[name].target(tmp_path)
    for seed in TARGETS[name].seeds():
        check(seed)


def test_a_bug_that_is_only_logged_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def buggy(content: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("scp.fast.parse_command", buggy)
    check = stream_target(tmp_path)
    with pytest.raises(Escaped):
        check(TARGETS["stream"].seeds()[0])


def test_a_finding_is_kept_as_a_file(fuzzer: None, tmp_path: Path) -> None:
    """The fuzzer finds a bug that is planted: a parser that does not expect an empty command set."""
    planted = (
        "import scp.command as c; real = c.parse_command; "
        "c.parse_command = lambda content: real(content) if content else 1 / 0; "
        "import sys, runpy; sys.argv[0] = 'one'; runpy.run_module('tests.fuzz.one', run_name='__main__')"
    )
    command = [sys.executable, "-c", planted, "command", str(tmp_path), "-runs=1000", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120)
    assert done.returncode != 0
    assert [path.read_bytes() for path in tmp_path.glob("crash-*")] == [b""]
