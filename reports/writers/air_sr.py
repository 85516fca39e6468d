"""The report that everything else hangs on: TID 1500 in a Comprehensive 3D SR (1.2.840.10008.5.1.4.1.1.88.34).

    Imaging Measurement Report                      TID 1500, the root result
    ├── language, the model as observer, Procedure reported
    ├── Image Library                               TID 1600: every image of the study
    ├── Imaging Measurements
    │   ├── Measurement Group, one a label and analysed image         TID 1501
    │   └── Measurement Group, one a place                            TID 1410
    ├── Qualitative Evaluations
    │   └── Comment: warnings and the result in a sentence
    ├── Illustration of Finding, one an analysed image: the overlay
    └── Summary: the text for people

Written after what is public of IHE AI Results (AIR): this SOP class, one root that names the other results of the
analysis, a Tracking Identifier and a Tracking UID for each group, and the model in Contributing Equipment Sequence with
a Device UID of its own, which changes with it. The profile's full text was not at hand, and nobody has tested this
against it: it is no claim of conformance.
"""

from collections.abc import Iterable

from pydicom.uid import Comprehensive3DSRStorage

from reports.companions import overlays, summary
from reports.draft import Draft
from reports.material import Material
from reports.region_groups import region_groups
from reports.sr.finding_groups import finding_groups
from reports.sr.measurement_report import measurement_report
from reports.writer import Writer

KIND = "air_sr"
SERIES_NUMBER = 9005


def write(material: Material) -> Iterable[Draft]:
    """One document for the study."""
    analysis = material.request.analysis
    if analysis is not None:
        yield measurement_report(
            material,
            analysis,
            kind=KIND,
            series_number=SERIES_NUMBER,
            title="AI Root Result",
            groups=(*finding_groups(material, analysis), *region_groups(material, analysis)),
            sop_class_uid=Comprehensive3DSRStorage,
            companions=(*overlays(material), summary(material)),
        )


WRITER = Writer(kind=KIND, sop_class_uid=Comprehensive3DSRStorage, series_number=SERIES_NUMBER, write=write)
