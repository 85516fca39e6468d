"""Reads from a stored file what the node must know: who sent it, which instance it is, and the facts for routing.

Tolerant on purpose: modalities send odd values, and an odd value in one attribute must not lose the others.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from domain.findings import Code
from domain.identity import INSTANCE_CREATOR_UID, MANUFACTURER, MODEL_NAME
from domain.study import InstanceFacts
from storage.content import data_set_size, read_file_meta
from storage.instances import Spool

# Private Information Creator UID (0002,0100) of the item below; from the 2.25 root, which needs no registration.
PRIVATE_INFORMATION_CREATOR_UID = "2.25.314158402874513706029843137902671290113"
UID_PATTERN = re.compile(r"[0-9.]{1,64}")
AGE_PATTERN = re.compile(r"(\d{1,3})([DWMY])")
TEXT_VRS = frozenset(("AE", "AS", "CS", "DA", "IS", "LO", "SH", "UI"))
ESC = b"\x1b"
PIXELS = frozenset((0x7FE00008, 0x7FE00009, 0x7FE00010))  # Float, Double Float, and Pixel Data
YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """How an instance came; kept in its File Meta (PS3.10 7.1), so that the spool alone can rebuild the database."""

    clinic: str
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    association: str
    received_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredInstance:
    """What a spooled file is. `problem` is empty when it can be used; otherwise it says why it cannot."""

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


def write_provenance(meta: FileMetaDataset, provenance: Provenance) -> None:
    """Set Source/Sending/Receiving Application Entity Title (0002,0016..18) and the private item in `meta`."""
    meta.SourceApplicationEntityTitle = provenance.calling_ae_title
    meta.SendingApplicationEntityTitle = provenance.calling_ae_title
    meta.ReceivingApplicationEntityTitle = provenance.called_ae_title
    meta.PrivateInformationCreatorUID = UID(PRIVATE_INFORMATION_CREATOR_UID)
    meta.PrivateInformation = json.dumps(
        {
            "clinic": provenance.clinic,
            "peer": provenance.peer_address,
            "association": provenance.association,
            "received_at": provenance.received_at.isoformat(),
        }
    ).encode()


def read_stored_instance(spool: Spool, spool_key: str) -> StoredInstance:
    """Read one spooled file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a file that this node wrote.
    """
    with spool.open(spool_key) as file:
        return _read(file, spool_key)


def read_any_file(path: Path) -> tuple[Dataset, InstanceFacts]:
    """The header of any DICOM file and its facts, for `rules explain`."""
    with open(path, "rb") as file:
        dataset, has_pixels = _read_header(file)
    return dataset, read_facts(dataset, has_pixels=has_pixels)


def is_own_result(dataset: Dataset) -> bool:
    """Whether the node made this object itself. Told by its content: a relay rewrites the File Meta."""
    return _text(dataset, "InstanceCreatorUID") == INSTANCE_CREATOR_UID or (
        _text(dataset, "Manufacturer"),
        _text(dataset, "ManufacturerModelName"),
    ) == (MANUFACTURER, MODEL_NAME)


def read_facts(dataset: Dataset, *, has_pixels: bool) -> InstanceFacts:
    """The facts that routing may look at; an attribute that cannot be read counts as absent."""
    view = _text(dataset, "ViewPosition") or next((code.meaning for code in _codes(dataset, "ViewCodeSequence")), "")
    return InstanceFacts(
        modality=_text(dataset, "Modality").upper(),
        body_part_examined=_text(dataset, "BodyPartExamined"),
        anatomic_regions=tuple(_codes(dataset, "AnatomicRegionSequence")),
        view_position=view.upper(),
        image_laterality=_text(dataset, "ImageLaterality") or _text(dataset, "Laterality"),
        study_description=_text(dataset, "StudyDescription"),
        series_description=_text(dataset, "SeriesDescription"),
        protocol_name=_text(dataset, "ProtocolName"),
        procedure_codes=tuple(_codes(dataset, "ProcedureCodeSequence")),
        patient_age_years=patient_age_years(dataset),
        patient_sex=_text(dataset, "PatientSex"),
        presentation_intent=_text(dataset, "PresentationIntentType"),
        has_pixels=has_pixels,
        rows=_number(dataset, "Rows", 0),
        columns=_number(dataset, "Columns", 0),
        number_of_frames=_number(dataset, "NumberOfFrames", 1),
    )


def patient_age_years(dataset: Dataset) -> float | None:
    """Age at the study: Patient's Age (0010,1010), or from Patient's Birth Date and Study Date; None when unknown.

    An unparsable or impossible value counts as unknown. Some modalities write "62" for "062Y".
    """
    text = _text(dataset, "PatientAge").upper()
    if match := AGE_PATTERN.fullmatch(text):
        return int(match[1]) * YEARS[match[2]]
    if text.isdecimal() and len(text) <= 3:
        return float(text)
    try:
        born = datetime.strptime(_text(dataset, "PatientBirthDate"), "%Y%m%d")
        taken = datetime.strptime(_text(dataset, "StudyDate"), "%Y%m%d")
    except ValueError:
        return None
    years = taken.year - born.year - ((taken.month, taken.day) < (born.month, born.day))
    return float(years) if 0 <= years <= 130 else None


def _read(file: BinaryIO, spool_key: str) -> StoredInstance:
    try:
        meta = read_file_meta(file)
        provenance = _read_provenance(meta)
    except OSError:
        raise
    except Exception as error:  # a strange file in the spool makes the parser raise anything
        raise ValueError(f"{spool_key} has no provenance of this node: {error}") from error
    size = data_set_size(file)
    problem = ""
    dataset, has_pixels = Dataset(), False
    try:
        dataset, has_pixels = _read_data_set(file, _text(meta, "TransferSyntaxUID"))
        problem = _identity_problem(dataset, meta)
    except Exception as error:  # whatever a damaged data set makes the parser raise, the file is kept and reported
        problem = f"the data set cannot be parsed: {type(error).__name__}"
    return StoredInstance(
        spool_key=spool_key,
        provenance=provenance,
        sop_instance_uid=_text(meta, "MediaStorageSOPInstanceUID"),
        sop_class_uid=_text(meta, "MediaStorageSOPClassUID"),
        series_instance_uid=_text(dataset, "SeriesInstanceUID"),
        study_instance_uid=_text(dataset, "StudyInstanceUID"),
        transfer_syntax_uid=_text(meta, "TransferSyntaxUID"),
        accession_number=_text(dataset, "AccessionNumber")[:64],
        size_bytes=size,
        is_own_result=is_own_result(dataset),
        facts=read_facts(dataset, has_pixels=has_pixels),
        problem=problem,
    )


def _read_header(file: BinaryIO) -> tuple[Dataset, bool]:
    """Everything before the pixels, and whether there are pixels."""
    file.seek(0)
    dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
    # The reader stops in front of Pixel Data (7FE0,0010); a deflated data set is read whole into memory first.
    stopped_early = bool(file.read(1)) or dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    return dataset, stopped_early and _is_image(dataset)


def _read_data_set(file: BinaryIO, transfer_syntax_uid: str) -> tuple[Dataset, bool]:
    """The same for a file of ours that stands at its data set: its File Meta need not be read once more."""
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        return _read_header(file)
    dataset = read_dataset(
        file,
        is_implicit_VR=transfer_syntax_uid == ImplicitVRLittleEndian,
        is_little_endian=transfer_syntax_uid != ExplicitVRBigEndian,
        stop_when=lambda tag, _vr, _length: tag in PIXELS,
    )
    return dataset, bool(file.read(1)) and _is_image(dataset)


def _is_image(dataset: Dataset) -> bool:
    return "Rows" in dataset and "Columns" in dataset


def _read_provenance(meta: FileMetaDataset) -> Provenance:
    if _text(meta, "PrivateInformationCreatorUID") != PRIVATE_INFORMATION_CREATOR_UID:
        raise ValueError("another program's private information")
    # An OB value of odd length got a trailing zero byte (PS3.5 6.2).
    private = json.loads(meta.PrivateInformation.rstrip(b"\0"))
    return Provenance(
        clinic=private["clinic"],
        calling_ae_title=_text(meta, "SendingApplicationEntityTitle"),
        called_ae_title=_text(meta, "ReceivingApplicationEntityTitle"),
        peer_address=private["peer"],
        association=private["association"],
        received_at=datetime.fromisoformat(private["received_at"]).astimezone(UTC),
    )


def _identity_problem(dataset: Dataset, meta: FileMetaDataset) -> str:
    """Why the data set cannot be told apart or does not belong to the request that brought it (PS3.4 B.2.3)."""
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        value = _text(dataset, keyword)
        if not UID_PATTERN.fullmatch(value):
            return f"{keyword} is {'not a UID' if value else 'missing'}"
    if _text(dataset, "SOPInstanceUID") != _text(meta, "MediaStorageSOPInstanceUID"):
        return "its SOP Instance UID is not the one that the C-STORE request named"
    if _text(dataset, "SOPClassUID") != _text(meta, "MediaStorageSOPClassUID"):
        return "its SOP Class UID is not the one that the C-STORE request named"
    return ""


def _text(dataset: Dataset, keyword: str) -> str:
    """The attribute's value as stripped text; the first of several values; "" when absent or unreadable."""
    try:
        element = dataset.get_item(_tag(keyword))
        if element is None:
            return ""
        if isinstance(element, RawDataElement) and _is_plain_text(element):
            return str(element.value, "ascii").partition("\\")[0].replace("\0", "").strip()
        value: Any = dataset.get(keyword)
    except Exception:  # pydicom raises many kinds for values that break their VR
        return ""
    if isinstance(value, pydicom.multival.MultiValue):
        value = value[0] if len(value) else ""
    return "" if value is None else str(value).replace("\0", "").strip()


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def _is_plain_text(element: RawDataElement) -> bool:
    """Whether it is ASCII in any character set: pydicom, which takes ten times as long, need not convert it.

    ESC begins another character set within the value (ISO 2022, PS3.3 C.12.1.1.2).
    """
    if element.value is None or (element.VR or dictionary_VR(element.tag)) not in TEXT_VRS:
        return False
    return element.value.isascii() and ESC not in element.value


def _number(dataset: Dataset, keyword: str, default: int) -> int:
    try:
        return int(_text(dataset, keyword) or default)
    except ValueError:
        return default


def _codes(dataset: Dataset, keyword: str) -> Iterator[Code]:
    try:
        items = list(dataset.get(keyword) or ())
    except Exception:  # a sequence that does not parse says nothing
        return
    for item in items:
        if isinstance(item, Dataset):
            yield Code(
                value=_text(item, "CodeValue"),
                scheme=_text(item, "CodingSchemeDesignator"),
                meaning=_text(item, "CodeMeaning"),
            )
