"""Gates, one row a promise."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from config.settings import check
from domain.findings import Code
from domain.study import InstanceFacts
from inference.gates import accepts
from inference.package import Manifest, load
from tests.factories.packages import EVERY_BODY_PART, build_package
from tests.inference.images import ADULT_PA

DX = "1.2.840.10008.5.1.4.1.1.1.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
LEFT_LATERAL = Code(value="399173006", scheme="SCT", meaning="left lateral")
POSTERO_ANTERIOR = Code(value="272479007", scheme="SCT", meaning="postero-anterior")
FRONTAL = Code(value="399033003", scheme="SCT", meaning="frontal")
DOG = Code(value="448771007", scheme="SCT", meaning="Canis lupus familiaris")
RULEBOOK = check({"routing": {"terms": {"BRUSTKORB": "chest"}}}, origin="the shipped routing and a term").rulebook


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """For frontal CR and DX images of people aged 18 to 64 whose age is known."""
    folder = tmp_path_factory.mktemp("packages") / "chest"
    build_package(
        folder, body_parts=("CHEST",), age_min_years=18, age_max_years=64, accepts_unknown_age=False, views=("AP", "PA")
    )
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
        ({"view_position": "LLD"}, ["view"]),
        ({"view_codes": (LEFT_LATERAL,)}, ["view"]),  # which contradicts View Position
        ({"view_codes": (FRONTAL,)}, []),
        ({"view_position": "AP", "view_codes": (POSTERO_ANTERIOR,)}, ["view"]),
        ({"view_position": "LEFT LATERAL", "view_codes": (LEFT_LATERAL,)}, ["view"]),
        ({"view_position": "POSTERO-ANTERIOR", "view_codes": (POSTERO_ANTERIOR,)}, []),
        ({"view_position": "", "series_description": "Chest LATERAL"}, ["view"]),
        ({"view_position": "", "protocol_name": "Thorax seitlich"}, ["view"]),
        ({"view_position": "", "series_description": "Chest AP lateral decubitus"}, ["view"]),
        ({"view_position": "", "series_description": "Chest PA", "protocol_name": "Chest LAT"}, ["view"]),
        ({"view_position": "", "series_description": "Chest PA and LAT"}, []),
        ({"view_position": "", "series_description": "Bilateral infiltrates"}, []),
        ({"view_position": "", "study_description": "Chest lateral"}, []),  # of which image, nobody knows
        ({"view_position": "PA", "series_description": "Chest LATERAL"}, []),
        ({"patient_age_years": None}, ["age"]),
        ({"patient_age_years": 17.99}, ["age"]),
        ({"patient_age_years": 18.0}, []),
        ({"patient_age_years": 64.9}, []),  # 64 completed years
        ({"patient_age_years": 65.0}, ["age"]),
        ({"patient_age_years": 18.0, "other_age_years": 17.0}, ["age"]),  # Patient's Age and the dates: both count
        ({"patient_age_years": 64.0, "other_age_years": 65.0}, ["age"]),
        ({"patient_age_years": 18.0, "other_age_years": 19.0}, []),
        ({"modality": "MG", "patient_age_years": 3.0}, ["modality", "age"]),
        ({"species": "Canine"}, ["species"]),
        ({"species": "human"}, []),
        ({"species": "Homo sapiens"}, []),
        ({"species_codes": (DOG,)}, ["species"]),
        ({"species_codes": (Code(value="337915000", scheme="SCT", meaning="Homo sapiens"),)}, []),
        ({"species": "Homo sapiens", "species_codes": (DOG,)}, ["species"]),
        # What is coded is read by its code: a meaning may be in any language, or missing.
        ({"view_position": "", "view_codes": (replace(LEFT_LATERAL, meaning=""),)}, ["view"]),
        ({"view_position": "", "view_codes": (replace(LEFT_LATERAL, meaning="profil gauche"),)}, ["view"]),
        ({"view_position": "", "view_codes": (replace(POSTERO_ANTERIOR, meaning="de face"),)}, []),
        ({"view_position": "", "view_codes": (Code(value="R-10236", scheme="SRT", meaning=""),)}, ["view"]),
        ({"view_position": "", "view_codes": (Code(value="399006002", scheme="SCT", meaning=""),)}, ["view"]),
        ({"view_position": "", "view_codes": (FRONTAL,)}, []),
        ({"view_position": "FRONTAL"}, []),
        # No attribute names a view, but rows run along the body's depth and columns along its length.
        ({"view_position": "", "patient_orientation": r"P\F"}, ["view"]),
        ({"view_position": "", "patient_orientation": r"A\F"}, ["view"]),
        ({"view_position": "", "patient_orientation": r"L\F"}, []),
        ({"view_position": "", "patient_orientation": r"A\R"}, []),  # across, as of a foot
        ({"view_position": "PA", "patient_orientation": r"P\F"}, []),
    ],
)
def test_a_gate_opens_only_for_the_images_that_the_model_is_meant_for(
    manifest: Manifest, change: dict[str, object], failed: list[str]
) -> None:
    assert failed_gates(manifest, replace(ADULT_PA, **change)) == failed  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_raw_data_of_a_detector_is_known_by_its_sop_class_as_well(manifest: Manifest, number: int) -> None:
    raw = f"1.2.840.10008.5.1.4.1.1.1.{number}.1"
    clauses = accepts(manifest, replace(ADULT_PA, presentation_intent=""), sop_class_uid=raw)
    assert [one.name for one in clauses if not one.passed] == ["presentation"]


@pytest.mark.parametrize(
    ("sop_class_uid", "change", "seen"),
    [
        (SECONDARY_CAPTURE, {"photometric_interpretation": "RGB"}, "Secondary Capture in RGB"),
        (SECONDARY_CAPTURE, {"photometric_interpretation": "YBR_FULL_422"}, "Secondary Capture in YBR_FULL_422"),
        (SECONDARY_CAPTURE, {"image_type": r"DERIVED\SECONDARY\SCREEN SAVE"}, "screen save"),
        (SECONDARY_CAPTURE, {"photometric_interpretation": "MONOCHROME2"}, ""),  # a scanned film
        (SECONDARY_CAPTURE, {}, ""),
        (DX, {"image_type": r"DERIVED\SECONDARY", "photometric_interpretation": "MONOCHROME1"}, ""),
    ],
)
def test_a_picture_that_a_program_has_drawn_is_no_film(
    manifest: Manifest, sop_class_uid: str, change: dict[str, object], seen: str
) -> None:
    clauses = accepts(manifest, replace(ADULT_PA, **change), sop_class_uid=sop_class_uid)  # type: ignore[arg-type]
    assert [(one.name, one.seen) for one in clauses if not one.passed] == ([("origin", seen)] if seen else [])


def region(value: str, meaning: str) -> InstanceFacts:
    return replace(ADULT_PA, anatomic_regions=(Code(value=value, scheme="SCT", meaning=meaning),))


def examined(term: str) -> InstanceFacts:
    return replace(ADULT_PA, body_part_examined=term)


@pytest.mark.parametrize(
    ("body_parts", "facts", "passed"),
    [
        (["WRIST", "HAND"], examined("HAND"), True),
        (["WRIST", "HAND"], examined("left hand"), True),
        (["WRIST", "HAND"], examined("HAND/WRIST"), True),
        (["WRIST", "HAND"], examined("HIP"), False),  # a bone as well
        (["WRIST", "HAND"], examined("LEFT HIP"), False),
        (["WRIST", "HAND"], examined("EXTREMITY"), False),
        (["WRIST", "HAND"], examined(r"HAND\WRIST"), True),
        (["WRIST", "HAND"], examined(r"HAND\HIP"), False),
        (["DENTAL"], examined("HEAD"), False),
        (["WRIST", "HAND"], examined("CHEST"), False),
        (["LOWER LEG"], examined("LOWERLEG"), True),
        (["CHEST"], examined("CHEST"), True),
        (["CHEST"], examined("THORAX"), True),  # of the body part that the list names
        (["CHEST"], examined("CHEST PA"), True),
        (["CHEST"], examined("Brustkorb"), True),
        (["CHEST"], examined("HAND"), False),
        (["BONE"], examined("HIP"), True),
        (["SPINE"], examined("LSPINE"), True),
        (["LSPINE"], examined("CSPINE"), False),
        (["CHEST"], examined(""), True),
        (["CHEST"], examined("FLUX CAPACITOR"), True),
        (EVERY_BODY_PART, examined("HIP"), True),
        (["WRIST", "HAND"], region("85562004", "Hand"), True),
        (["WRIST", "HAND"], region("29836001", "Hip"), False),
        (["WRIST", "HAND"], region("85562004", "Extrémité"), True),  # a bone, and nobody can say which
        (["CHEST"], region("85562004", "Extrémité"), False),
        (["CHEST"], region("51185008", "Thorax, structure"), True),
        (["CHEST"], region("123", "flux capacitor"), True),
        (["HAND"], replace(region("29836001", "Hip"), body_part_examined="HAND"), False),  # both have to agree
    ],
)
def test_a_model_sees_the_body_parts_of_its_manifest_only(
    tmp_path: Path, body_parts: Sequence[str], facts: InstanceFacts, passed: bool
) -> None:
    build_package(tmp_path / "any", body_parts=body_parts)
    clauses = accepts(load(tmp_path / "any").manifest, facts, rulebook=RULEBOOK)
    assert [one.name for one in clauses if not one.passed] == ([] if passed else ["body_part"])


@pytest.mark.parametrize(
    ("body_part", "modality", "passed"),
    [
        ("DENTAL", "PX", True),
        ("TEETH", "PX", True),
        ("HEAD", "PX", True),
        ("CHEST", "PX", False),
        ("DENTAL", "DX", False),
    ],
)
def test_a_panoramic_film_of_the_head_is_one_of_the_teeth(
    tmp_path: Path, body_part: str, modality: str, passed: bool
) -> None:
    build_package(tmp_path / "any", modalities=("PX", "DX"), body_parts=[body_part])
    clauses = accepts(load(tmp_path / "any").manifest, replace(examined("SKULL"), modality=modality), rulebook=RULEBOOK)
    assert [one.name for one in clauses if not one.passed] == ([] if passed else ["body_part"])


def test_the_gate_of_the_body_part_says_what_it_saw(tmp_path: Path) -> None:
    build_package(tmp_path / "wrist", body_parts=("WRIST", "HAND"))
    facts = replace(region("29836001", "Hip"), body_part_examined="HIP")
    clauses = accepts(load(tmp_path / "wrist").manifest, facts, rulebook=RULEBOOK)
    assert [(one.expected, one.seen) for one in clauses if not one.passed] == [
        ("WRIST or HAND, or unknown", "HIP and Hip")
    ]


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"view_codes": (LEFT_LATERAL,)}, "PA by View Position (0018,5101) and LL by View Code Sequence (0054,0220)"),
        ({"view_position": "", "series_description": "Chest LAT."}, "LATERAL by Series Description (0008,103E)"),
        ({"view_position": "LL"}, "LL"),
    ],
)
def test_the_gate_of_the_view_says_who_named_it(manifest: Manifest, change: dict[str, object], seen: str) -> None:
    clauses = accepts(manifest, replace(ADULT_PA, **change))  # type: ignore[arg-type]
    assert [one.seen for one in clauses if one.name == "view"] == [seen]


@pytest.mark.parametrize(
    ("facts", "passed"),
    [
        (replace(ADULT_PA, view_position="", series_description="Chest LAT"), True),  # of either side
        (replace(ADULT_PA, view_position="LL"), True),
        (replace(ADULT_PA, view_position="RL"), False),
        (replace(ADULT_PA, view_position="PA"), False),
    ],
)
def test_a_model_for_lateral_films_sees_these(tmp_path: Path, facts: InstanceFacts, passed: bool) -> None:
    build_package(tmp_path / "lateral", views=("LL",))
    assert (failed_gates(load(tmp_path / "lateral").manifest, facts) == []) is passed


def test_ages_that_contradict_each_other_are_an_unknown_age(manifest: Manifest) -> None:
    facts = replace(ADULT_PA, patient_age_years=None, age_conflict="5 years by the one and 74 by the other")
    (clause,) = [one for one in accepts(manifest, facts) if one.name == "age"]
    assert (clause.seen, clause.passed) == ("5 years by the one and 74 by the other", False)


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
        ("origin", "a film or its scan in grey", ""),
        ("species", "human, or absent", ""),
        ("modality", "CR or DX", "DX"),
        ("sop_class", "any", DX),
        ("body_part", "CHEST, or unknown", ""),
        ("view", "AP or PA, or absent", "PA"),
        ("age", "18 to 64 completed years", "3"),
    ]
