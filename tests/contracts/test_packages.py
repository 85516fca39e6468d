"""What every shipped model package must keep. A new folder in inference/packages/ is tested by this without a word."""

import re

import pytest

from domain.findings import Code
from domain.plans import PLANS
from domain.snomed import has_valid_check_digit
from inference.convert import CONVERTERS
from inference.install import MODEL_CARD_FILE, check
from inference.package import Package, load, verified_bytes
from inference.registry import BUILTIN_DIR
from reports.codes import KNOWN_FINDINGS

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


@pytest.mark.parametrize(
    ("name", "adapter", "finds"),
    [
        ("chest", "classifier", "Pneumothorax"),
        ("pediatric_chest", "classifier", "Pneumonia"),
        ("bone_fracture", "detector", "Fracture"),
        ("dental", "detector", "Dental caries"),
        ("spine", "landmarks", "Cobb angle"),
    ],
)
def test_a_slot_stands_for_the_kind_of_network_that_it_wants(name: str, adapter: str, finds: str) -> None:
    (manifest,) = [package.manifest for package in PACKAGES if package.name == name]
    assert manifest.adapter_name == adapter
    assert finds in [label.label for label in manifest.labels] + [measure.label for measure in manifest.measures]


def codes_of(package: Package) -> list[Code]:
    """Of everything that it finds or measures, and of their sites."""
    found = [(label.code, label.site) for label in package.manifest.labels]
    measured = [(measure.code, measure.site) for measure in package.manifest.measures]
    return [code for codes in found + measured for code in codes if code is not None]


@every_package
def test_a_snomed_code_has_the_right_check_digit(package: Package) -> None:
    assert [code for code in codes_of(package) if code.scheme == "SCT" and not has_valid_check_digit(code.value)] == []


@every_package
def test_a_code_is_a_snomed_dicom_or_local_one(package: Package) -> None:
    assert {code.scheme for code in codes_of(package)} <= {"SCT", "DCM", "99COLLIM"}


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
def test_shipped_weights_are_small(package: Package) -> None:
    assert len(verified_bytes(package.weights_path, package.manifest.weights)) <= LARGEST_SHIPPED_WEIGHTS_BYTES


@every_package
def test_a_package_that_has_weights_or_can_pull_them_has_a_model_card(package: Package) -> None:
    weights = package.manifest.weights
    card = package.folder / MODEL_CARD_FILE
    assert card.is_file() == bool(weights.sha256 or weights.source_url)
    if card.is_file():
        words = " ".join(card.read_text(encoding="utf-8").split())
        assert words.startswith("# ")
        assert package.manifest.version in words.partition(" **")[0]
        assert all(limit in words for limit in package.manifest.limits)


def test_the_card_of_the_network_that_is_pulled_names_its_labels_its_source_and_its_licence() -> None:
    (package,) = [one for one in PACKAGES if one.name == "chest"]
    words = " ".join((package.folder / MODEL_CARD_FILE).read_text(encoding="utf-8").split())
    manifest = package.manifest
    listed = words.partition("**Labels.** ")[2].partition(".")[0]
    assert listed.split(", ") == [label.label.replace("_", " ") for label in manifest.labels]
    for named in (
        manifest.weights.source_url,
        manifest.weights.source_sha256,
        manifest.weights.licence.name,
        f"{manifest.preprocessing.input_size} x {manifest.preprocessing.input_size} pixels",
        f"of {manifest.accepts.age_min_years} years and more",
    ):
        assert named in words


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
