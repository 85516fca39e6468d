"""The report for viewers that draw on the source image: TID 1500 with a group for each place, in a Comprehensive SR.

    Imaging Measurement Report                      TID 1500
    ├── language, observer, procedure, Image Library
    ├── Imaging Measurements
    │   └── Measurement Group, one a place          TID 1410
    └── Qualitative Evaluations
        ├── each label and analysed image: Detected | Not detected
        └── Comment: warnings and the result in a sentence

OHIF 3.13 shows an empty page for a TID 1500 report in which a group has no place: what concerns a whole image is an
evaluation here, and where no place is at or above its threshold there is no such report at all.
"""

from collections.abc import Iterable, Iterator

from pydicom.uid import ComprehensiveSRStorage

from domain.findings import Analysis
from reports.codes import DETECTED, NOT_DETECTED
from reports.draft import Draft
from reports.material import Material
from reports.region_groups import region_groups
from reports.sr.content import Item, code
from reports.sr.measurement_report import measurement_report
from reports.writer import Writer

KIND = "region_sr"
SERIES_NUMBER = 9003


def write(material: Material) -> Iterable[Draft]:
    """One document for the study, if there is a place to draw."""
    analysis = material.request.analysis
    groups = tuple(region_groups(material, analysis)) if analysis is not None else ()
    if analysis is not None and groups:
        yield measurement_report(
            material,
            analysis,
            kind=KIND,
            series_number=SERIES_NUMBER,
            title="AI Regions",
            groups=groups,
            evaluations=tuple(_evaluations(analysis)),
        )


def _evaluations(analysis: Analysis) -> Iterator[Item]:
    for image in analysis.images:
        for finding in image.findings:
            yield code(finding.code, DETECTED if finding.is_detected else NOT_DETECTED)


WRITER = Writer(kind=KIND, sop_class_uid=ComprehensiveSRStorage, series_number=SERIES_NUMBER, write=write)
