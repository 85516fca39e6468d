"""What the tests of the reports room share."""

from pathlib import Path

import pytest

from domain.study import Study
from tests.factories.sources import radiograph, stored_study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """One plain image."""
    return stored_study([radiograph(1)], tmp_path)
