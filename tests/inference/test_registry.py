"""Packages are found by name, and an installed one stands in for the shipped one."""

from pathlib import Path

import pytest

from domain.errors import Misconfigured
from inference.registry import Registry, version_order
from tests.factories.packages import build_package


def test_the_five_slots_are_always_there(tmp_path: Path) -> None:
    names = [package.name for package in Registry(tmp_path / "nothing yet").packages()]
    assert names == ["bone_fracture", "chest", "dental", "pediatric_chest", "spine"]


def test_a_slot_without_weights_says_the_way_out(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    assert registry.get("chest").why_not == ("Its weights are not installed yet: run `collimator models pull chest`.")
    assert registry.get("spine").why_not.startswith("No verified weights are known for it. ")
    assert registry.get("spine").why_not.endswith(": bring your own with `collimator models add DIR`.")


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


def test_versions_lie_beside_each_other_and_the_name_alone_means_the_newest(tmp_path: Path) -> None:
    for version in ("1.9.0", "1.10.0", "1.10.0-rc.1"):
        build_package(tmp_path / "knee" / version, name="knee", version=version)
    registry = Registry(tmp_path)
    assert registry.get("knee").manifest.version == "1.10.0"
    assert registry.get("knee", "1.9.0").manifest.version == "1.9.0"
    assert [one.manifest.version for one in registry.versions("knee")] == ["1.10.0", "1.10.0-rc.1", "1.9.0"]
    assert [one.name for one in registry.packages()].count("knee") == 1


def test_what_an_earlier_node_installed_is_one_of_the_versions(tmp_path: Path) -> None:
    build_package(tmp_path / "knee", name="knee", version="1.0.0")
    build_package(tmp_path / "knee" / "2.0.0", name="knee", version="2.0.0")
    assert [one.manifest.version for one in Registry(tmp_path).versions("knee")] == ["2.0.0", "1.0.0"]


def test_what_is_shipped_stands_back_behind_whatever_was_installed(tmp_path: Path) -> None:
    build_package(tmp_path / "pediatric_chest" / "0.1.0", name="pediatric_chest", version="0.1.0")
    registry = Registry(tmp_path)
    shipped = Registry(tmp_path / "nothing").get("pediatric_chest").manifest.version
    assert registry.get("pediatric_chest").manifest.version == "0.1.0"
    assert registry.get("pediatric_chest", shipped).is_configured


def test_an_unknown_version_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    build_package(tmp_path / "knee" / "1.0.0", name="knee", version="1.0.0")
    with pytest.raises(Misconfigured, match=r"there is no version '2.0.0' of the model package knee") as caught:
        Registry(tmp_path).get("knee", "2.0.0")
    assert caught.value.hint.startswith("There are: 1.0.0.")


def test_a_folder_named_otherwise_than_its_version_is_refused(tmp_path: Path) -> None:
    build_package(tmp_path / "knee" / "1.0.0", name="knee", version="1.0.1")
    with pytest.raises(Misconfigured, match=r"version: expected '1\.0\.0', the folder's name"):
        Registry(tmp_path).get("knee")


def test_a_broken_version_takes_none_of_its_neighbours_along(tmp_path: Path) -> None:
    build_package(tmp_path / "bone_fracture" / "1.0.0", name="bone_fracture", version="1.0.0")
    (tmp_path / "bone_fracture" / "9.9.9").mkdir()
    (tmp_path / "bone_fracture" / "9.9.9" / "manifest.toml").write_text("half written", encoding="utf-8")
    registry = Registry(tmp_path)
    assert registry.get("bone_fracture").manifest.version == "1.0.0"
    assert registry.get("bone_fracture", "1.0.0").is_configured
    assert "spine" in [package.name for package in registry.packages()]
    (error,) = registry.broken()
    assert "bone_fracture/9.9.9/manifest.toml: not valid TOML" in error.message
    with pytest.raises(Misconfigured, match=r"9\.9\.9/manifest\.toml: not valid TOML"):
        registry.get("bone_fracture", "9.9.9")


def test_versions_follow_each_other_as_semantic_versioning_says() -> None:
    shuffled = ["1.10.0", "1.0.0-beta.11", "0.9", "1.0.0", "1.0.0-alpha.1", "1.2.0", "1.0.0-beta.2", "1.0.0-alpha"]
    in_order = ["0.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0", "1.2.0", "1.10.0"]
    assert sorted(shuffled, key=version_order) == in_order
