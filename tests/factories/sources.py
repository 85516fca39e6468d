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
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as ItemSequence
from pydicom.uid import ExplicitVRLittleEndian

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


CASES = (
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
