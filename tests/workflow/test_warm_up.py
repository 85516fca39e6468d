"""A worker has loaded what its first study needs, and one package that is wrong does not keep it from working."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from inference.analyst import Analyst
from inference.registry import Registry
from tests.factories.packages import build_package
from tests.inference.test_analyst import analysis_process, is_running
from workflow.rooms import Rooms
from workflow.warm_up import warm_up


@pytest.fixture
def worker_rooms(rooms: Rooms, tmp_path: Path) -> Iterator[Rooms]:
    """With the shipped models, and room for installed ones in `tmp_path`."""
    analyst = Analyst(installed_dir=tmp_path, memory_limit_bytes=4 << 30, time_limit_s=60.0)
    yield replace(rooms, registry=Registry(tmp_path), analyst=analyst)
    analyst.close()


def test_the_analysis_process_runs_and_has_the_networks_before_the_first_study(worker_rooms: Rooms) -> None:
    with capture_logs() as logs:
        warm_up(worker_rooms)
    assert is_running(analysis_process())
    assert logs == []


def test_a_package_that_is_not_what_its_manifest_says_is_told_and_is_no_error(
    worker_rooms: Rooms, tmp_path: Path
) -> None:
    build_package(tmp_path / "chest")
    (tmp_path / "chest" / "model.onnx").write_bytes(b"something else")
    with capture_logs() as logs:
        warm_up(worker_rooms)
    assert [line["event"] for line in logs] == ["not_warmed_up"]
