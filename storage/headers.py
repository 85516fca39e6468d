"""Reads from a stored file what the node must know: who sent it, which instance it is, and the facts for routing.

Tolerant on purpose: modalities send odd values, and an odd value in one attribute must not lose the others.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from domain.findings import Code
from domain.identity import INSTANCE_CREATOR_UID, MANUFACTURER, MODEL_NAME
from domain.study import InstanceFacts

# Private Information Creator UID (0002,0100) of the item below; from the 2.25 root, which needs no registration.
PRIVATE_INFORMATION_CREATOR_UID = "2.25.314158402874513706029843137902671290113"
UID_PATTERN = re.compile(r"[0-9.]{1,64}")
AGE_PATTERN = re.compile(r"(\d{1,3})([DWMY])")
YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
READ_BYTES = 1 << 20


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
    content_sha256: str
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


def read_stored_instance(path: Path, spool_key: str) -> StoredInstance:
    """Read one spooled file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a file that this node wrote.
    """
    try:
        meta = pydicom.filereader.read_file_meta_info(path)
        provenance = _read_provenance(meta)
    except OSError:
        raise
    except Exception as error:  # a strange file in the spool makes the parser raise anything
        raise ValueError(f"{path} has no provenance of this node: {error}") from error
    problem = ""
    dataset, has_pixels = Dataset(), False
    try:
        dataset, has_pixels = _read_header(path)
        problem = _identity_problem(dataset, meta)
    except Exception as error:  # whatever a damaged data set makes the parser raise, the file is kept and reported
        problem = f"the data set cannot be parsed: {type(error).__name__}"
    digest, size = _digest(path)
    return StoredInstance(
        spool_key=spool_key,
        provenance=provenance,
        sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
        sop_class_uid=str(meta.MediaStorageSOPClassUID),
        series_instance_uid=_text(dataset, "SeriesInstanceUID"),
        study_instance_uid=_text(dataset, "StudyInstanceUID"),
        transfer_syntax_uid=str(meta.TransferSyntaxUID),
        accession_number=_text(dataset, "AccessionNumber")[:64],
        content_sha256=digest,
        size_bytes=size,
        is_own_result=is_own_result(dataset),
        facts=read_facts(dataset, has_pixels=has_pixels),
        problem=problem,
    )


def read_any_file(path: Path) -> tuple[Dataset, InstanceFacts]:
    """The header of any DICOM file and its facts, for `rules explain`."""
    dataset, has_pixels = _read_header(path)
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


def _read_header(path: Path) -> tuple[Dataset, bool]:
    """Everything before the pixels, and whether there are pixels."""
    with open(path, "rb") as file:
        dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        # The reader stops in front of Pixel Data (7FE0,0010); a deflated data set is read whole into memory first.
        stopped_early = bool(file.read(1)) or dataset.file_meta.get("TransferSyntaxUID") == "1.2.840.10008.1.2.1.99"
    return dataset, stopped_early and "Rows" in dataset and "Columns" in dataset


def _read_provenance(meta: FileMetaDataset) -> Provenance:
    if meta.PrivateInformationCreatorUID != PRIVATE_INFORMATION_CREATOR_UID:
        raise ValueError("another program's private information")
    # An OB value of odd length got a trailing zero byte (PS3.5 6.2).
    private = json.loads(meta.PrivateInformation.rstrip(b"\0"))
    return Provenance(
        clinic=private["clinic"],
        calling_ae_title=str(meta.SendingApplicationEntityTitle),
        called_ae_title=str(meta.ReceivingApplicationEntityTitle),
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
    if _text(dataset, "SOPInstanceUID") != str(meta.MediaStorageSOPInstanceUID):
        return "its SOP Instance UID is not the one that the C-STORE request named"
    if _text(dataset, "SOPClassUID") != str(meta.MediaStorageSOPClassUID):
        return "its SOP Class UID is not the one that the C-STORE request named"
    return ""


def _text(dataset: Dataset, keyword: str) -> str:
    """The attribute's value as stripped text; the first of several values; "" when absent or unreadable."""
    try:
        value: Any = dataset.get(keyword)
    except Exception:  # pydicom raises many kinds for values that break their VR
        return ""
    if isinstance(value, pydicom.multival.MultiValue):
        value = value[0] if len(value) else ""
    return "" if value is None else str(value).replace("\0", "").strip()


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


def _digest(path: Path) -> tuple[str, int]:
    """SHA-256 of the data set as it came, without the File Meta that the node wrote, and the data set's size in bytes.

    File Meta Information Group Length (0002,0000) stands at a fixed place: 128 + 4 bytes, then its 12-byte element.
    """
    digest, size = sha256(), 0
    with open(path, "rb") as file:
        head = file.read(144)
        file.seek(144 + int.from_bytes(head[140:144], "little"))
        while block := file.read(READ_BYTES):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size
