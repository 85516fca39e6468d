"""The report for machines: TID 1500 Measurement Report in a Comprehensive SR (1.2.840.10008.5.1.4.1.1.88.33).

    Imaging Measurement Report                      TID 1500
    ├── language, the model as observer             TID 1204, TID 1002/1004
    ├── Procedure reported
    ├── Image Library                               TID 1600: every image of the study
    ├── Imaging Measurements
    │   └── Measurement Group, one a label and analysed image         TID 1501
    └── Qualitative Evaluations
        └── Comment: warnings and the result in a sentence

Comprehensive SR rather than Comprehensive 3D SR: a radiograph has no third coordinate, and some readers of TID 1500
take only this one.
"""

from collections.abc import Iterable

from pydicom.uid import ComprehensiveSRStorage

from reports.draft import Draft
from reports.material import Material
from reports.sr.finding_groups import finding_groups
from reports.sr.measurement_report import measurement_report
from reports.writer import Writer

KIND = "measurement_sr"
SERIES_NUMBER = 9001


def write(material: Material) -> Iterable[Draft]:
    """One document for the study."""
    analysis = material.request.analysis
    if analysis is not None:
        groups = finding_groups(material, analysis)
        yield measurement_report(
            material, analysis, kind=KIND, series_number=SERIES_NUMBER, title="AI Results", groups=groups
        )


WRITER = Writer(kind=KIND, sop_class_uid=ComprehensiveSRStorage, series_number=SERIES_NUMBER, write=write)
