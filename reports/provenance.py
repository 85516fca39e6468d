"""Who made a result, from what, and when: the attributes that all results have in common, written in one place.

common_attributes()  ──>  highdicom builds the object  ──>  stamp()
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from highdicom import ContributingEquipment
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as CodeTuple
from pydicom.uid import UID, ExplicitVRLittleEndian

from domain.findings import Code, ModelIdentity
from domain.identity import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    INSTANCE_CREATOR_UID,
    LOCAL_CODING_SCHEME,
)
from reports.codes import LOCAL_CODING_SCHEME_NAME, PROCESSING_EQUIPMENT
from reports.material import Material
from reports.source import SourceStudy
from reports.uids import derived_uid
from reports.words import LONGEST_LO, in_ascii, series_description

# Uncompressed, the overlay too: every PACS takes it, film hardly shrinks without loss, and pydicom's RLE encoder
# would need two seconds of CPU for one overlay.
TRANSFER_SYNTAX_UID = ExplicitVRLittleEndian


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """What kind of object it is, as its header says it."""

    kind: str
    series_number: int
    title: str
    instance_number: int = 1
    coding_schemes: frozenset[str] = frozenset()


def common_attributes(material: Material, form: Form) -> dict[str, Any]:
    """The arguments that every SOP Class of highdicom takes."""
    node = material.request.node
    moment = content_moment(material)
    return {
        "series_instance_uid": series_instance_uid(material, form),
        "series_number": form.series_number,
        "series_description": series_description(form.title, model_of(material)),
        "series_date": moment.date(),
        "series_time": moment.time(),
        "sop_instance_uid": sop_instance_uid(material, form),
        "instance_number": form.instance_number,
        "content_date": moment.date(),
        "content_time": moment.time(),
        "manufacturer": node.manufacturer,
        "manufacturer_model_name": node.model_name,
        "device_serial_number": node.serial_number,
        "software_versions": node.software_version,
        "content_qualification": _content_qualification(model_of(material)),
        "coding_schemes": [_coding_scheme(scheme) for scheme in sorted(form.coding_schemes)] or None,
        "contributing_equipment": [_algorithm(model, moment) for model in (model_of(material),) if model],
        "transfer_syntax_uid": TRANSFER_SYNTAX_UID,
        "specific_character_set": None,
    }


def series_instance_uid(material: Material, form: Form) -> str:
    """All objects of one kind form a series of their own, and each generation of a study another one: Series Date and
    Software Versions belong to a series and must not differ within it (PS3.3 C.7.3.1).
    """
    return kind_series_uid(material, form.kind)


def sop_instance_uid(material: Material, form: Form) -> str:
    return kind_instance_uid(material, form.kind, form.instance_number)


def kind_series_uid(material: Material, kind: str) -> str:
    return derived_uid(material.fingerprint, kind, "series")


def kind_instance_uid(material: Material, kind: str, instance_number: int) -> str:
    return derived_uid(material.fingerprint, kind, str(instance_number))


def stamp(dataset: Dataset, material: Material) -> Dataset:
    """Gives a built object the source's identity and our signature."""
    moment = content_moment(material)
    dataset.InstanceCreationDate = moment.strftime("%Y%m%d")
    dataset.InstanceCreationTime = moment.strftime("%H%M%S")
    dataset.InstanceCreatorUID = INSTANCE_CREATOR_UID
    for item in dataset.get("ContributingEquipmentSequence", ()):
        # highdicom signs with the time of day, which would make the same result another one at each writing.
        if item.get("ManufacturerModelName") == "highdicom":
            item.ContributionDateTime = moment.strftime("%Y%m%d%H%M%S")
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    copy_identity(dataset, material.source)
    return dataset


def content_moment(material: Material) -> datetime:
    """When the study was complete, as the study's own dates count: in its time zone, else in the site's."""
    moment = material.request.study.completed_at.replace(microsecond=0)
    if moment.tzinfo is None:
        return moment
    offset = re.fullmatch(rb"([+-])(\d\d)(\d\d)", material.source.value_of("TimezoneOffsetFromUTC"))
    if offset is None:
        return moment.astimezone().replace(tzinfo=None)
    ahead = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
    return moment.astimezone(timezone(ahead if offset[1] == b"+" else -ahead)).replace(tzinfo=None)


def model_of(material: Material) -> ModelIdentity | None:
    analysis = material.request.analysis
    return analysis.model if analysis is not None else None


def as_code(code: Code) -> CodeTuple:
    return CodeTuple(code.value, code.scheme, code.meaning)


def code_item(code: Code) -> Dataset:
    """Code Sequence Macro, PS3.3 8.8."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme
    item.CodeMeaning = code.meaning
    return item


def _content_qualification(model: ModelIdentity | None) -> str | None:
    """Content Qualification (0018,9004): RESEARCH unless the operator's manifest says the model is cleared."""
    if model is None:
        return None
    return "PRODUCT" if model.is_cleared and not model.is_demonstration else "RESEARCH"


def _algorithm(model: ModelIdentity, moment: datetime) -> ContributingEquipment:
    """The model as Contributing Equipment (0018,A001); its Device UID (0018,1002) changes with its weights."""
    equipment = ContributingEquipment(
        manufacturer=in_ascii(model.manufacturer)[:LONGEST_LO],
        purpose_of_reference=as_code(PROCESSING_EQUIPMENT),
        manufacturer_model_name=in_ascii(model.title)[:LONGEST_LO],
        software_versions=in_ascii(model.version)[:LONGEST_LO],
        contribution_datetime=moment,
        contribution_description="Processing Algorithm",
    )
    equipment.DeviceUID = model.device_uid
    return equipment


def _coding_scheme(designator: str) -> CodingSchemeIdentificationItem:
    """An item of Coding Scheme Identification Sequence (0008,0110), PS3.3 C.12.1."""
    if designator == LOCAL_CODING_SCHEME:
        return CodingSchemeIdentificationItem(
            designator=designator,
            name=LOCAL_CODING_SCHEME_NAME,
            responsible_organization="Collimator project",
        )
    return CodingSchemeIdentificationItem(designator=designator, name="Local codes of the model's package")


def copy_identity(dataset: Dataset, source: SourceStudy) -> None:
    """Puts the source's bytes in and has pydicom write them unseen.

    pydicom leaves undecoded elements alone only in a data set that claims to have been read in the encoding and the
    character set that it is written in.
    """
    if source.character_set:
        dataset.SpecificCharacterSet = source.character_set.decode("ascii").split("\\")
    elif "SpecificCharacterSet" in dataset:
        del dataset.SpecificCharacterSet
    for element in source.copied:
        raw = element.as_raw_element()
        dataset[raw.tag] = raw
    dataset.set_original_encoding(is_implicit_vr=False, is_little_endian=True, character_encoding=encodings_of(source))


def encodings_of(source: SourceStudy) -> list[str]:
    """pydicom's names for the character sets of the results: the source's."""
    if not source.character_set:
        return ["iso8859"]
    return convert_encodings(source.character_set.decode("ascii").split("\\"))
