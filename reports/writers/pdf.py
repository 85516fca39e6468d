"""The result on a page: an Encapsulated PDF (1.2.840.10008.5.1.4.1.1.104.1), for records that show nothing else.

It shows and says what the overlays and the text report show and say, whichever they are: it takes both from their
finished objects. highdicom has no such object; of highdicom are its patient, study, series, equipment and SOP Common
modules.
"""

from collections.abc import Iterable, Iterator
from io import BytesIO

import pydicom
from highdicom.base import SOPClass
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from domain.identity import LOCAL_CODING_SCHEME
from reports.by_name import writer_of
from reports.codes import AI_RESULT
from reports.direct import DirectDraft
from reports.material import Material
from reports.picture.paper import Section, as_pdf
from reports.provenance import Form, code_item, common_attributes, model_of, stamp
from reports.words import warnings_for
from reports.writer import Writer

KIND = "pdf"
SERIES_NUMBER = 9009
TITLE = "AI Result"


def write(material: Material) -> Iterable[DirectDraft]:
    """One document for the study."""
    if material.request.analysis is not None:
        form = Form(
            kind=KIND, series_number=SERIES_NUMBER, title=TITLE, coding_schemes=frozenset({LOCAL_CODING_SCHEME})
        )
        yield DirectDraft(material=material, form=form, direct=lambda: _build(material, form))


def _build(material: Material, form: Form) -> Dataset:
    attributes = common_attributes(material, form)
    contributing_equipment = attributes.pop("contributing_equipment")
    document = SOPClass(
        study_instance_uid=material.source.study_instance_uid,
        sop_class_uid=EncapsulatedPDFStorage,
        modality="DOC",
        **attributes,
    )
    document.ContributingEquipmentSequence = contributing_equipment
    _enclose(document, material, _pdf(material))
    return stamp(document, material)


def _enclose(document: Dataset, material: Material, pdf: bytes) -> None:
    """SC Equipment and Encapsulated Document Modules, PS3.3 C.8.6.1 and C.24.2."""
    document.ConversionType = "WSD"
    document.AcquisitionDateTime = ""
    document.BurnedInAnnotation = "NO"
    document.RecognizableVisualFeatures = "NO"
    document.SourceInstanceSequence = list(_sources(material))
    document.DocumentTitle = TITLE
    document.ConceptNameCodeSequence = [code_item(AI_RESULT)]
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.EncapsulatedDocumentLength = len(pdf)
    document.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)


def _sources(material: Material) -> Iterator[Dataset]:
    for image in material.request.analysed_images:
        source = material.source_of(image)
        reference = Dataset()
        reference.ReferencedSOPClassUID = source.sop_class_uid
        reference.ReferencedSOPInstanceUID = source.sop_instance_uid
        yield reference


def _pdf(material: Material) -> bytes:
    (report,) = _written(material, "text_sr")
    return as_pdf(
        title=str(report.ConceptNameCodeSequence[0].CodeMeaning),
        warnings=warnings_for(model_of(material), material.words),
        pictures=[Image.fromarray(overlay.pixel_array) for overlay in _written(material, "overlay")],
        sections=list(_sections(report)),
        footer=f"Study Instance UID {material.source.study_instance_uid}",
    )


def _written(material: Material, kind: str) -> Iterator[Dataset]:
    """The objects of another kind, which this one knows by its name only."""
    for draft in writer_of(kind).write(material):
        yield pydicom.dcmread(BytesIO(draft.encode()))


def _sections(report: Dataset) -> Iterator[Section]:
    """Each container with the texts in it."""
    for item in report.ContentSequence:
        if item.ValueType == "CONTAINER":
            lines = tuple(str(line.TextValue) for line in item.ContentSequence if line.ValueType == "TEXT")
            yield Section(heading=str(item.ConceptNameCodeSequence[0].CodeMeaning), lines=lines)


WRITER = Writer(kind=KIND, sop_class_uid=EncapsulatedPDFStorage, series_number=SERIES_NUMBER, write=write)
