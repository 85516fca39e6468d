"""The results of the same analysis that another one names: the overlays, and the text for people.

Their UIDs follow from the analysis (uids.py), so they are known before anything is written. A test compares them with
what the writers of these kinds write.
"""

from dataclasses import dataclass

from pydicom.uid import EnhancedSRStorage, SecondaryCaptureImageStorage

from domain.findings import Code
from reports.codes import ILLUSTRATION_OF_FINDING, SUMMARY
from reports.material import Material
from reports.provenance import kind_instance_uid, kind_series_uid


@dataclass(frozen=True, kw_only=True, slots=True)
class Companion:
    """purpose: what it is to the one that names it."""

    purpose: Code
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


def overlays(material: Material) -> tuple[Companion, ...]:
    """One for each analysed image, in their order."""
    return tuple(
        _companion(material, ILLUSTRATION_OF_FINDING, SecondaryCaptureImageStorage, "overlay", number)
        for number, _ in enumerate(material.request.analysed_images, start=1)
    )


def summary(material: Material) -> Companion:
    return _companion(material, SUMMARY, EnhancedSRStorage, "text_sr", 1)


def _companion(material: Material, purpose: Code, sop_class_uid: str, kind: str, instance_number: int) -> Companion:
    return Companion(
        purpose=purpose,
        sop_class_uid=sop_class_uid,
        sop_instance_uid=kind_instance_uid(material, kind, instance_number),
        series_instance_uid=kind_series_uid(material, kind),
    )
