"""What the tests of the reports room share."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from domain.study import Study
from tests.factories.sources import radiograph, stored_study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """One plain image."""
    return stored_study([radiograph(1)], tmp_path)


@pytest.fixture
def require_program() -> Callable[[str], str]:
    """The path of a program. Where it is absent the test is skipped; in CI that is a failure."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None and os.environ.get("COLLIMATOR_CI") == "1":
            pytest.fail(f"{name} is not installed, and CI must not skip")
        if path is None:
            pytest.skip(f"{name} is not installed")
        return path

    return find
