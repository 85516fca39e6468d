"""Of a pinned package those versions are loaded at the start that answer for some clinic."""

from typing import Any

from cli.worker import pinned_versions
from config.settings import check


def clinic(name: str, *, tier: str = "enterprise", **chest: object) -> dict[str, Any]:
    return {"name": name, "tier": tier, "models": [{"package": "chest", **chest}] if chest else []}


def pinned(*clinics: dict[str, Any], packages: tuple[str, ...] = ("chest",)) -> list[tuple[str, str]]:
    settings = check({"inference": {"pinned_packages": packages}, "clinics": clinics}, origin="test")
    return list(pinned_versions(settings))


def test_without_a_word_it_is_what_the_name_means() -> None:
    assert pinned(clinic("st-mary")) == [("chest", "")]


def test_it_is_what_clinics_name_as_active_and_as_canary() -> None:
    st_mary = clinic("st-mary", active="1.0.0", canary="1.1.0", canary_share=0.1)
    assert pinned(st_mary) == [("chest", "1.0.0"), ("chest", "1.1.0")]


def test_each_version_stands_there_once_and_a_clinic_that_names_none_uses_the_newest() -> None:
    clinics = (clinic("st-mary", active="1.0.0"), clinic("st-john", active="1.0.0"), clinic("mercy"))
    assert pinned(*clinics) == [("chest", "1.0.0"), ("chest", "")]


def test_a_canary_without_a_share_and_a_shadow_answer_for_nobody() -> None:
    st_mary = clinic("st-mary", active="1.0.0", shadow=("2.0.0",), canary="1.1.0", canary_share=0)
    assert pinned(st_mary) == [("chest", "1.0.0")]


def test_a_clinic_whose_plan_does_not_include_the_package_has_no_say() -> None:
    spine = {"name": "st-mary", "tier": "enterprise", "models": [{"package": "spine", "active": "1.0.0"}]}
    assert pinned(spine, clinic("mercy", tier="basic"), packages=("spine",)) == [("spine", "1.0.0")]


def test_a_package_that_no_clinic_uses_is_what_its_name_means() -> None:
    assert pinned(clinic("mercy", tier="basic"), packages=("spine",)) == [("spine", "")]
