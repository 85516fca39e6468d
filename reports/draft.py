"""An object before it is bytes: what highdicom makes of it, and what of that differs from study to study.

    Draft ──direct()──>  the data set as highdicom builds it
          ──encode()──>  its bytes: of a head that highdicom built once for this model, and of what the study brings

Which of an object's elements are the study's own, each kind of object says by its `varying` elements. That nothing was
forgotten there shows where both ways are compared, over every source that the tests know.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID

from domain.findings import Analysis, ImageAnalysis, ModelIdentity
from domain.study import Instance, InstanceFacts, Study
from reports import mould
from reports.encoding import Elements, encode_elements, encode_file, encode_file_meta
from reports.material import Material
from reports.mould import Mould
from reports.provenance import Form, content_moment, copy_identity, encodings_of, series_instance_uid, sop_instance_uid
from reports.request import NodeIdentity, Note, ReportRequest
from reports.source import (
    DATES_AND_CODES,
    IDENTITY,
    OPTIONAL_DATES_AND_CODES,
    OPTIONAL_IDENTITY,
    CopiedElement,
    SourceInstance,
    SourceStudy,
)

COPIED = (*IDENTITY, *OPTIONAL_IDENTITY, *DATES_AND_CODES, *OPTIONAL_DATES_AND_CODES, "SpecificCharacterSet")
KEPT_HEADS = 512  # some KB each: one for each model, kind of object, scanner and character set
# A study that nobody ever sent: its values are the marks of the head.
BLANK_STUDY, BLANK_FINGERPRINT = UID("2.25.7000000000000000001001"), "blank"
BLANK_MOMENT = datetime(1907, 5, 3, 4, 56, 7)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Draft:
    """One object of `form`.

    about: the instance whose header highdicom asks for the patient, the study and the scanner.
    direct: makes all of it with highdicom.
    build_head: makes it with as small a body as highdicom takes, for any material and from `decided_by`; only the
        elements count that are not `varying`.
    varying: the keywords of the elements that are of the study, besides its identity and what Form says.
    written: those of them that this object has, built; `body`: those that are too large for that, encoded.
    """

    material: Material
    form: Form
    about: SourceInstance
    direct: Callable[[], Dataset]
    build_head: Callable[..., Dataset]
    decided_by: tuple[Hashable, ...]
    varying: frozenset[str]
    written: Dataset
    body: Callable[[list[str]], Elements]

    @property
    def series_instance_uid(self) -> str:
        return series_instance_uid(self.material, self.form)

    @property
    def sop_instance_uid(self) -> str:
        return sop_instance_uid(self.material, self.form)

    def encode(self) -> bytes:
        """The complete file (PS3.10 7): what pydicom writes of `direct()`, with sequences of undefined length."""
        material, encodings = self.material, encodings_of(self.material.source)
        head = _head(self.build_head, self.decided_by, self.form, self.varying, _kind_of(material, self.about))
        values = _values(material, self.form)
        copy_identity(self.written, material.source)
        elements = {tag: piece.fill(values, (), encodings) for tag, piece in head.elements.items()}
        elements.update(encode_elements(self.written, encodings))
        elements.update(self.body(encodings))
        return encode_file(head.file_meta.fill(values, (), encodings), elements)


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """What a head depends on besides its form: all of it is alike in very many studies."""

    node: NodeIdentity
    model: ModelIdentity | None
    character_set: bytes
    sop_class_uid: str
    modality: str
    equipment: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Head:
    elements: dict[int, Mould]
    file_meta: Mould


def _kind_of(material: Material, about: SourceInstance) -> Kind:
    request = material.request
    return Kind(
        node=request.node,
        model=request.analysis.model if request.analysis else None,
        character_set=material.source.character_set,
        sop_class_uid=about.sop_class_uid,
        modality=about.modality,
        equipment=about.equipment,
    )


def _values(material: Material, form: Form) -> tuple[mould.Value, ...]:
    """What each study fills into a head. The moment comes before the day and the time, which it shows as well."""
    moment = content_moment(material)
    return (
        UID(material.source.study_instance_uid),
        UID(series_instance_uid(material, form)),
        UID(sop_instance_uid(material, form)),
        moment.strftime("%Y%m%d%H%M%S"),
        moment.strftime("%Y%m%d"),
        moment.strftime("%H%M%S"),
    )


@lru_cache(maxsize=KEPT_HEADS)
def _head(
    build: Callable[..., Dataset], decided_by: tuple[Hashable, ...], form: Form, varying: frozenset[str], kind: Kind
) -> Head:
    blank = _blank(kind)
    dataset = build(blank, form, *decided_by)
    left_out = {Tag(keyword) for keyword in (*COPIED, *varying)}
    marks = _values(blank, form)
    elements = encode_elements(dataset, encodings_of(blank.source))
    return Head(
        elements={tag: mould.cast(content, marks) for tag, content in elements.items() if tag not in left_out},
        file_meta=mould.cast(encode_file_meta(dataset.file_meta), marks),
    )


def _blank(kind: Kind) -> Material:
    """A study of one image, of which only the kind is known."""
    uids: dict[str, Any] = {
        "sop_instance_uid": "2.25.7000000000000000001003",
        "sop_class_uid": kind.sop_class_uid,
        "series_instance_uid": "2.25.7000000000000000001002",
    }
    image = SourceInstance(
        **uids,
        modality=kind.modality,
        view_position="",
        rows=16,
        columns=16,
        patient_orientation=None,
        imager_pixel_spacing_mm=None,
        equipment=kind.equipment,
        lossy_compression=(),
    )
    study = Study(
        clinic="",
        study_instance_uid=BLANK_STUDY,
        generation=1,
        calling_ae_title="",
        completed_at=BLANK_MOMENT,
        completion_reason="",
        instances=(Instance(**uids, transfer_syntax_uid="", path="", facts=InstanceFacts()),),
    )
    analysed = (ImageAnalysis(sop_instance_uid=image.sop_instance_uid, findings=(), activation=None),)
    request = ReportRequest(
        study=study,
        node=kind.node,
        analysis=Analysis(model=kind.model, images=analysed) if kind.model else None,
        note=None if kind.model else Note(title="", lines=()),
    )
    source = SourceStudy(
        study_instance_uid=BLANK_STUDY,
        character_set=kind.character_set,
        copied=tuple(CopiedElement(keyword=keyword, value=b"") for keyword in (*IDENTITY, *DATES_AND_CODES)),
        requested_procedures=(),
        instances=(image,),
        digest=b"",
    )
    return Material(request=request, source=source, fingerprint=BLANK_FINGERPRINT)
