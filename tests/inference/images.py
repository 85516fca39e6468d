"""DICOM files with known pixels, and the instances that stand for them."""

from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from domain.study import Instance, InstanceFacts
from tests.factories.sources import radiograph

ADULT_PA = InstanceFacts(modality="DX", view_position="PA", patient_age_years=56.0, has_pixels=True)


def write_image(path: Path, **values: object) -> Path:
    """The plain radiograph, 64 rows and 56 columns of 12 bits from 0 up, with other values; None takes one away."""
    dataset = radiograph(1)
    for keyword, value in values.items():
        dataset.pop(keyword, None)
        if value is not None:
            setattr(dataset, keyword, value)
    return write(dataset, path)


def write(dataset: Dataset, path: Path) -> Path:
    with pydicom.config.disable_value_validation():
        dataset.save_as(path, enforce_file_format=True)
    return path


def instance(path: Path, facts: InstanceFacts = ADULT_PA, *, sop_instance_uid: str = "2.25.1") -> Instance:
    return Instance(
        sop_instance_uid=sop_instance_uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
        series_instance_uid="2.25.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        path=str(path),
        facts=facts,
    )


def frame_0(path: Path | str) -> NDArray[np.int64]:
    """The first frame of an uncompressed one-channel file, read with numpy alone."""
    dataset = pydicom.dcmread(path)
    sample = f"<{'i' if dataset.PixelRepresentation else 'u'}{dataset.BitsAllocated // 8}"
    values = np.frombuffer(dataset.PixelData, sample, dataset.Rows * dataset.Columns)
    return values.reshape(dataset.Rows, dataset.Columns).astype(np.int64)
