"""What a result takes over from the images that it is about: the patient, the study, and where each image stands.

A source header is somebody else's work and may be wrong in any way, so nothing of it is taken on trust:

    the patient's and the study's identity   as bytes, never decoded: what the PACS matches on arrives as it was sent
    dates, ages, enumerated values           if they are what the standard says they must be, else left out or empty
    private and all other attributes         left behind

highdicom sees only a header of our own making, which is always complete and always plain ASCII.
"""

import hashlib
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import BinaryIO

import pydicom
from pydicom.charset import convert_encodings, decode_bytes, encode_string
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag

from domain.errors import Refuse
from domain.study import Instance, Study
from reports.character_sets import DEFAULT_REPERTOIRE, DEFINED_TERMS
from reports.grayscale import READ_FOR_GRAYSCALE, Grayscale, read_grayscale
from reports.words import in_ascii, spelled_out

OpenFile = Callable[[str], BinaryIO]  # from an instance's path to its plain text

# Patient and General Study Modules, PS3.3 C.7.1.1 and C.7.2.1: type 2 in every result, empty where the source is.
IDENTITY = ("PatientName", "PatientID", "AccessionNumber", "StudyID", "ReferringPhysicianName")
# The same modules, type 3: written only where the source has them.
OPTIONAL_IDENTITY = ("IssuerOfPatientID", "StudyDescription")
DATES_AND_CODES = ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime")
# A time zone that the source does not give would move the study's own times, so it is never added (PS3.3 C.12.1).
OPTIONAL_DATES_AND_CODES = ("PatientAge", "PatientSize", "PatientWeight", "TimezoneOffsetFromUTC")

# What the values above must look like (PS3.5 6.2; Patient's Sex: PS3.3 C.7.1.1).
FORMS = {
    "DA": re.compile(r"\d{8}"),
    "TM": re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?"),
    "AS": re.compile(r"\d{3}[DWMY]"),
    "DS": re.compile(r"(?=.{1,16}$)\d+(\.\d+)?"),
    "PatientSex": re.compile(r"[MFO]"),
    "TimezoneOffsetFromUTC": re.compile(r"[+-](0\d|1[0-4])[0-5]\d"),
}
PATIENT_ORIENTATION = re.compile(r"[ARPLHFLETDVROSCBI]{1,3}")

ESCAPE = b"\x1b"  # opens the seven-bit character sets of ISO 2022

READ_TAGS = [
    *IDENTITY,
    *OPTIONAL_IDENTITY,
    *DATES_AND_CODES,
    *OPTIONAL_DATES_AND_CODES,
    "SpecificCharacterSet",
    "SOPInstanceUID",
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "ViewPosition",
    "PatientOrientation",
    "ImagerPixelSpacing",
    "Rows",
    "Columns",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "RequestAttributesSequence",
    *READ_FOR_GRAYSCALE,
]


@dataclass(frozen=True, kw_only=True, slots=True)
class CopiedElement:
    """An element that goes into a result as the bytes it came as."""

    keyword: str
    value: bytes

    def as_raw_element(self) -> RawDataElement:
        """The element in a form that pydicom writes without looking into it."""
        padded = self.value + b" " * (len(self.value) % 2)
        tag = Tag(self.keyword)
        return RawDataElement(tag, dictionary_VR(tag), len(padded), padded, 0, False, True)


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestedProcedure:
    """One item of the source's Request Attributes Sequence (0040,0275), decoded."""

    accession_number: str
    requested_procedure_id: str
    requested_procedure_description: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceInstance:
    """One instance of the study, as far as a result refers to it. Zero, empty or None: unknown."""

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    modality: str
    view_position: str
    rows: int
    columns: int
    patient_orientation: tuple[str, str] | None
    imager_pixel_spacing_mm: tuple[float, float] | None
    equipment: tuple[tuple[str, str], ...]
    lossy_compression: tuple[tuple[str, tuple[str, ...]], ...]
    grayscale: Grayscale | None = None

    @property
    def is_image(self) -> bool:
        return self.rows > 0 and self.columns > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceStudy:
    """What the results of one study have in common with it. `digest` changes with any of it."""

    study_instance_uid: str
    character_set: bytes
    copied: tuple[CopiedElement, ...]
    requested_procedures: tuple[RequestedProcedure, ...]
    instances: tuple[SourceInstance, ...]
    digest: bytes

    def instance(self, sop_instance_uid: str) -> SourceInstance:
        return next(instance for instance in self.instances if instance.sop_instance_uid == sop_instance_uid)

    def value_of(self, keyword: str) -> bytes:
        """The bytes copied for an attribute; empty if there are none."""
        return next((element.value for element in self.copied if element.keyword == keyword), b"")

    def writable(self, text: str) -> str:
        """Text of ours as this study's results can hold it: in the source's character set, else spelled in ASCII.

        The results have one Specific Character Set, and the patient's name already needs the source's.
        """
        printable = text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
        for spelled in (printable, spelled_out(printable)):  # a Japanese set has kanji and no umlaut
            if spelled.isascii() or _survives(spelled, self.character_set):
                return spelled
        return in_ascii(printable)


def open_plain_file(path: str) -> BinaryIO:
    """For files that lie on the disk as they are."""
    return open(path, "rb")


def read_source(study: Study, *, first: Sequence[str] = (), open_file: OpenFile = open_plain_file) -> SourceStudy:
    """Reads the headers of a study. Identity comes from the first readable one; `first` names those to try first.

    Raises:
        Refuse: no header, or not each of `first`, can be read; or nobody defines the identity's character set.
    """
    ordered = sorted(study.instances, key=lambda instance: instance.sop_instance_uid not in first)
    read = [(instance, header) for instance in ordered if (header := _header(open_file, instance)) is not None]
    if not read or not {instance.sop_instance_uid for instance, _ in read}.issuperset(first):
        raise Refuse(
            "the headers of the images that the results are about cannot be read as DICOM",
            reason="unreadable_source",
            hint="Look at the stored files with dcmdump; ask the sender to send the study again.",
        )
    identity = read[0][1]
    copied = tuple(_copied_elements(identity))
    character_set = _character_set(identity, copied)
    requested = tuple(_requested_procedures(identity))
    instances = tuple(_source_instance(instance, header) for instance, header in read)
    return SourceStudy(
        study_instance_uid=study.study_instance_uid,
        character_set=character_set,
        copied=copied,
        requested_procedures=requested,
        instances=instances,
        digest=hashlib.sha256(repr((character_set, copied, requested, instances)).encode()).digest(),
    )


def reference_header(source: SourceStudy, instance: SourceInstance) -> Dataset:
    """A header that stands for one source instance towards highdicom: complete, plain, and without identity.

    highdicom reads type 2 attributes without asking whether they are there; provenance.py puts the real ones in.
    """
    header = Dataset()
    header.SOPClassUID = instance.sop_class_uid
    header.SOPInstanceUID = instance.sop_instance_uid
    header.SeriesInstanceUID = instance.series_instance_uid
    header.StudyInstanceUID = source.study_instance_uid
    header.Modality = instance.modality
    for keyword in (*IDENTITY, *DATES_AND_CODES):
        setattr(header, keyword, "")
    if instance.is_image:
        header.Rows = instance.rows
        header.Columns = instance.columns
    for keyword, value in instance.equipment:
        setattr(header, keyword, value)
    return header


def _header(open_file: OpenFile, instance: Instance) -> Dataset | None:
    try:
        with open_file(instance.path) as file:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(READ_TAGS))
    except (InvalidDicomError, OSError, EOFError, ValueError, NotImplementedError):
        return None
    # pydicom reads a file that is cut off as far as it goes: a header of nothing would be that of nobody.
    return header if _text_of(header, "SOPInstanceUID") == instance.sop_instance_uid else None


def _copied_elements(header: Dataset) -> Iterator[CopiedElement]:
    for keyword in IDENTITY:
        yield CopiedElement(keyword=keyword, value=_bytes_of(header, keyword))
    for keyword in DATES_AND_CODES:
        yield CopiedElement(keyword=keyword, value=_in_form(header, keyword))
    for keyword in OPTIONAL_IDENTITY:
        if value := _bytes_of(header, keyword):
            yield CopiedElement(keyword=keyword, value=value)
    for keyword in OPTIONAL_DATES_AND_CODES:
        if value := _in_form(header, keyword):
            yield CopiedElement(keyword=keyword, value=value)


def _bytes_of(header: Dataset, keyword: str) -> bytes:
    """An element's value as it stands in the file; empty if it is absent."""
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in header:
        return b""
    element = header.get_item(tag)
    return (element.value or b"") if isinstance(element, RawDataElement) else b""


def _text_of(header: Dataset, keyword: str) -> str:
    """An element's value if it is plain ASCII, else empty: for what must not carry a character set along."""
    value = _bytes_of(header, keyword)
    return value.decode("ascii").strip(" \0") if _is_plain(value) else ""


def _in_form(header: Dataset, keyword: str) -> bytes:
    text = _text_of(header, keyword)
    vr = dictionary_VR(keyword)
    form = FORMS.get(keyword) or FORMS[vr]
    if not form.fullmatch(text) or (vr == "DA" and not _is_day_of_the_calendar(text)):
        return b""
    return text.encode("ascii")


def _is_day_of_the_calendar(text: str) -> bool:
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return False
    return True


def _is_plain(value: bytes) -> bool:
    return value.isascii() and ESCAPE not in value


def _character_set(header: Dataset, copied: Sequence[CopiedElement]) -> bytes:
    """Specific Character Set (0008,0005) as the source wrote it: the copied bytes mean nothing without it."""
    value = _character_set_bytes(header.get("SpecificCharacterSet"))
    terms = [term.decode("ascii", "replace").strip() for term in value.split(b"\\")]
    # The first of several may be empty and then stands for the default repertoire: normal in Japan (C.12.1.1.2).
    if all(term in DEFINED_TERMS for term in terms if term) and any(terms):
        return value
    if all(_is_plain(element.value) for element in copied) or not any(terms):
        return b""
    raise Refuse(
        "the patient's name or ID is written in a character set that DICOM does not define",
        reason="unknown_character_set",
        hint="Correct Specific Character Set (0008,0005) at the modality that made these images.",
    )


def _character_set_bytes(value: object) -> bytes:
    """The value of Specific Character Set, which pydicom decodes while it reads, as it stood in the file."""
    if value is None:
        return b""
    terms = [value] if isinstance(value, str) else list(value) if isinstance(value, Sequence) else []
    return "\\".join(str(term) for term in terms).encode("ascii", "replace")


def _survives(text: str, character_set: bytes) -> bool:
    terms = character_set.decode("ascii").split("\\")
    # pydicom would write these as Latin 1, which nobody is told of.
    if terms[0].strip() in DEFAULT_REPERTOIRE and any("\x80" <= character <= "\xff" for character in text):
        return False
    encodings = convert_encodings(terms)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return decode_bytes(encode_string(text, encodings), encodings, set()) == text
        except (UnicodeError, UserWarning, LookupError):
            return False


def _source_instance(instance: Instance, header: Dataset) -> SourceInstance:
    return SourceInstance(
        sop_instance_uid=instance.sop_instance_uid,
        sop_class_uid=instance.sop_class_uid,
        series_instance_uid=instance.series_instance_uid,
        modality=_text_of(header, "Modality"),
        view_position=_text_of(header, "ViewPosition"),
        rows=_size(header, "Rows"),
        columns=_size(header, "Columns"),
        patient_orientation=_patient_orientation(header),
        imager_pixel_spacing_mm=_imager_pixel_spacing_mm(header),
        equipment=tuple(_equipment(header)),
        lossy_compression=tuple(_lossy_compression(header)),
        grayscale=read_grayscale(header),
    )


def _size(header: Dataset, keyword: str) -> int:
    element = header.get_item(keyword) if keyword in header else None
    if not isinstance(element, RawDataElement) or element.value is None or len(element.value) != 2:
        return 0
    return int.from_bytes(element.value, "little" if element.is_little_endian else "big")


def _patient_orientation(header: Dataset) -> tuple[str, str] | None:
    values = [value.strip() for value in _text_of(header, "PatientOrientation").split("\\")]
    if len(values) != 2 or not all(PATIENT_ORIENTATION.fullmatch(value) for value in values):
        return None
    return values[0], values[1]


def _imager_pixel_spacing_mm(header: Dataset) -> tuple[float, float] | None:
    """(between rows, between columns) at the detector, Imager Pixel Spacing (0018,1164)."""
    values = [value.strip() for value in _text_of(header, "ImagerPixelSpacing").split("\\")]
    if len(values) != 2 or not all(FORMS["DS"].fullmatch(value) and float(value) > 0 for value in values):
        return None
    return float(values[0]), float(values[1])


def _equipment(header: Dataset) -> Iterator[tuple[str, str]]:
    """The scanner, for Contributing Equipment Sequence (0018,A001); only what is plain and not over-long."""
    for keyword in ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"):
        text = _text_of(header, keyword)
        if 0 < len(text) <= 64 and "\\" not in text and text.isprintable():
            yield keyword, text


def _lossy_compression(header: Dataset) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What a derived image has to repeat once its source was compressed with loss (PS3.3 C.7.6.1.1.5)."""
    if _text_of(header, "LossyImageCompression") != "01":
        return
    yield "LossyImageCompression", ("01",)
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        values = tuple(value.strip() for value in _text_of(header, keyword).split("\\"))
        if all(values):
            yield keyword, values


def _requested_procedures(header: Dataset) -> Iterator[RequestedProcedure]:
    try:
        items = list(header.get("RequestAttributesSequence") or ())
    except Exception:  # pydicom raises many kinds of error on a broken sequence, and the results can do without it
        return
    for item in items:
        yield RequestedProcedure(
            accession_number=str(item.get("AccessionNumber", "") or ""),
            requested_procedure_id=str(item.get("RequestedProcedureID", "") or ""),
            requested_procedure_description=str(item.get("RequestedProcedureDescription", "") or ""),
        )
