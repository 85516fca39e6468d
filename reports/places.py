"""The places of an image's findings, each with the Tracking UID by which every object that shows it can be told so."""

from dataclasses import dataclass

from pydicom.uid import UID

from domain.findings import Analysis, ImageAnalysis
from reports.material import Material
from reports.regions import MarkedRegion, marked_regions
from reports.sr.measurement_report import tracking_identifier, tracking_uid


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    region: MarkedRegion
    tracking_uid: UID
    tracking_identifier: str


def places_of(material: Material, analysis: Analysis, image: ImageAnalysis) -> tuple[Place, ...]:
    return tuple(
        Place(
            region=region,
            tracking_uid=tracking_uid(analysis.model, image, f"{region.finding.label} {number}"),
            tracking_identifier=tracking_identifier(region.finding.label),
        )
        for number, region in enumerate(marked_regions(image, material.source_of(image)), start=1)
    )
