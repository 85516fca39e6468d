"""Gates, one row a promise."""

from dataclasses import replace
from pathlib import Path

import pytest

from domain.study import InstanceFacts
from inference.gates import accepts
from inference.package import Manifest, load
from tests.factories.packages import build_package
from tests.inference.images import ADULT_PA

DX = "1.2.840.10008.5.1.4.1.1.1.1"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """For frontal CR and DX images of people aged 18 to 64 whose age is known."""
    folder = tmp_path_factory.mktemp("packages") / "chest"
    build_package(folder, age_min_years=18, age_max_years=64, accepts_unknown_age=False, views=("AP", "PA"))
    return load(folder).manifest


def failed_gates(manifest: Manifest, facts: InstanceFacts) -> list[str]:
    return [clause.name for clause in accepts(manifest, facts, sop_class_uid=DX) if not clause.passed]


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({}, []),
        ({"has_pixels": False}, ["pixels"]),
        ({"number_of_frames": 2}, ["pixels"]),
        ({"presentation_intent": "FOR PROCESSING"}, ["presentation"]),
        ({"presentation_intent": "FOR PRESENTATION"}, []),
        ({"presentation_intent": ""}, []),
        ({"modality": "CT"}, ["modality"]),
        ({"modality": ""}, ["modality"]),
        ({"modality": " cr "}, []),
        ({"view_position": "AP"}, []),
        ({"view_position": ""}, []),
        ({"view_position": "antero-posterior"}, []),
        ({"view_position": "LL"}, ["view"]),
        ({"view_position": "left lateral"}, ["view"]),
        ({"patient_age_years": None}, ["age"]),
        ({"patient_age_years": 17.99}, ["age"]),
        ({"patient_age_years": 18.0}, []),
        ({"patient_age_years": 64.9}, []),  # 64 completed years
        ({"patient_age_years": 65.0}, ["age"]),
        ({"modality": "MG", "patient_age_years": 3.0}, ["modality", "age"]),
    ],
)
def test_a_gate_opens_only_for_the_images_that_the_model_is_meant_for(
    manifest: Manifest, change: dict[str, object], failed: list[str]
) -> None:
    assert failed_gates(manifest, replace(ADULT_PA, **change)) == failed  # type: ignore[arg-type]


def test_an_unknown_age_passes_where_the_manifest_says_so(tmp_path: Path) -> None:
    build_package(tmp_path / "chest", age_min_years=18, accepts_unknown_age=True)
    assert failed_gates(load(tmp_path / "chest").manifest, replace(ADULT_PA, patient_age_years=None)) == []


def test_an_unknown_age_passes_where_the_manifest_sets_no_limit(tmp_path: Path) -> None:
    build_package(tmp_path / "chest", accepts_unknown_age=False)
    assert failed_gates(load(tmp_path / "chest").manifest, replace(ADULT_PA, patient_age_years=None)) == []


def test_every_gate_says_what_it_expected_and_saw(manifest: Manifest) -> None:
    clauses = accepts(manifest, replace(ADULT_PA, patient_age_years=3.5), sop_class_uid=DX)
    assert [(clause.name, clause.expected, clause.seen) for clause in clauses] == [
        ("pixels", "a single-frame image", "1 frame(s)"),
        ("presentation", "an image that is not FOR PROCESSING", ""),
        ("modality", "CR or DX", "DX"),
        ("sop_class", "any", DX),
        ("view", "AP or PA, or absent", "PA"),
        ("age", "18 to 64 completed years", "3"),
    ]
