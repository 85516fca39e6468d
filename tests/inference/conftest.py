"""What the tests of the inference room share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config.settings import Settings
from inference.analyst import Analyst
from inference.children import LendFile, lend_plain_file
from tests.factories.packages import build_package


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Of a node whose data folder is `var`, beside it."""
    path = tmp_path / "collimator.toml"
    path.write_text(f'[node]\ndata_dir = "{tmp_path / "var"}"\n', encoding="utf-8")
    return path


@pytest.fixture
def installed_dir(tmp_path: Path) -> Path:
    """A folder of installed packages, with a small `chest` for people of 18 and more."""
    build_package(tmp_path / "models" / "chest", age_min_years=18, accepts_unknown_age=False, views=("AP", "PA"))
    return tmp_path / "models"


@pytest.fixture
def new_analyst(installed_dir: Path) -> Iterator[Callable[..., Analyst]]:
    """Makes analysts, and closes them."""
    analysts: list[Analyst] = []

    def make(
        *, memory_limit_bytes: int = 4 << 30, time_limit_s: float = 60.0, lend_file: LendFile = lend_plain_file
    ) -> Analyst:
        analysts.append(
            Analyst(
                installed_dir=installed_dir,
                memory_limit_bytes=memory_limit_bytes,
                time_limit_s=time_limit_s,
                rulebook=Settings().rulebook,
                lend_file=lend_file,
            )
        )
        return analysts[-1]

    yield make
    for analyst in analysts:
        analyst.close()


@pytest.fixture
def analyst(new_analyst: Callable[..., Analyst]) -> Analyst:
    return new_analyst()
