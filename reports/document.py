"""A Structured Report from its content tree: the part that the measurement report and the text report share."""

from collections.abc import Sequence
from typing import Any

from highdicom.sr import ComprehensiveSR, EnhancedSR
from highdicom.sr.value_types import ContainerContentItem, ContentItem, ContentSequence
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, EnhancedSRStorage

from domain.errors import Refuse
from domain.findings import Code
from reports.provenance import as_code, stamp
from reports.request import PreviousResult
from reports.source import RequestedProcedure, SourceInstance, reference_header
from reports.validate import is_known_sop_class
from reports.writer import Material

SOP_CLASS_UIDS = {ComprehensiveSR: ComprehensiveSRStorage, EnhancedSR: EnhancedSRStorage}


def structured_report(
    sop_class: type[ComprehensiveSR] | type[EnhancedSR],
    material: Material,
    content: Dataset,
    attributes: dict[str, Any],
) -> Dataset:
    """The finished document, PS3.3 A.35: all the study's images are its evidence.

    It is complete but never verified and never final: no person has looked at it (PS3.3 C.17.2).
    """
    document = sop_class(
        evidence=[reference_header(material.source, instance) for instance in evidence(material)],
        content=content,
        is_complete=True,
        is_final=False,
        is_verified=False,
        requested_procedures=[_referenced_request(material, item) for item in material.source.requested_procedures]
        or None,
        previous_versions=_previous_versions(material, SOP_CLASS_UIDS[sop_class]) or None,
        **attributes,
    )
    return stamp(document, material)


def evidence(material: Material) -> Sequence[SourceInstance]:
    """The study's instances, one first whose SOP Class the standard defines: highdicom looks its modules up.

    Raises:
        Refuse: there is none.
    """
    ordered = sorted(material.source.instances, key=lambda instance: not is_known_sop_class(instance.sop_class_uid))
    if not is_known_sop_class(ordered[0].sop_class_uid):
        raise Refuse(
            "the study holds only private or retired kinds of object",
            reason="unsupported_source",
            hint="Nothing has to be done: the study is kept, and no result is written for it.",
        )
    return ordered


def container(name: Code, items: Sequence[ContentItem]) -> ContainerContentItem:
    """A CONTAINER content item with its children (PS3.3 C.17.3)."""
    section = ContainerContentItem(name=as_code(name), relationship_type="CONTAINS")
    section.ContentSequence = ContentSequence(items)
    return section


def _referenced_request(material: Material, requested: RequestedProcedure) -> Dataset:
    """An item of Referenced Request Sequence (0040,A370), PS3.3 C.17.2: the order that the images were made for."""
    writable = material.source.writable
    item = Dataset()
    item.StudyInstanceUID = material.source.study_instance_uid
    item.ReferencedStudySequence = []
    item.AccessionNumber = writable(requested.accession_number)
    item.PlacerOrderNumberImagingServiceRequest = ""
    item.FillerOrderNumberImagingServiceRequest = ""
    item.RequestedProcedureID = writable(requested.requested_procedure_id)
    item.RequestedProcedureDescription = writable(requested.requested_procedure_description)
    item.RequestedProcedureCodeSequence = []
    return item


def _previous_versions(material: Material, sop_class_uid: str) -> list[Dataset]:
    """For Predecessor Documents Sequence (0040,A360): the documents of the same class that this one replaces."""
    return [
        _reference(material, previous)
        for previous in material.request.previous_results
        if previous.sop_class_uid == sop_class_uid
    ]


def _reference(material: Material, previous: PreviousResult) -> Dataset:
    header = Dataset()
    header.StudyInstanceUID = material.source.study_instance_uid
    header.SeriesInstanceUID = previous.series_instance_uid
    header.SOPClassUID = previous.sop_class_uid
    header.SOPInstanceUID = previous.sop_instance_uid
    return header
