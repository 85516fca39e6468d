"""What is known of the patient and the taking of each image, by which accuracy is told apart.

The table's own columns go first; what they leave open is read from the header of a DICOM file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import floor
from pathlib import Path

from domain.study import InstanceFacts
from inference.gates import AGE_GATE, VIEW_GATE, accepts, short_view
from inference.package import Manifest
from inference.pixels import is_dicom
from storage.headers import read_any_file

NOT_KNOWN = "not known"


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """Empty text or None: not known."""

    age_years: float | None = None
    sex: str = ""  # Patient's Sex (0010,0040)
    view: str = ""  # View Position (0018,5101)
    manufacturer: str = ""  # Manufacturer (0008,0070)


def from_header(path: Path) -> Subject:
    """What a DICOM file says of itself; of any other file, nothing is known."""
    if not is_dicom(path):
        return Subject()
    dataset, facts = read_any_file(path)
    return Subject(
        age_years=facts.patient_age_years,
        sex=facts.patient_sex,
        view=facts.view_position,
        manufacturer=str(dataset.get("Manufacturer") or ""),
    )


def completed(told: Subject, header: Subject) -> Subject:
    """What the table told, and from the header what it did not."""
    return replace(
        told,
        age_years=header.age_years if told.age_years is None else told.age_years,
        sex=told.sex or header.sex,
        view=told.view or header.view,
        manufacturer=told.manufacturer or header.manufacturer,
    )


def is_outside(manifest: Manifest, subject: Subject) -> bool:
    """Whether the package would refuse the image for what is known of its patient's age, or of its view."""
    facts = InstanceFacts(patient_age_years=subject.age_years, view_position=subject.view)
    is_known = {AGE_GATE: subject.age_years is not None, VIEW_GATE: bool(subject.view)}
    return any(not clause.passed and is_known.get(clause.name, False) for clause in accepts(manifest, facts))


# From here on the children's ages of most trials (infants, children, adolescents), and then every two decades.
AGES = (
    (2, "under 2 years"),
    (12, "2 to 11 years"),
    (18, "12 to 17 years"),
    (40, "18 to 39 years"),
    (60, "40 to 59 years"),
    (80, "60 to 79 years"),
)
OLDEST = "80 years and more"
AGE_GROUPS = (*(name for _, name in AGES), OLDEST)
SEXES = {"M": "male", "F": "female", "O": "other", "MALE": "male", "FEMALE": "female", "OTHER": "other"}


def age_group(subject: Subject) -> str:
    if subject.age_years is None:
        return NOT_KNOWN
    years = floor(subject.age_years)
    return next((name for below, name in AGES if years < below), OLDEST)


def sex_group(subject: Subject) -> str:
    sex = subject.sex.strip()
    return SEXES.get(sex.upper(), sex) or NOT_KNOWN


def view_group(subject: Subject) -> str:
    return short_view(subject.view.strip().upper()) or NOT_KNOWN


def manufacturer_group(subject: Subject) -> str:
    """As it is written, but for letters' size and spaces: one vendor writes itself in several ways."""
    return " ".join(subject.manufacturer.split()).upper() or NOT_KNOWN


GROUPINGS: Mapping[str, Callable[[Subject], str]] = {
    "age": age_group,
    "sex": sex_group,
    "view": view_group,
    "manufacturer": manufacturer_group,
}
