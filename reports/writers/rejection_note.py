"""The note that takes results back: a Key Object Selection (1.2.840.10008.5.1.4.1.1.88.59) whose title rejects them.

It names result objects of the node's own, never an image that it was sent. What an archive does about it is its own
affair (IHE Imaging Object Change Management): many hide what is rejected, others show the note beside it.
"""

from collections.abc import Iterable

from pydicom.uid import KeyObjectSelectionDocumentStorage

from domain.care import Rejection
from domain.identity import INSTANCE_CREATOR_UID
from reports.codes import (
    INCORRECT_WORKLIST_ENTRY,
    REJECTED_FOR_QUALITY,
    REJECTED_FOR_SAFETY,
    RETENTION_EXPIRED,
)
from reports.direct import DirectDraft
from reports.material import Material
from reports.provenance import Form
from reports.source import reference_header
from reports.sr.key_objects import key_objects
from reports.writer import Writer

KIND = "rejection_note"
SERIES_NUMBER = 9010
TITLES = {
    Rejection.SAFETY: REJECTED_FOR_SAFETY,
    Rejection.QUALITY: REJECTED_FOR_QUALITY,
    Rejection.WORKLIST: INCORRECT_WORKLIST_ENTRY,
    Rejection.RETENTION: RETENTION_EXPIRED,
}


def write(material: Material) -> Iterable[DirectDraft]:
    """One document, about every object that the request holds."""
    rejection = material.request.rejection
    if rejection is not None:
        yield key_objects(
            material,
            Form(kind=KIND, series_number=SERIES_NUMBER, title="AI Results Withdrawn"),
            title=TITLES[rejection],
            description="These AI results are withdrawn. Do not use them.",
            device_uid=INSTANCE_CREATOR_UID,
            selected=[reference_header(material.source, instance) for instance in material.source.instances],
        )


WRITER = Writer(kind=KIND, sop_class_uid=KeyObjectSelectionDocumentStorage, series_number=SERIES_NUMBER, write=write)
