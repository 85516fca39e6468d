"""A Structured Report from its content tree: the part that the measurement report and the text report share."""

from collections.abc import Sequence

from highdicom.sr import Comprehensive3DSR, ComprehensiveSR, EnhancedSR
from highdicom.sr.utils import collect_evidence
from highdicom.sr.value_types import ContentSequence
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from domain.errors import Refuse
from reports.companions import Companion
from reports.draft import Draft
from reports.encoding import END_OF_ITEM, END_OF_SEQUENCE, encode_opening, encode_sequence
from reports.material import Material
from reports.provenance import Form, common_attributes, stamp
from reports.request import PreviousResult
from reports.source import RequestedProcedure, SourceInstance, reference_header
from reports.sr.content import Item, built_item
from reports.validate import is_known_sop_class

DOCUMENTS: dict[str, type[Comprehensive3DSR] | type[ComprehensiveSR] | type[EnhancedSR]] = {
    Comprehensive3DSRStorage: Comprehensive3DSR,
    ComprehensiveSRStorage: ComprehensiveSR,
    EnhancedSRStorage: EnhancedSR,
}
CONTENT_SEQUENCE = int(Tag("ContentSequence"))
# What the study decides: which images there are, what was asked for, what was said before, and what was found.
VARYING = frozenset(
    {
        "CurrentRequestedProcedureEvidenceSequence",
        "ReferencedRequestSequence",
        "PredecessorDocumentsSequence",
        "ContentSequence",
    }
)


def structured_report(
    sop_class_uid: str, material: Material, root: Item, form: Form, *, companions: Sequence[Companion] = ()
) -> Draft:
    """The document, PS3.3 A.35: all the study's images are its evidence, and so are the `companions` that it names.

    Raises:
        Refuse: it has none that the standard knows.
    """
    return Draft(
        material=material,
        form=form,
        about=evidence(material)[0],
        direct=lambda: _build(sop_class_uid, material, built_item(root), form, companions),
        build_head=_build_head,
        decided_by=(sop_class_uid, root.form),
        varying=VARYING,
        written=_what_varies(sop_class_uid, material, companions),
        body=lambda encodings: {
            CONTENT_SEQUENCE: encode_sequence(CONTENT_SEQUENCE, _items_of_the_root(root.encode(encodings)))
        },
    )


def _build(
    sop_class_uid: str, material: Material, root: Dataset, form: Form, companions: Sequence[Companion] = ()
) -> Dataset:
    """It is complete but never verified and never final: no person has looked at it (PS3.3 C.17.2)."""
    document = DOCUMENTS[sop_class_uid](
        evidence=[
            *(reference_header(material.source, instance) for instance in evidence(material)),
            *(_reference(material, companion) for companion in companions),
        ],
        content=root,
        is_complete=True,
        is_final=False,
        is_verified=False,
        requested_procedures=referenced_requests(material) or None,
        previous_versions=[_reference(material, previous) for previous in _previous_versions(material, sop_class_uid)]
        or None,
        **common_attributes(material, form),
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


def _items_of_the_root(root: bytes) -> bytes:
    """Those of the Content Sequence (0040,A730) of an encoded item, whose last element it is."""
    opening = encode_opening(CONTENT_SEQUENCE)
    return root[root.index(opening) + len(opening) : -len(END_OF_SEQUENCE + END_OF_ITEM)]


def _build_head(blank: Material, form: Form, sop_class_uid: str, root_form: Item) -> Dataset:
    root = built_item(root_form)
    root.ContentSequence = ContentSequence([])
    return _build(sop_class_uid, blank, root, form)


def _what_varies(sop_class_uid: str, material: Material, companions: Sequence[Companion]) -> Dataset:
    """The elements that `_build` has highdicom make of the study, besides the content tree."""
    varying = Dataset()
    varying.CurrentRequestedProcedureEvidenceSequence = _references(material, [*evidence(material), *companions])
    if requests := referenced_requests(material):
        varying.ReferencedRequestSequence = requests
    if previous := _previous_versions(material, sop_class_uid):
        varying.PredecessorDocumentsSequence = _references(material, previous)
    return varying


def _references(material: Material, instances: Sequence[SourceInstance | PreviousResult | Companion]) -> list[Dataset]:
    """Items of the Hierarchical SOP Instance Reference Macro, PS3.3 C.17.2.1."""
    no_content = Dataset()
    no_content.ContentSequence = []
    study_instance_uid = material.source.study_instance_uid
    references = [_reference(material, instance) for instance in instances]
    return collect_evidence(references, no_content, study_instance_uid)[0]


def referenced_requests(material: Material) -> list[Dataset]:
    return [_referenced_request(material, item) for item in material.source.requested_procedures]


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


def _previous_versions(material: Material, sop_class_uid: str) -> list[PreviousResult]:
    """The documents of the same class that this one replaces."""
    return [previous for previous in material.request.previous_results if previous.sop_class_uid == sop_class_uid]


def _reference(material: Material, instance: SourceInstance | PreviousResult | Companion) -> Dataset:
    header = Dataset()
    header.StudyInstanceUID = material.source.study_instance_uid
    header.SeriesInstanceUID = instance.series_instance_uid
    header.SOPClassUID = instance.sop_class_uid
    header.SOPInstanceUID = instance.sop_instance_uid
    return header
