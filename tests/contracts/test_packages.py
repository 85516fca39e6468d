"""What every shipped model package must keep. A new folder in inference/packages/ is tested by this without a word."""

import re

import pytest

from domain.plans import PLANS
from inference.convert import CONVERTERS
from inference.install import check
from inference.package import Package, load, verified_bytes
from inference.registry import BUILTIN_DIR
from reports.codes import KNOWN_FINDINGS, has_valid_check_digit

PACKAGES = [load(path.parent) for path in sorted(BUILTIN_DIR.glob("*/manifest.toml"))]
KNOWN = {finding.label.casefold(): finding for finding in KNOWN_FINDINGS}
MODALITIES = {"CR", "DX", "IO", "PX", "MG", "RG"}
LARGEST_SHIPPED_WEIGHTS_BYTES = 5_000_000

every_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
every_configured_package = pytest.mark.parametrize(
    "package", [package for package in PACKAGES if package.is_configured], ids=lambda package: package.name
)


@every_package
def test_a_packages_name_is_its_folders(package: Package) -> None:
    assert package.name == package.folder.name


def test_every_package_of_every_plan_is_there() -> None:
    assert {name for plan in PLANS.values() for name in plan.packages} == {package.name for package in PACKAGES}


@every_package
def test_a_package_says_who_made_it_and_what_it_is_for(package: Package) -> None:
    manifest = package.manifest
    assert re.fullmatch(r"\d+\.\d+\.\d+", manifest.version)
    assert manifest.intended_use.endswith(".")
    assert manifest.limits
    assert all(limit.endswith(".") for limit in manifest.limits)
    assert not manifest.is_cleared  # nobody has cleared any of ours
    assert set(manifest.accepts.modalities) <= MODALITIES
    assert manifest.accepts.body_parts


@every_package
def test_a_snomed_code_has_the_right_check_digit(package: Package) -> None:
    codes = [code for label in package.manifest.labels for code in (label.code, label.site) if code is not None]
    assert [code for code in codes if code.scheme == "SCT" and not has_valid_check_digit(code.value)] == []


@every_package
def test_a_code_is_a_snomed_dicom_or_local_one(package: Package) -> None:
    codes = [code for label in package.manifest.labels for code in (label.code, label.site) if code is not None]
    assert {code.scheme for code in codes} <= {"SCT", "DCM", "99COLLIM"}


@every_package
def test_a_known_label_has_the_code_that_was_checked_for_it(package: Package) -> None:
    for label in package.manifest.labels:
        known = KNOWN.get(label.label.casefold())
        if known is not None:
            assert (label.code, label.site) == (known.code, known.site), label.label


@every_package
def test_a_code_is_one_of_those_that_were_checked(package: Package) -> None:
    checked = {finding.code.value for finding in KNOWN_FINDINGS}
    assert {label.code.value for label in package.manifest.labels} <= checked


@every_package
def test_weights_have_a_licence_and_a_known_converter(package: Package) -> None:
    weights = package.manifest.weights
    assert bool(weights.licence.name) == bool(weights.sha256 or weights.source_url)
    assert not weights.converter or weights.converter in CONVERTERS


@every_package
def test_a_licence_is_one_whose_terms_are_known(package: Package) -> None:
    licence = package.manifest.weights.licence
    assert not licence.name or (licence.url and "does not know these terms" not in licence.asks)


@every_package
def test_a_package_that_is_not_configured_says_the_way_out(package: Package) -> None:
    assert package.is_configured or "collimator models" in package.why_not


def test_a_configured_package_comes_with_the_node() -> None:
    assert "pediatric_chest" in [package.name for package in PACKAGES if package.is_configured]


@every_configured_package
def test_a_configured_package_passes_its_golden_check(package: Package) -> None:
    check(package)


@every_configured_package
def test_shipped_weights_are_small_and_have_a_model_card(package: Package) -> None:
    assert len(verified_bytes(package.weights_path, package.manifest.weights)) <= LARGEST_SHIPPED_WEIGHTS_BYTES
    assert (package.folder / "model_card.md").read_text(encoding="utf-8").startswith("# ")


@every_configured_package
def test_a_measured_label_says_its_sensitivity_and_specificity(package: Package) -> None:
    for label in package.manifest.labels:
        assert label.sensitivity is not None
        assert label.specificity is not None
        assert 0.5 < label.sensitivity <= 1
        assert 0.5 < label.specificity <= 1


def test_a_shipped_network_names_no_folder_of_who_exported_it() -> None:
    networks = sorted(BUILTIN_DIR.glob("*/*.onnx"))
    assert networks
    for network in networks:
        assert b"site-packages" not in network.read_bytes(), network
