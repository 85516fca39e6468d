"""An empty spool."""

from pathlib import Path

import pytest

from storage.instances import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path)
