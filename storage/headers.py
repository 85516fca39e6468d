"""Reads from a stored file what the node must know: who sent it, which instance it is, and the facts for routing.

Tolerant on purpose: modalities send odd values, and an odd value in one attribute must not lose the others.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from pydicom.dataset import Dataset

from domain.identity import INSTANCE_CREATOR_UID, MANUFACTURER, MODEL_NAME
from domain.study import InstanceFacts
from storage.content import size_from_here
from storage.elements import Elements, read_elements, read_elements_of_any
from storage.file_meta import FileMeta, Foreign, Provenance, read_file_meta
from storage.instances import Spool

UID_PATTERN = re.compile(r"[0-9.]{1,64}")
AGE_PATTERN = re.compile(r"(\d{1,3})([DWMY])")
DATE_PATTERN = re.compile(r"\d{8}")  # of a shorter one strptime guesses where the month ends
UNKNOWN_BIRTH = ("19000101", "18991230")  # written where nobody knows; years since then would make any child an adult
LONGEST_LIFE_YEARS, LARGEST_GAP_YEARS = 120, 2
YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredInstance:
    """What a spooled file is. `problem` is empty when it can be used; otherwise it says why it cannot.

    content_sha256: where its file is in the shared store; None: nobody has looked.
    """

    spool_key: str
    provenance: Provenance
    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    accession_number: str
    size_bytes: int
    is_own_result: bool
    facts: InstanceFacts
    problem: str
    content_sha256: str | None = None


def read_stored_instance(spool: Spool, spool_key: str) -> StoredInstance:
    """Read one spooled file.

    Raises:
        OSError: the file cannot be read.
        Foreign: it is not a file that this node wrote.
    """
    with spool.open(spool_key) as file:
        return _read(file, spool_key)


def read_any_file(path: Path) -> tuple[Dataset, InstanceFacts]:
    """The header of any DICOM file and its facts, for `rules explain`."""
    with open(path, "rb") as file:
        elements, dataset = read_elements_of_any(file)
    return dataset, read_facts(elements)


def is_own_result(elements: Elements) -> bool:
    """Whether the node made this object itself. Told by its content: a relay rewrites the File Meta."""
    return elements.text("InstanceCreatorUID") == INSTANCE_CREATOR_UID or (
        elements.text("Manufacturer"),
        elements.text("ManufacturerModelName"),
    ) == (MANUFACTURER, MODEL_NAME)


def read_facts(elements: Elements) -> InstanceFacts:
    """The facts that routing may look at; an attribute that cannot be read counts as absent."""
    view_codes = tuple(elements.codes("ViewCodeSequence"))
    view = elements.text("ViewPosition") or next((code.meaning for code in view_codes), "")
    age, other_age, age_conflict = _age_at_study(elements)
    return InstanceFacts(
        modality=elements.text("Modality").upper(),
        body_part_examined=elements.text("BodyPartExamined"),
        anatomic_regions=tuple(elements.codes("AnatomicRegionSequence")),
        view_position=view.upper(),
        view_codes=view_codes,
        patient_orientation=elements.text("PatientOrientation").upper(),
        study_description=elements.text("StudyDescription"),
        series_description=elements.text("SeriesDescription"),
        protocol_name=elements.text("ProtocolName"),
        procedure_codes=tuple(elements.codes("ProcedureCodeSequence")),
        patient_age_years=age,
        other_age_years=other_age,
        age_conflict=age_conflict,
        species=elements.text("PatientSpeciesDescription"),
        species_codes=tuple(elements.codes("PatientSpeciesCodeSequence")),
        patient_sex=elements.text("PatientSex"),
        requested_procedure_priority=elements.text("RequestedProcedurePriority"),
        image_type=elements.text("ImageType").upper(),
        photometric_interpretation=elements.text("PhotometricInterpretation").upper(),
        presentation_intent=elements.text("PresentationIntentType"),
        manufacturer=elements.text("Manufacturer"),
        manufacturer_model_name=elements.text("ManufacturerModelName"),
        has_pixels=elements.has_pixels,
        rows=_number(elements, "Rows", 0),
        columns=_number(elements, "Columns", 0),
        number_of_frames=_number(elements, "NumberOfFrames", 1),
    )


def patient_age_years(elements: Elements) -> float | None:
    """Age at the study: Patient's Age (0010,1010), or from Patient's Birth Date and Study Date; None when unknown.

    An unparsable or impossible value counts as absent, and an age of more than 120 years is one; so is one that a
    modality has reckoned from what stands for an unknown birth date. Some modalities write "62" for "062Y". Where both
    are there and are more than two years apart, one is wrong, nobody can say which, and the age is unknown.
    """
    return _age_at_study(elements)[0]


def _age_at_study(elements: Elements) -> tuple[float | None, float | None, str]:
    """The age, what the dates say where Patient's Age is there, and what two that contradict each other say."""
    told, reckoned = age_in_years(elements.text("PatientAge")), _years_since_birth(elements)
    if elements.text("PatientBirthDate") in UNKNOWN_BIRTH:
        told, reckoned = None if told == reckoned else told, None
    if told is not None and told > LONGEST_LIFE_YEARS:
        told = None
    if told is not None and reckoned is not None and abs(told - reckoned) > LARGEST_GAP_YEARS:
        return None, None, f"{told:g} years by Patient's Age and {reckoned:g} by birth and study dates"
    return (reckoned, None, "") if told is None else (told, reckoned, "")


def _years_since_birth(elements: Elements) -> float | None:
    """Completed years."""
    dates = (elements.text("PatientBirthDate"), elements.text("StudyDate"))
    if not all(DATE_PATTERN.fullmatch(date) for date in dates):
        return None
    try:
        born, taken = (datetime.strptime(date, "%Y%m%d") for date in dates)
    except ValueError:
        return None
    completed = taken.year - born.year - ((taken.month, taken.day) < (born.month, born.day))
    return float(completed) if 0 <= completed <= LONGEST_LIFE_YEARS else None


def age_in_years(age: str) -> float | None:
    """An Age String (PS3.5 6.2) such as "018M" or "62", in years; None where it is none."""
    text = age.strip().upper()
    if match := AGE_PATTERN.fullmatch(text):
        return int(match[1]) * YEARS[match[2]]
    return float(text) if text.isdecimal() and len(text) <= 3 else None


def _read(file: BinaryIO, spool_key: str) -> StoredInstance:
    try:
        meta = read_file_meta(file)
    except Foreign as error:
        raise Foreign(f"{spool_key}: {error}") from error
    size = size_from_here(file)
    elements = Elements.of_dataset(Dataset())
    try:
        elements = read_elements(file, meta.transfer_syntax_uid)
        return _instance(
            spool_key,
            meta,
            size,
            elements,
            is_own_result=is_own_result(elements),
            facts=read_facts(elements),
            problem=_identity_problem(elements, meta),
        )
    except Exception as error:  # whatever a damaged data set makes the parser raise, the file is kept and reported
        problem = f"the data set cannot be parsed: {type(error).__name__}"
    plain = elements.without_others()
    return _instance(spool_key, meta, size, plain, is_own_result=False, facts=InstanceFacts(), problem=problem)


def _instance(
    spool_key: str,
    meta: FileMeta,
    size: int,
    elements: Elements,
    *,
    is_own_result: bool,
    facts: InstanceFacts,
    problem: str,
) -> StoredInstance:
    """All that is asked of the elements is asked until here: the parser may stumble only over what is asked last."""
    return StoredInstance(
        spool_key=spool_key,
        provenance=meta.provenance,
        sop_instance_uid=meta.sop_instance_uid,
        sop_class_uid=meta.sop_class_uid,
        series_instance_uid=elements.text("SeriesInstanceUID"),
        study_instance_uid=elements.text("StudyInstanceUID"),
        transfer_syntax_uid=meta.transfer_syntax_uid,
        accession_number=elements.text("AccessionNumber")[:64],
        size_bytes=size,
        is_own_result=is_own_result,
        facts=facts,
        problem=problem,
    )


def _identity_problem(elements: Elements, meta: FileMeta) -> str:
    """Why the data set cannot be told apart or does not belong to the request that brought it (PS3.4 B.2.3)."""
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        value = elements.text(keyword)
        if not UID_PATTERN.fullmatch(value):
            return f"{keyword} is {'not a UID' if value else 'missing'}"
    if elements.text("SOPInstanceUID") != meta.sop_instance_uid:
        return "its SOP Instance UID is not the one that the C-STORE request named"
    if elements.text("SOPClassUID") != meta.sop_class_uid:
        return "its SOP Class UID is not the one that the C-STORE request named"
    return ""


def _number(elements: Elements, keyword: str, default: int) -> int:
    text = elements.text(keyword)
    try:
        return int(text or default)
    except ValueError:
        return default
