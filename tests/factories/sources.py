"""Radiographs by number: small DX and CR data sets made by code, each hard for a writer of results in its own way.

case(3)             the data sets of source case 3
stored_study(...)   the same, written to a folder, as the study that the node would make of them
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
from pydicom.charset import convert_encodings
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import PersonName

from domain.study import Instance, InstanceFacts, Study

DX = "1.2.840.10008.5.1.4.1.1.1.1"
CR = "1.2.840.10008.5.1.4.1.1.1"
ROOT = "2.25.4711"
COMPLETED_AT = datetime(2026, 11, 20, 10, 20, 30)


@dataclass(frozen=True)
class SourceCase:
    """A source and what must come out of it. `patient_name` is Patient's Name (0010,0010) as bytes, without padding."""

    number: int
    name: str
    patient_name: bytes
    make: Callable[[], list[Dataset]]


def radiograph(number: int, *, view: str = "PA", series: int = 1, sop_class_uid: str = DX) -> Dataset:
    """A complete, well-behaved DX or CR image, 64 rows by 56 columns, of patient and study `number`."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    _patient_and_study(dataset, number)
    dataset.SOPClassUID = sop_class_uid
    dataset.SeriesInstanceUID = f"{ROOT}.{number}.{series}"
    dataset.SOPInstanceUID = f"{ROOT}.{number}.{series}.1"
    dataset.Modality = "DX" if sop_class_uid == DX else "CR"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.Manufacturer = "ACME XRAY"
    dataset.ManufacturerModelName = "X1"
    dataset.InstitutionName = "Test Hospital"
    dataset.SeriesNumber = series
    dataset.InstanceNumber = 1
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = view
    dataset.PatientOrientation = ["L", "F"] if view == "PA" else ["P", "F"]
    dataset.ImagerPixelSpacing = [0.4, 0.4]
    _pixels(dataset)
    return dataset


def _patient_and_study(dataset: Dataset, number: int) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.StudyInstanceUID = f"{ROOT}.{number}"
    dataset.StudyDate = "20261120"
    dataset.StudyTime = "101500"
    dataset.AccessionNumber = f"ACC{number:05d}"
    dataset.ReferringPhysicianName = "REF^DOC"
    dataset.StudyDescription = "Chest PA"
    dataset.StudyID = f"S{number}"
    dataset.PatientName = "DOE^JANE"
    dataset.PatientID = f"PID{number:04d}"
    dataset.IssuerOfPatientID = "HOSP"
    dataset.PatientBirthDate = "19700101"
    dataset.PatientSex = "F"
    dataset.PatientAge = "056Y"


def _pixels(dataset: Dataset) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = 64, 56
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = np.arange(64 * 56, dtype=np.uint16).tobytes()


def _without(number: int, *keywords: str) -> list[Dataset]:
    dataset = radiograph(number)
    for keyword in keywords:
        delattr(dataset, keyword)
    return [dataset]


def _with(number: int, **values: object) -> list[Dataset]:
    dataset = radiograph(number)
    with pydicom.config.disable_value_validation():
        for keyword, value in values.items():
            # An element that is there already would go on validating what it is given.
            dataset.pop(keyword, None)
            setattr(dataset, keyword, value)
    return [dataset]


def _named(number: int, character_sets: list[str], name: bytes) -> list[Dataset]:
    """Patient's Name in these bytes, whatever they are in these character sets; empty: none is named."""
    encodings = convert_encodings(character_sets) if character_sets else ["iso8859"]
    datasets = _with(number, SpecificCharacterSet=character_sets, PatientName=PersonName(name, encodings))
    if not character_sets:
        del datasets[0].SpecificCharacterSet
    return datasets


def _in(number: int, transfer_syntax_uid: UID) -> list[Dataset]:
    dataset = radiograph(number)
    dataset.file_meta.TransferSyntaxUID = transfer_syntax_uid
    if transfer_syntax_uid == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, np.uint16).byteswap().tobytes()
    return [dataset]


def _with_frames(number: int) -> list[Dataset]:
    dataset = radiograph(number)
    dataset.NumberOfFrames = 3
    dataset.PixelData *= 3
    return [dataset]


def _signed(number: int) -> list[Dataset]:
    dataset = radiograph(number)
    dataset.PixelRepresentation = 1
    dataset.BitsStored, dataset.HighBit = 16, 15
    dataset.PixelData = np.arange(-1792, 1792, dtype=np.int16).tobytes()
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, -1024, "US"
    return [dataset]


def _padded(number: int) -> list[Dataset]:
    dataset = radiograph(number)
    pixels = np.arange(64 * 56, dtype=np.uint16).reshape(64, 56)
    pixels[:, :8] = 4095
    dataset.PixelData = pixels.tobytes()
    dataset.add_new("PixelPaddingValue", "US", 4095)
    dataset.add_new("PixelPaddingRangeLimit", "US", 4090)
    return [dataset]


def _with_a_lookup_table(number: int, keyword: str) -> list[Dataset]:
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4096, 0, 16])
    table.add_new("LUTData", "OW", np.linspace(65535, 0, 4096).astype(np.uint16).tobytes())
    if keyword == "ModalityLUTSequence":
        table.ModalityLUTType = "US"
    return _with(number, **{keyword: ItemSequence([table])})


def _colour(number: int) -> list[Dataset]:
    dataset = radiograph(number)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = (np.arange(64 * 56 * 3) % 251).astype(np.uint8).tobytes()
    return [dataset]


def _lossy(number: int) -> list[Dataset]:
    return _with(
        number,
        LossyImageCompression="01",
        LossyImageCompressionRatio=["10.5", "3.2"],
        LossyImageCompressionMethod=["ISO_10918_1", "ISO_15444_1"],
    )


def _with_orders(number: int, *orders: dict[str, str]) -> list[Dataset]:
    items = []
    for order in orders:
        item = Dataset()
        for keyword, value in order.items():
            setattr(item, keyword, value)
        items.append(item)
    return _with(number, RequestAttributesSequence=ItemSequence(items))


def _empty(number: int) -> list[Dataset]:
    """Every type 2 attribute of patient and study is there, and says nothing."""
    keywords = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID")
    return _with(number, **dict.fromkeys((*keywords, "AccessionNumber", "ReferringPhysicianName"), ""))


def _with_private_tags(number: int) -> list[Dataset]:
    dataset = radiograph(number)
    block = dataset.private_block(0x0019, "ACME PRIVATE", create=True)
    block.add_new(0x10, "LO", "secret")
    block.add_new(0x11, "OB", b"\1\2\3\4")
    return [dataset]


def _inverted_and_not_square(number: int) -> list[Dataset]:
    dataset = radiograph(number, sop_class_uid=CR)
    dataset.PhotometricInterpretation = "MONOCHROME1"
    dataset.ImagerPixelSpacing = [0.2, 0.4]
    del dataset.PresentationIntentType
    return [dataset]


def _two_views(number: int) -> list[Dataset]:
    return [radiograph(number), radiograph(number, view="LL", series=2)]


def _with_an_order(number: int) -> list[Dataset]:
    order = Dataset()
    order.AccessionNumber = "ORDER-7"
    order.RequestedProcedureID = "RP7"
    order.RequestedProcedureDescription = "Thorax p.a."
    return _with(number, RequestAttributesSequence=ItemSequence([order]))


def _rg1() -> list[Dataset]:
    path = get_testdata_file("RG1_UNCR.dcm")
    if not isinstance(path, str):
        raise FileNotFoundError("pydicom-data does not hold RG1_UNCR.dcm")
    return [pydicom.dcmread(path)]


PLAIN_CASES = (
    SourceCase(1, "plain", b"DOE^JANE", lambda: [radiograph(1)]),
    SourceCase(2, "no accession number", b"DOE^JANE", lambda: _without(2, "AccessionNumber")),
    SourceCase(
        3,
        "Japanese name, first character set empty",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        lambda: _with(
            3, SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう"
        ),
    ),
    SourceCase(
        4,
        "Cyrillic name",
        b"\xb8\xd2\xd0\xdd\xde\xd2^\xb8\xd2\xd0\xdd",
        lambda: _with(4, SpecificCharacterSet="ISO_IR 144", PatientName="Иванов^Иван"),
    ),
    SourceCase(
        5,
        "Chinese name in GB18030",
        b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab",
        lambda: _with(5, SpecificCharacterSet="GB18030", PatientName="Wang^XiaoDong=王^小东"),
    ),
    SourceCase(
        6,
        "UTF-8 name and a time zone",
        b"M\xc3\xbcller^J\xc3\xbcrgen",
        lambda: _with(6, SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Jürgen", TimezoneOffsetFromUTC="+0200"),
    ),
    SourceCase(7, "no study ID", b"DOE^JANE", lambda: _without(7, "StudyID")),
    SourceCase(8, "a UID of odd length", b"DOE^JANE", lambda: _with(8, StudyInstanceUID="1.2.392.200036.9125.2.15")),
    SourceCase(9, "private tags", b"DOE^JANE", lambda: _with_private_tags(9)),
    SourceCase(10, "MONOCHROME1, pixels not square", b"DOE^JANE", lambda: _inverted_and_not_square(10)),
    SourceCase(
        11,
        "hardly anything filled in",
        b"",
        lambda: _without(
            11,
            "PatientName",
            "PatientBirthDate",
            "PatientSex",
            "StudyTime",
            "ReferringPhysicianName",
            "StudyID",
            "AccessionNumber",
            "PatientOrientation",
            "ImagerPixelSpacing",
            "SpecificCharacterSet",
            "Manufacturer",
        ),
    ),
    SourceCase(12, "sex U", b"DOE^JANE", lambda: _with(12, PatientSex="U", PatientBirthDate="", StudyTime="")),
    SourceCase(13, "PA and lateral", b"DOE^JANE", lambda: _two_views(13)),
    SourceCase(14, "no patient ID", b"DOE^JANE", lambda: _without(14, "PatientID")),
    SourceCase(
        15,
        "hostile text",
        b"<script>alert(1)</script>^\"'&",
        lambda: _with(
            15,
            PatientName="<script>alert(1)</script>^\"'&",
            StudyDescription="</title><img src=x onerror=alert(2)>",
            SeriesDescription="'; DROP TABLE studies; --",
        ),
    ),
    SourceCase(16, "an order", b"DOE^JANE", lambda: _with_an_order(16)),
    SourceCase(
        17,
        "dates and times in forms of their own",
        b"DOE^JANE",
        lambda: _with(17, PatientBirthDate="1970.01.01", StudyDate="20261341", StudyTime="10:15:00", PatientAge="56"),
    ),
    SourceCase(18, "orientation and spacing empty", b"DOE^JANE", lambda: _with(18, PatientOrientation="")),
    SourceCase(19, "a real film, CR", b"CompressedSamples^RG1", _rg1),
)


def _in_script(number: int, name: str, character_sets: str, patient_name: bytes) -> SourceCase:
    """Names as PS3.5 Annexes H to K write them, or as people have them."""
    terms = character_sets.split("\\") if character_sets else []
    return SourceCase(number, name, patient_name, lambda: _named(number, terms, patient_name))


def _of_jane(number: int, name: str, make: Callable[[int], list[Dataset]]) -> SourceCase:
    return SourceCase(number, name, b"DOE^JANE", lambda: make(number))


IN_OTHER_SCRIPTS = (
    _in_script(20, "Latin 1", "ISO_IR 100", b"\xc4neas^R\xfcdiger"),
    _in_script(21, "Latin 2", "ISO_IR 101", b"Wa\xb3\xeasa^\xa3ukasz"),
    _in_script(22, "Greek", "ISO_IR 126", b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2"),
    _in_script(23, "Arabic", "ISO_IR 127", b"\xe2\xc8\xc7\xe6\xea^\xe4\xe6\xd2\xc7\xd1"),
    _in_script(24, "Hebrew", "ISO_IR 138", b"\xf9\xf8\xe5\xef^\xe3\xe1\xe5\xf8\xe4"),
    _in_script(25, "Turkish", "ISO_IR 148", b"\xc7avu\xfeo\xf0lu^G\xfcl"),
    _in_script(26, "Thai", "ISO_IR 166", b"\xca\xc1\xaa\xd2\xc2"),
    _in_script(
        27,
        "Japanese with katakana of half width",
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
    ),
    _in_script(
        28,
        "Korean",
        "\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
    ),
    _in_script(
        29,
        "Chinese in ISO 2022",
        "\\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab",
    ),
    _in_script(30, "Chinese in GBK", "GBK", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab"),
    _in_script(31, "letters of Latin 1 without a word about it", "", b"M\xfcller^J\xfcrgen"),
    _in_script(32, "a character set that nobody defines, and does not need", "ISO_IR 999", b"DOE^JANE"),
    _in_script(33, "a name of every component, with empty ones", "ISO_IR 100", b"DOE^JANE^ANN^^PHD^"),
    _in_script(34, "a name that is too long", "ISO_IR 100", b"VON^" + b"X" * 90),
)
IDENTITIES = (
    SourceCase(35, "all of type 2 there and empty", b"", lambda: _empty(35)),
    _of_jane(36, "no birth date, no sex", lambda number: _without(number, "PatientBirthDate", "PatientSex")),
    _of_jane(37, "sex in small letters", lambda number: _with(number, PatientSex="f")),
    _of_jane(38, "no date and no time", lambda number: _without(number, "StudyDate", "StudyTime")),
    _of_jane(39, "a day that no calendar has", lambda number: _with(number, PatientBirthDate="19700230")),
    _of_jane(
        40,
        "a range of dates, a time of one digit",
        lambda number: _with(number, StudyDate="20261101-20261130", StudyTime="9"),
    ),
    _of_jane(41, "a patient ID that is too long", lambda number: _with(number, PatientID="P" * 100)),
    _of_jane(42, "a patient ID with blanks about it", lambda number: _with(number, PatientID="  007 ")),
    _of_jane(43, "an accession number that is too long", lambda number: _with(number, AccessionNumber="A-" + "9" * 19)),
    _of_jane(44, "a UID of 64 characters", lambda number: _with(number, StudyInstanceUID="1.2." + "3" * 60)),
    _of_jane(45, "a time zone that is none", lambda number: _with(number, TimezoneOffsetFromUTC="+2")),
    _of_jane(46, "a request that says nothing", lambda number: _with_orders(number, {})),
    _of_jane(
        47,
        "two requests",
        lambda number: _with_orders(
            number, {"RequestedProcedureID": "RP1"}, {"RequestedProcedureID": "RP2", "AccessionNumber": "ORDER-2"}
        ),
    ),
)
IMAGES = (
    _of_jane(48, "Implicit VR", lambda number: _in(number, ImplicitVRLittleEndian)),
    _of_jane(49, "big endian", lambda number: _in(number, ExplicitVRBigEndian)),
    _of_jane(50, "deflated", lambda number: _in(number, DeflatedExplicitVRLittleEndian)),
    _of_jane(51, "three frames", _with_frames),
    _of_jane(52, "signed pixels", _signed),
    _of_jane(53, "padding values", _padded),
    _of_jane(54, "a modality lookup table", lambda number: _with_a_lookup_table(number, "ModalityLUTSequence")),
    _of_jane(55, "a VOI lookup table", lambda number: _with_a_lookup_table(number, "VOILUTSequence")),
    _of_jane(56, "colour", _colour),
    _of_jane(57, "compressed with loss, twice", _lossy),
    _of_jane(58, "lying on its side", lambda number: _with(number, PatientOrientation=["F", "R"])),
    _of_jane(59, "an orientation in words", lambda number: _with(number, PatientOrientation=["LEFT", "FEET"])),
    _of_jane(
        60,
        "pixels twice as high as wide, of no known size",
        lambda number: _with(number, PixelAspectRatio=["2", "1"], ImagerPixelSpacing=None),
    ),
    _of_jane(61, "a spacing of zero", lambda number: _with(number, ImagerPixelSpacing=["0", "0"])),
    _of_jane(62, "no modality and no view", lambda number: _with(number, Modality="", ViewPosition="")),
    _of_jane(63, "two windows", lambda number: _with(number, WindowCenter=["2048", "9"], WindowWidth=["4096", "3"])),
)
CASES = (*PLAIN_CASES, *IN_OTHER_SCRIPTS, *IDENTITIES, *IMAGES)


def case(number: int) -> SourceCase:
    return next(case for case in CASES if case.number == number)


def stored_study(datasets: Sequence[Dataset], folder: Path, *, generation: int = 1) -> Study:
    """Writes the data sets to files and gives the study as the node knows it."""
    return Study(
        clinic="st-mary",
        study_instance_uid=str(datasets[0].StudyInstanceUID),
        generation=generation,
        calling_ae_title="MODALITY1",
        completed_at=COMPLETED_AT,
        completion_reason="association released",
        instances=tuple(_stored(dataset, folder / f"{number}.dcm") for number, dataset in enumerate(datasets)),
    )


def _stored(dataset: Dataset, path: Path) -> Instance:
    with pydicom.config.disable_value_validation():
        dataset.save_as(path, enforce_file_format=True)
    return Instance(
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
        path=str(path),
        facts=InstanceFacts(modality=str(dataset.Modality), has_pixels=True),
    )
