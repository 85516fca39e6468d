"""Synthetic chests by formula, 12 bits stored in 16, with noise enough that lossless coding gains what it gains on real
ones (2.7 to 1). Every second one is MONOCHROME1.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

from benchmarks.ingest.receivers import ENVIRONMENT

ROWS, COLUMNS = 3000, 2500
WHITE = 4095


@dataclass(frozen=True, kw_only=True, slots=True)
class Syntax:
    """title: what people call it. dcmtk: the program that makes it of an uncompressed file, with its options."""

    title: str
    dcmtk: tuple[str, ...] = ()


SYNTAXES = {
    "raw": Syntax(title="uncompressed"),
    "rle": Syntax(title="RLE", dcmtk=("dcmcrle",)),
    "jpeg_lossless": Syntax(title="JPEG Lossless", dcmtk=("dcmcjpeg", "+e1")),
    "jpeg_ls": Syntax(title="JPEG-LS", dcmtk=("dcmcjpls",)),
    "jpeg_2000": Syntax(title="JPEG 2000"),
}


def make(folder: Path, *, number: int, rows: int = ROWS, columns: int = COLUMNS) -> dict[str, Path]:
    """One image in every syntax: where each lies."""
    image = radiograph(number, rows=rows, columns=columns)
    paths = {name: folder / f"{name}_{number}.dcm" for name in SYNTAXES}
    image.save_as(paths["raw"], enforce_file_format=True)
    for name, syntax in SYNTAXES.items():
        if syntax.dcmtk:
            subprocess.run([*syntax.dcmtk, str(paths["raw"]), str(paths[name])], check=True, env=ENVIRONMENT)
    pixels = np.frombuffer(image.PixelData, "<u2").reshape(rows, columns)
    encoded = imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="J2K", bitspersample=12)
    image.file_meta.TransferSyntaxUID = JPEG2000Lossless
    image.PixelData = encapsulate([bytes(encoded)])
    image["PixelData"].VR = "OB"
    image.save_as(paths["jpeg_2000"], enforce_file_format=True)
    return paths


def radiograph(number: int, *, rows: int = ROWS, columns: int = COLUMNS) -> Dataset:
    """A study of its own: the chest of an adult, PA."""
    pixels = chest(number, rows, columns)
    is_inverted = bool(number % 2)
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.StudyDate, image.StudyTime = "20260101", "120000"
    image.PatientName, image.PatientID, image.PatientAge = "Synthetic^Chest", f"S{number}", "056Y"
    image.PatientBirthDate = image.PatientSex = image.AccessionNumber = image.StudyID = ""
    image.ReferringPhysicianName = ""
    image.Modality, image.BodyPartExamined, image.ViewPosition = "DX", "CHEST", "PA"
    image.PatientOrientation = ["L", "F"]
    image.SeriesNumber = image.InstanceNumber = 1
    image.ImagerPixelSpacing = [0.14, 0.14]
    image.Rows, image.Columns, image.SamplesPerPixel = rows, columns, 1
    image.PhotometricInterpretation = "MONOCHROME1" if is_inverted else "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.RescaleIntercept, image.RescaleSlope = "0", "1"
    image.WindowCenter, image.WindowWidth = "2047", "4096"
    image.PixelData = (WHITE - pixels if is_inverted else pixels).tobytes()
    image["PixelData"].VR = "OW"
    return image


def chest(seed: int, rows: int, columns: int) -> NDArray[np.uint16]:
    """Trunk, lungs, heart, spine and ribs, scatter and quantum noise."""
    chance = np.random.default_rng(seed)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    y, x = y / rows, x / columns
    body = np.exp(-(((x - 0.5) / 0.42) ** 4 + ((y - 0.55) / 0.6) ** 4))
    image = 600 + 2600 * body
    for middle in (0.3, 0.7):
        image -= 1500 * np.exp(-(((x - middle) / 0.14) ** 4 + ((y - 0.45) / 0.28) ** 4))
    image += 900 * np.exp(-(((x - 0.56) / 0.13) ** 2 + ((y - 0.6) / 0.14) ** 2))
    image += 700 * np.exp(-(((x - 0.5) / 0.045) ** 2)) * body
    for rib in range(11):
        image += 180 * np.exp(-(((y - 0.15 - 0.065 * rib - 0.3 * (x - 0.5) ** 2) / 0.009) ** 2)) * body
    coarse = chance.normal(scale=12, size=(-(-rows // 4), -(-columns // 4)))
    image += np.kron(coarse, np.ones((4, 4)))[:rows, :columns] + chance.normal(scale=8, size=image.shape)
    return np.asarray(np.clip(image, 0, WHITE), np.uint16)
