"""Packages are found by name, and an installed one stands in for the shipped one."""

from pathlib import Path

import pytest

from domain.errors import Misconfigured
from inference.registry import Registry
from tests.factories.packages import build_package


def test_the_five_slots_are_always_there(tmp_path: Path) -> None:
    names = [package.name for package in Registry(tmp_path / "nothing yet").packages()]
    assert names == ["bone_fracture", "chest", "dental", "pediatric_chest", "spine"]


def test_a_slot_without_weights_says_the_way_out(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    assert registry.get("chest").why_not == ("Its weights are not installed yet: run `collimator models pull chest`.")
    assert registry.get("spine").why_not == (
        "No verified weights are known for it: bring your own with `collimator models add DIR`."
    )


def test_an_installed_package_wins_without_a_restart(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    assert not registry.get("chest").is_configured
    build_package(tmp_path / "chest", version="9.9.9")
    assert registry.get("chest").is_configured
    assert registry.get("chest").manifest.version == "9.9.9"


def test_a_package_of_another_name_is_one_more(tmp_path: Path) -> None:
    build_package(tmp_path / "knee", name="knee")
    assert "knee" in [package.name for package in Registry(tmp_path).packages()]


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="no model package is named 'brain'") as caught:
        Registry(tmp_path).get("brain")
    assert caught.value.hint == "There are: bone_fracture, chest, dental, pediatric_chest, spine."


@pytest.mark.parametrize("name", ["../chest", "/etc", "", ".", "chest/", "Chest"])
def test_a_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(Misconfigured, match="no model package is named"):
        Registry(tmp_path).get(name)


def test_a_half_installed_package_is_not_seen(tmp_path: Path) -> None:
    build_package(tmp_path / ".incoming-x", name="knee")
    assert "knee" not in [package.name for package in Registry(tmp_path).packages()]


def test_a_folder_named_otherwise_than_its_package_is_refused(tmp_path: Path) -> None:
    build_package(tmp_path / "knee", name="ankle")
    with pytest.raises(Misconfigured, match="expected 'knee', the folder's name"):
        Registry(tmp_path).get("knee")
