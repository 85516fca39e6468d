"""TID 1600 Image Library: which images the report is about, and how each lies.

highdicom builds one too, but asks every radiograph for its Patient Orientation and Imager Pixel Spacing, which many
do not have. Here a descriptor that is not known is left out (all of TID 1602 and 1603 that we write is optional).
"""

from collections.abc import Iterator, Sequence
from typing import Any

from highdicom.sr.value_types import ContentSequence, ImageContentItem, NumContentItem
from pydicom.uid import UID

from domain.findings import Code
from reports.codes import (
    HORIZONTAL_PIXEL_SPACING,
    IMAGE_LIBRARY,
    IMAGE_LIBRARY_GROUP,
    MILLIMETER,
    MODALITIES,
    MODALITY,
    PATIENT_ORIENTATION_COLUMN,
    PATIENT_ORIENTATION_ROW,
    PIXEL_DATA_COLUMNS,
    PIXEL_DATA_ROWS,
    PIXELS,
    SOURCE,
    VERTICAL_PIXEL_SPACING,
)
from reports.provenance import as_code
from reports.source import SourceInstance
from reports.sr.content import CONTAINS, Item, code, container, text

HAS_ACQUISITION_CONTEXT = "HAS ACQ CONTEXT"


def image_library(images: Sequence[SourceInstance]) -> Item:
    return container(IMAGE_LIBRARY, [container(IMAGE_LIBRARY_GROUP, [_entry(image) for image in images])])


def _entry(image: SourceInstance) -> Item:
    uids = (UID(image.sop_class_uid), UID(image.sop_instance_uid))
    return Item(_image, (), uids, (tuple(_descriptors(image)),))


def _descriptors(image: SourceInstance) -> Iterator[Item]:
    if image.modality in MODALITIES:
        yield code(MODALITY, MODALITIES[image.modality], HAS_ACQUISITION_CONTEXT)
    yield _number(PIXEL_DATA_ROWS, image.rows, PIXELS)
    yield _number(PIXEL_DATA_COLUMNS, image.columns, PIXELS)
    if image.patient_orientation is not None:
        yield text(PATIENT_ORIENTATION_ROW, image.patient_orientation[0], HAS_ACQUISITION_CONTEXT)
        yield text(PATIENT_ORIENTATION_COLUMN, image.patient_orientation[1], HAS_ACQUISITION_CONTEXT)
    if image.imager_pixel_spacing_mm is not None:
        between_rows, between_columns = image.imager_pixel_spacing_mm
        yield _number(HORIZONTAL_PIXEL_SPACING, between_columns, MILLIMETER)
        yield _number(VERTICAL_PIXEL_SPACING, between_rows, MILLIMETER)


def _number(name: Code, value: float, unit: Code) -> Item:
    return Item(_num, (name, unit), (value,))


def _num(name: Code, unit: Code, value: float) -> NumContentItem:
    return NumContentItem(
        name=as_code(name), value=value, unit=as_code(unit), relationship_type=HAS_ACQUISITION_CONTEXT
    )


def _image(sop_class_uid: UID, sop_instance_uid: UID, descriptors: list[Any]) -> ImageContentItem:
    entry = ImageContentItem(
        name=as_code(SOURCE),
        referenced_sop_class_uid=sop_class_uid,
        referenced_sop_instance_uid=sop_instance_uid,
        relationship_type=CONTAINS,
    )
    entry.ContentSequence = ContentSequence(descriptors)
    return entry
