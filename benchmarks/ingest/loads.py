"""What is sent: images of noise with the header that a modality writes, made anew for each run."""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    MRImageStorage,
    XRayAngiographicImageStorage,
)

from benchmarks.ingest.wire import Item

LENGTH_AT = 140  # behind the preamble, "DICM" and the head of File Meta Information Group Length (0002,0000)


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """`instances` for the quick receivers, so that a cell takes seconds; `quick_*` for a run that only shows it works:
    as many as cost the quickest receiver several of the ticks in which CPU time is counted.

    most_associations: that it can be divided among.
    """

    name: str
    title: str
    sop_classes: tuple[tuple[UID, str, str], ...]
    rows: int
    columns: int
    instances: int
    quick_instances: int
    frames: int = 1
    quick_frames: int = 1
    is_one_series: bool = True
    most_associations: int = 64


LOADS = {
    load.name: load
    for load in (
        Load(
            name="W1",
            title="8 MB CR and DX, one instance a study",
            sop_classes=(
                (DigitalXRayImageStorageForPresentation, "DX", "CHEST"),
                (ComputedRadiographyImageStorage, "CR", "HAND"),
            ),
            rows=2048,
            columns=2048,
            instances=120,
            quick_instances=12,
            is_one_series=False,
        ),
        Load(
            name="W2",
            title="512 KB CT, one series",
            sop_classes=((CTImageStorage, "CT", "SPINE"),),
            rows=512,
            columns=512,
            instances=1200,
            quick_instances=48,
        ),
        Load(
            name="W3",
            title="64 KB MR, one series",
            sop_classes=((MRImageStorage, "MR", "KNEE"),),
            rows=182,
            columns=180,
            instances=2400,
            quick_instances=480,
        ),
        Load(
            name="W4",
            title="1 GB XA, one instance of 512 frames",
            sop_classes=((XRayAngiographicImageStorage, "XA", "HEART"),),
            rows=1024,
            columns=1024,
            instances=1,
            quick_instances=1,
            frames=512,
            quick_frames=32,
            most_associations=1,
        ),
    )
}


def make_items(load: Load, folder: Path, *, is_quick: bool) -> tuple[Item, ...]:
    """Write the load's files into `folder`, and wait until the disk has them: their way there disturbs no cell."""
    folder.mkdir()
    count = load.quick_instances if is_quick else load.instances
    frames = load.quick_frames if is_quick else load.frames
    frame = np.random.default_rng(0).integers(0, 1 << 12, load.rows * load.columns, dtype=np.uint16).tobytes()
    items = tuple(_write(load, number, frames, frame, folder) for number in range(count))
    os.sync()
    return items


def _write(load: Load, number: int, frames: int, frame: bytes, folder: Path) -> Item:
    dataset = _header(load, number, frames)
    head = io.BytesIO()
    dataset.save_as(head, enforce_file_format=True)
    path = folder / f"{number:05}.dcm"
    with open(path, "wb") as file:
        file.write(head.getvalue())
        file.write(_pixel_data_header(frames * len(frame)))
        for _ in range(frames):
            file.write(frame)
    return Item(
        path=str(path),
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
        transfer_syntax_uid=dataset.file_meta.TransferSyntaxUID,
        data_set_at=_data_set_at(head.getvalue()),
        size_bytes=path.stat().st_size,
    )


def _data_set_at(content: bytes) -> int:
    """PS3.10 7.1: the group length counts from behind itself to the end of the File Meta Information."""
    return LENGTH_AT + 4 + int.from_bytes(content[LENGTH_AT : LENGTH_AT + 4], "little")


def _pixel_data_header(length: int) -> bytes:
    """Pixel Data (7FE0,0010) in Explicit VR Little Endian."""
    return b"\xe0\x7f\x10\x00OW\x00\x00" + length.to_bytes(4, "little")


def _header(load: Load, number: int, frames: int) -> Dataset:
    sop_class_uid, modality, body_part = load.sop_classes[number % len(load.sop_classes)]
    study = number if not load.is_one_series else 0
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = UID(f"{_root(load)}.{study}.1.{number}")
    dataset.StudyInstanceUID = UID(f"{_root(load)}.{study}")
    dataset.SeriesInstanceUID = UID(f"{_root(load)}.{study}.1")
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20260102"
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "101112"
    dataset.AccessionNumber = f"A{study}"
    dataset.Modality = modality
    dataset.Manufacturer = "Collimator"
    dataset.ManufacturerModelName = "Benchmark"
    dataset.InstitutionName = "Benchmark"
    dataset.StationName = "BENCH1"
    dataset.DeviceSerialNumber = "1"
    dataset.SoftwareVersions = "1"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = f"{body_part} benchmark"
    dataset.SeriesDescription = f"{modality} {body_part}"
    dataset.ProtocolName = "Benchmark"
    dataset.PatientName = "Bench^Mark"
    dataset.PatientID = f"B{study}"
    dataset.PatientBirthDate = "19700101"
    dataset.PatientSex = "O"
    dataset.PatientAge = "056Y"
    dataset.BodyPartExamined = body_part
    dataset.KVP = "80"
    dataset.StudyID = str(study)
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = number + 1
    dataset.PatientOrientation = ["L", "F"]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = load.rows, load.columns
    dataset.PixelSpacing = ["0.15", "0.15"]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.WindowCenter, dataset.WindowWidth = "2048", "4096"
    if frames > 1:
        dataset.NumberOfFrames = frames
    return dataset


def _root(load: Load) -> str:
    return f"2.25.31415926535897932384626433832795028{list(LOADS).index(load.name)}"


def shares(items: tuple[Item, ...], count: int) -> Iterator[tuple[Item, ...]]:
    """The items by turns among `count` associations."""
    return (items[number::count] for number in range(count))
