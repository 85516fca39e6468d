"""TID 1600 Image Library: which images the report is about, and how each lies.

highdicom builds one too, but asks every radiograph for its Patient Orientation and Imager Pixel Spacing, which many
do not have. Here a descriptor that is not known is left out (all of TID 1602 and 1603 that we write is optional).
"""

from collections.abc import Iterator, Sequence

from highdicom.sr.value_types import (
    CodeContentItem,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    ImageContentItem,
    NumContentItem,
    TextContentItem,
)

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
from reports.document import container
from reports.provenance import as_code
from reports.source import SourceInstance

HAS_ACQUISITION_CONTEXT = "HAS ACQ CONTEXT"


def image_library(images: Sequence[SourceInstance]) -> ContainerContentItem:
    group = container(IMAGE_LIBRARY_GROUP, [_entry(image) for image in images])
    return container(IMAGE_LIBRARY, [group])


def _entry(image: SourceInstance) -> ImageContentItem:
    entry = ImageContentItem(
        name=as_code(SOURCE),
        referenced_sop_class_uid=image.sop_class_uid,
        referenced_sop_instance_uid=image.sop_instance_uid,
        relationship_type="CONTAINS",
    )
    entry.ContentSequence = ContentSequence(list(_descriptors(image)))
    return entry


def _descriptors(image: SourceInstance) -> Iterator[ContentItem]:
    if image.modality in MODALITIES:
        yield CodeContentItem(
            name=as_code(MODALITY),
            value=as_code(MODALITIES[image.modality]),
            relationship_type=HAS_ACQUISITION_CONTEXT,
        )
    yield _number(PIXEL_DATA_ROWS, image.rows, PIXELS)
    yield _number(PIXEL_DATA_COLUMNS, image.columns, PIXELS)
    if image.patient_orientation is not None:
        yield _text(PATIENT_ORIENTATION_ROW, image.patient_orientation[0])
        yield _text(PATIENT_ORIENTATION_COLUMN, image.patient_orientation[1])
    if image.imager_pixel_spacing_mm is not None:
        between_rows, between_columns = image.imager_pixel_spacing_mm
        yield _number(HORIZONTAL_PIXEL_SPACING, between_columns, MILLIMETER)
        yield _number(VERTICAL_PIXEL_SPACING, between_rows, MILLIMETER)


def _number(name: Code, value: float, unit: Code) -> NumContentItem:
    return NumContentItem(
        name=as_code(name), value=value, unit=as_code(unit), relationship_type=HAS_ACQUISITION_CONTEXT
    )


def _text(name: Code, value: str) -> TextContentItem:
    return TextContentItem(name=as_code(name), value=value, relationship_type=HAS_ACQUISITION_CONTEXT)
