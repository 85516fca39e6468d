"""The places as pixels: a Segmentation (1.2.840.10008.5.1.4.1.1.66.4), binary, for each image that has any.

A segment for each finding, in the rows and columns of the source image. It says where the model's answer comes from, a
box of a detector or the half of an activation map, and not where a disease begins and ends: its category is a Spatial
and Relational Concept, and its description says so.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from domain.findings import Finding, ImageAnalysis, ModelIdentity
from reports.codes import ARTIFICIAL_INTELLIGENCE, SPATIAL_CONCEPT
from reports.direct import DirectDraft
from reports.masks import mask_of
from reports.material import Material
from reports.provenance import Form, as_code, common_attributes, stamp
from reports.regions import marked_regions
from reports.source import SourceInstance, reference_header
from reports.sr.measurement_report import private_coding_schemes, tracking_identifier, tracking_uid
from reports.uids import derived_uid
from reports.validate import may_lack_frame_of_reference
from reports.words import LONGEST_LO, in_ascii, label_in_words, warnings_for
from reports.writer import Writer

KIND = "seg"
SERIES_NUMBER = 9008
WHAT_IT_IS = "Where the answer of the model comes from; not the outline of a disease."

Segment = tuple[Finding, NDArray[np.bool_]]


def write(material: Material) -> Iterable[DirectDraft]:
    """One object for each image with a place on it."""
    analysis = material.request.analysis
    if analysis is None:
        return
    for number, image in enumerate(analysis.images, start=1):
        source = material.source_of(image)
        segments = _segments(image, source)
        if segments and may_lack_frame_of_reference(source.sop_class_uid):
            form = Form(
                kind=KIND,
                series_number=SERIES_NUMBER,
                title="AI Segmentation",
                instance_number=number,
                coding_schemes=private_coding_schemes(analysis),
            )
            yield _segmentation(material, form, analysis.model, image, source, segments)


def _segments(image: ImageAnalysis, source: SourceInstance) -> list[Segment]:
    """Of each finding with a place at least one pixel large."""
    regions = marked_regions(image, source)
    segments = []
    for finding in image.detected:
        outlines = [region.outline for region in regions if region.finding == finding]
        mask = mask_of(outlines, source.rows, source.columns)
        if mask.any():
            segments.append((finding, mask))
    return segments


def _segmentation(
    material: Material,
    form: Form,
    model: ModelIdentity,
    image: ImageAnalysis,
    source: SourceInstance,
    segments: Sequence[Segment],
) -> DirectDraft:
    def build() -> Dataset:
        segmentation = Segmentation(
            source_images=[reference_header(material.source, source)],
            pixel_array=np.stack([mask for _, mask in segments], axis=-1)[np.newaxis].astype(np.uint8),
            segmentation_type="BINARY",
            segment_descriptions=[
                _description(number, model, image, finding) for number, (finding, _) in enumerate(segments, start=1)
            ],
            content_label="AI FINDINGS",
            content_description="Places that a model has found",
            **common_attributes(material, form),
        )
        _complete(segmentation, material, form, source)
        return stamp(segmentation, material)

    return DirectDraft(material=material, form=form, direct=build)


def _description(number: int, model: ModelIdentity, image: ImageAnalysis, finding: Finding) -> SegmentDescription:
    """Segment Description Macro, PS3.3 C.8.20.4. Its Tracking UID is that of the finding in the measurement report."""
    segment = SegmentDescription(
        segment_number=number,
        segment_label=f"AI {label_in_words(in_ascii(finding.label))}"[:LONGEST_LO],
        segmented_property_category=as_code(SPATIAL_CONCEPT),
        segmented_property_type=as_code(finding.code),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=in_ascii(model.title)[:LONGEST_LO],
            family=as_code(ARTIFICIAL_INTELLIGENCE),
            version=in_ascii(model.version)[:LONGEST_LO],
            source=in_ascii(model.manufacturer)[:LONGEST_LO] or None,
        ),
        tracking_uid=tracking_uid(model, image, finding.label),
        tracking_id=tracking_identifier(finding.label),
        anatomic_regions=[as_code(finding.site)] if finding.site else None,
    )
    segment.SegmentDescription = " ".join([WHAT_IT_IS, *(f"{warning}." for warning in warnings_for(model))])
    return segment


def _complete(segmentation: Dataset, material: Material, form: Form, source: SourceInstance) -> None:
    segmentation["PixelData"].VR = "OB"
    # Type 2C (PS3.3 C.7.6.1): how the source lies, for it has the same rows and columns; empty where that is unknown.
    segmentation.PatientOrientation = list(source.patient_orientation or ())
    for keyword, values in source.lossy_compression:
        setattr(segmentation, keyword, list(values) if len(values) > 1 else values[0])
    # highdicom draws it by lot.
    dimensions = derived_uid(material.fingerprint, form.kind, str(form.instance_number), "dimensions")
    for item in (*segmentation.DimensionOrganizationSequence, *segmentation.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions


WRITER = Writer(kind=KIND, sop_class_uid=SegmentationStorage, series_number=SERIES_NUMBER, write=write)
