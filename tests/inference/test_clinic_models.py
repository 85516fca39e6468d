"""A version that a clinic's configuration names is there, or doctor and worker say which one is not."""

from pathlib import Path

import pytest

from cli.__main__ import main
from domain.clinics import Clinic
from domain.errors import Misconfigured
from domain.plans import Tier
from domain.versions import ClinicModel
from inference.clinic_models import check_clinic_models
from inference.registry import Registry
from tests.factories.packages import build_package
from tests.factories.ports import free_port

CONFIGURATION = """\
[node]
data_dir = "{folder}/var"
[receiver]
port = {port}
[portal]
port = {portal_port}
[[clinics]]
name = "st-mary"
tier = "enterprise"
[[clinics.callers]]
ae_title = "CT1"
[[clinics.models]]
package = "chest"
active = "1.0.0"
shadow = ["{shadow}"]
"""


def clinic(**model: object) -> Clinic:
    models = (ClinicModel(**model),)  # type: ignore[arg-type]
    return Clinic(name="st-mary", tier=Tier.ENTERPRISE, sends_notes=False, callers=(), destinations=(), models=models)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    for version in ("1.0.0", "1.1.0"):
        build_package(tmp_path / "var" / "models" / "chest" / version, version=version)
    return Registry(tmp_path / "var" / "models")


def test_what_is_installed_may_be_named(registry: Registry) -> None:
    named = clinic(package="chest", active="1.0.0", shadow=("1.1.0",), canary="1.1.0", canary_share=0.1)
    check_clinic_models(registry, [named])


@pytest.mark.parametrize(
    ("model", "message", "hint"),
    [
        ({"package": "brain"}, "no model package is named 'brain'", "There are: bone_fracture, chest"),
        ({"package": "chest", "active": "9"}, "there is no version '9'", "There are: 1.1.0, 1.0.0"),
        ({"package": "chest", "shadow": ("9",)}, "there is no version '9'", "There are: 1.1.0, 1.0.0"),
        ({"package": "chest", "canary": "9", "canary_share": 0.1}, "there is no version '9'", "There are: 1.1.0"),
        ({"package": "spine", "shadow": ("0.0.0",)}, "version 0.0.0 is not configured", "No verified weights"),
        (
            {"package": "chest", "canary": "1.1.0", "canary_share": 0.1},
            "the canary 1.1.0 is the active version as well",
            "name the version that it is tried against as `active`",
        ),
    ],
)
def test_what_is_not_there_is_named_with_the_way_out(
    registry: Registry, model: dict[str, object], message: str, hint: str
) -> None:
    with pytest.raises(Misconfigured) as caught:
        check_clinic_models(registry, [clinic(**model)])
    assert caught.value.message.startswith(f"clinics.st-mary.models, {model['package']}: ")
    assert message in caught.value.message
    assert hint in caught.value.hint


def configuration(folder: Path, shadow: str) -> str:
    path = folder / "collimator.toml"
    path.write_text(
        CONFIGURATION.format(folder=folder, port=free_port(), portal_port=free_port(), shadow=shadow), encoding="utf-8"
    )
    return str(path)


@pytest.mark.usefixtures("registry")
def test_doctor_says_which_version_is_missing_and_the_worker_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration(tmp_path, "1.2.0")
    assert main(["doctor", "--config", config]) == 1
    said = capsys.readouterr().out.splitlines()
    (number,) = [number for number, line in enumerate(said) if line.startswith("FAIL  model versions")]
    assert "clinics.st-mary.models, chest: there is no version '1.2.0'" in said[number]
    assert "There are: 1.1.0, 1.0.0." in said[number + 1]
    assert main(["worker", "--config", config]) == 2
    assert "there is no version '1.2.0' of the model package chest" in capsys.readouterr().err


@pytest.mark.usefixtures("registry")
def test_doctor_says_which_rule_names_no_model_and_the_worker_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Path(configuration(tmp_path, "1.1.0"))
    rule = '[[routing.rules]]\nname = "typo"\npackage = "pediatric_chst"\n'
    config.write_text(config.read_text(encoding="utf-8") + rule, encoding="utf-8")
    assert main(["doctor", "--config", str(config)]) == 1
    said = capsys.readouterr().out.splitlines()
    (number,) = [number for number, line in enumerate(said) if line.startswith("FAIL  routing rules")]
    assert "routing.rules, 'typo': no model package is named 'pediatric_chst'" in said[number]
    assert "Correct the rule's package, or install it first" in said[number + 1]
    assert main(["worker", "--config", str(config)]) == 2
    assert "no model package is named 'pediatric_chst'" in capsys.readouterr().err


@pytest.mark.usefixtures("registry")
def test_doctor_is_content_with_versions_that_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--config", configuration(tmp_path, "1.1.0")])
    assert "ok    model versions: st-mary has what it names: chest 1.0.0 1.1.0" in capsys.readouterr().out
