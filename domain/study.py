"""A study as the node sees it: which instances came, and the facts in their headers that decisions rest on."""

from dataclasses import dataclass
from datetime import datetime
from math import floor

from domain.findings import Code


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceFacts:
    """What routing may look at. Empty text or tuple: the attribute was absent or empty. Never identity."""

    modality: str = ""  # Modality (0008,0060)
    body_part_examined: str = ""  # Body Part Examined (0018,0015), all its values
    anatomic_regions: tuple[Code, ...] = ()  # Anatomic Region Sequence (0008,2218)
    view_position: str = ""  # View Position (0018,5101), or the meaning of View Code Sequence (0054,0220)
    view_codes: tuple[Code, ...] = ()  # View Code Sequence (0054,0220)
    patient_orientation: str = ""  # Patient Orientation (0020,0020): where rows and columns run to, as "L\\F"
    study_description: str = ""  # Study Description (0008,1030)
    series_description: str = ""  # Series Description (0008,103E)
    protocol_name: str = ""  # Protocol Name (0018,1030)
    procedure_codes: tuple[Code, ...] = ()  # Procedure Code Sequence (0008,1032)
    patient_age_years: float | None = None  # Patient's Age (0010,1010), or from birth and study dates
    other_age_years: float | None = None  # from birth and study dates, where there is Patient's Age as well
    age_conflict: str = ""  # what Patient's Age and the dates say, where that makes the age unknown
    species: str = ""  # Patient Species Description (0010,2201)
    species_codes: tuple[Code, ...] = ()  # Patient Species Code Sequence (0010,2202)
    patient_sex: str = ""  # Patient's Sex (0010,0040)
    requested_procedure_priority: str = ""  # Requested Procedure Priority (0040,1003)
    image_type: str = ""  # Image Type (0008,0008), all its values
    photometric_interpretation: str = ""  # Photometric Interpretation (0028,0004)
    presentation_intent: str = ""  # Presentation Intent Type (0008,0068)
    manufacturer: str = ""  # Manufacturer (0008,0070)
    manufacturer_model_name: str = ""  # Manufacturer's Model Name (0008,1090)
    has_pixels: bool = False  # Pixel Data (7FE0,0010) is present
    rows: int = 0
    columns: int = 0
    number_of_frames: int = 1

    @property
    def body_parts_examined(self) -> tuple[str, ...]:
        """Each value: it should have one (PS3.3 C.7.3.1), and of two one may be anything."""
        return tuple(value for part in self.body_part_examined.split("\\") if (value := part.strip()))

    @property
    def completed_years(self) -> tuple[int, ...]:
        """The patient's age by each attribute that tells it, once where they agree; empty: unknown."""
        ages = (self.patient_age_years, self.other_age_years)
        return tuple(dict.fromkeys(floor(age) for age in ages if age is not None))


@dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """One stored instance. `path` is where its file lies on this machine."""

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    path: str
    facts: InstanceFacts


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A study that was closed once. Images that come later open the next generation, which holds all of them."""

    clinic: str
    study_instance_uid: str
    generation: int
    calling_ae_title: str
    completed_at: datetime
    completion_reason: str
    instances: tuple[Instance, ...]
