"""The images worth a look: a Key Object Selection (1.2.840.10008.5.1.4.1.1.88.59) of those with a finding.

It names the images on which something is at or above its threshold, each with its overlay. Where nothing is, there is
none. It is written only for a destination that gets the overlays too.
"""

from collections.abc import Iterable, Iterator

from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from domain.findings import Analysis, ImageAnalysis
from reports.codes import OF_INTEREST
from reports.companions import Companion, overlays
from reports.direct import DirectDraft
from reports.language import Words
from reports.material import Material
from reports.provenance import Form
from reports.source import reference_header
from reports.sr.key_objects import key_objects
from reports.words import finding_in_words, measurement_in_words, model_in_words, warnings_for
from reports.writer import Writer

KIND = "kos"
SERIES_NUMBER = 9006


def write(material: Material) -> Iterable[DirectDraft]:
    """One document for the study, if there is a finding to show."""
    analysis = material.request.analysis
    if analysis is not None and (selected := tuple(_selected(material, analysis))):
        yield key_objects(
            material,
            Form(kind=KIND, series_number=SERIES_NUMBER, title="AI Key Images"),
            title=OF_INTEREST,
            description=" ".join(_sentences(analysis, material.words)),
            device_uid=analysis.model.device_uid,
            selected=selected,
        )


def _selected(material: Material, analysis: Analysis) -> Iterator[Dataset]:
    for image, overlay in zip(analysis.images, overlays(material), strict=True):
        if _found(image, material.words):
            source = material.source_of(image)
            yield reference_header(material.source, source)
            yield _overlay_header(reference_header(material.source, source), overlay)


def _overlay_header(header: Dataset, overlay: Companion) -> Dataset:
    """Of the header that stands for its image."""
    header.SOPClassUID = overlay.sop_class_uid
    header.SOPInstanceUID = overlay.sop_instance_uid
    header.SeriesInstanceUID = overlay.series_instance_uid
    return header


def _sentences(analysis: Analysis, words: Words) -> Iterator[str]:
    yield from (f"{warning}." for warning in warnings_for(analysis.model, words))
    yield words.found.format(answers="; ".join(text for image in analysis.images for text in _found(image, words)))
    yield f"{model_in_words(analysis.model, words)}."


def _found(image: ImageAnalysis, words: Words) -> list[str]:
    return [
        *(measurement_in_words(one, words) for one in image.measurements if one.is_detected),
        *(finding_in_words(finding, words) for finding in image.detected),
    ]


WRITER = Writer(kind=KIND, sop_class_uid=KeyObjectSelectionDocumentStorage, series_number=SERIES_NUMBER, write=write)
