"""A Key Object Selection (PS3.3 A.35.4, TID 2010): a title, a sentence, and the objects that both are about."""

from collections.abc import Sequence

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom.dataset import Dataset

from domain.findings import Code
from reports.direct import DirectDraft
from reports.material import Material
from reports.provenance import Form, as_code, common_attributes, stamp
from reports.sr.document import referenced_requests
from reports.sr.observer import device_observer


def key_objects(
    material: Material, form: Form, *, title: Code, description: str, device_uid: str, selected: Sequence[Dataset]
) -> DirectDraft:
    """selected: a header of each object. One with Rows and Columns is referred to as an image."""

    def build() -> Dataset:
        content = KeyObjectSelection(
            document_title=as_code(title),
            referenced_objects=selected,
            observer_device_context=device_observer(device_uid, material.request.node),
            description=material.source.writable(description),
        )
        document = KeyObjectSelectionDocument(
            evidence=selected,
            content=content,
            requested_procedures=referenced_requests(material) or None,
            **common_attributes(material, form),
        )
        return stamp(document, material)

    return DirectDraft(material=material, form=form, direct=build)
