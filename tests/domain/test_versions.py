"""Which version answers for a study: drawn once, the same for good, near the share that was asked for."""

import pytest

from domain.versions import Choice, ClinicModel, Role, choose, draw, shadows_of

CANARY = ClinicModel(package="chest", active="1.0.0", canary="1.1.0", canary_share=0.1)


def chosen(model: ClinicModel, number: int = 1, clinic: str = "st-mary") -> Choice:
    return choose(model, clinic=clinic, study_instance_uid=f"1.2.3.{number}", default="2.0.0")


def canaries(model: ClinicModel, clinic: str = "st-mary") -> set[int]:
    return {number for number in range(2000) if chosen(model, number, clinic).role is Role.CANARY}


def test_without_a_word_in_the_configuration_the_newest_installed_answers() -> None:
    choice = chosen(ClinicModel(package="chest"))
    assert (choice.version, choice.role, choice.why) == ("2.0.0", "active", "version 2.0.0, the newest installed")


def test_the_configured_version_answers_whatever_was_installed_since() -> None:
    choice = chosen(ClinicModel(package="chest", active="1.0.0"))
    assert (choice.version, choice.why) == ("1.0.0", "version 1.0.0, the active one of this clinic")


def test_a_study_meets_the_same_version_again() -> None:
    assert draw(clinic="st-mary", package="chest", canary="1.1.0", study_instance_uid="1.2.3") == pytest.approx(
        0.4919, abs=1e-4
    )
    assert [chosen(CANARY, number) for number in range(50)] == [chosen(CANARY, number) for number in range(50)]


def test_the_canary_gets_about_its_share_and_says_so() -> None:
    assert 140 < len(canaries(CANARY)) < 260
    choice = chosen(CANARY, min(canaries(CANARY)))
    assert (choice.version, choice.role) == ("1.1.0", "canary")
    assert "as canary: drawn 0.0" in choice.why


@pytest.mark.parametrize(("share", "number"), [(0.0, 0), (1.0, 2000)])
def test_a_share_of_nothing_is_nothing_and_of_one_is_everything(share: float, number: int) -> None:
    model = ClinicModel(package="chest", active="1.0.0", canary="1.1.0", canary_share=share)
    assert len(canaries(model)) == number


def test_a_larger_share_keeps_the_studies_of_the_smaller_one() -> None:
    larger = ClinicModel(package="chest", active="1.0.0", canary="1.1.0", canary_share=0.3)
    assert canaries(CANARY) < canaries(larger)


def test_another_clinic_package_or_canary_draws_anew() -> None:
    other_canary = ClinicModel(package="chest", active="1.0.0", canary="1.2.0", canary_share=0.1)
    other_package = ClinicModel(package="spine", active="1.0.0", canary="1.1.0", canary_share=0.1)
    here = canaries(CANARY)
    for elsewhere in (canaries(CANARY, "mercy"), canaries(other_canary), canaries(other_package)):
        assert len(here & elsewhere) < len(here) / 2


def test_a_version_does_not_shadow_itself() -> None:
    model = ClinicModel(package="chest", shadow=("1.1.0", "1.0.0", "1.1.0"))
    assert shadows_of(model, answered="1.0.0") == ("1.1.0",)
    assert shadows_of(model, answered="1.1.0") == ("1.0.0",)
