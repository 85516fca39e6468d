"""UIDs that follow from the content: writing a study again gives the same ones, any difference gives new ones.

A PACS that is sent the same SOP Instance UID twice keeps one of the two. It may be the old one, so equal UIDs must
mean equal bytes. Everything that changes the bytes is therefore part of the fingerprint.
"""

import hashlib
import uuid
from collections.abc import Iterator

import highdicom
import PIL
import pydicom

from domain.findings import DisplayImage, ImageAnalysis
from reports.request import ReportRequest
from reports.source import SourceStudy

# Raise it with every change of a writer that changes what it writes.
LAYOUT_VERSION = "4"


def fingerprint_of(request: ReportRequest, source: SourceStudy) -> str:
    """A digest of all that the results of this request are made from, in hexadecimal."""
    digest = hashlib.blake2b(digest_size=32)  # of megabytes of pixels: without help of the processor the quickest
    for part in _parts(request, source):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def derived_uid(*parts: str) -> str:
    """A UID below 2.25 (PS3.5 B.2), the same for the same parts; at most 44 characters."""
    name = hashlib.sha256("\x1f".join(parts).encode()).digest()[:16]
    # Version 5: a UUID made from a name (RFC 9562 5.5), with the better hash.
    return f"2.25.{uuid.UUID(bytes=name, version=5).int}"


def _parts(request: ReportRequest, source: SourceStudy) -> Iterator[bytes]:
    # repr() of a frozen dataclass names every field and writes floats exactly: a field added later is included.
    study = request.study
    described = (
        LAYOUT_VERSION,
        (highdicom.__version__, pydicom.__version__, PIL.__version__),
        (study.study_instance_uid, study.generation, study.completed_at.isoformat()),
        [instance.sop_instance_uid for instance in study.instances],
        request.node,
        request.note,
        request.rejection,
        request.decision,
        request.seen_by_others,
        request.previous_results,
        request.language,
        request.analysis.model if request.analysis else None,
        (*request.analysis.left_out, *request.analysis.unseen) if request.analysis else (),
    )
    yield repr(described).encode()
    yield source.digest
    for image in request.analysed_images:
        yield repr(image).encode()
        yield from _display_parts(image, request.displays.get(image.sop_instance_uid))


def _display_parts(image: ImageAnalysis, display: DisplayImage | None) -> Iterator[bytes]:
    if display is not None:
        shape = (image.sop_instance_uid, display.rows, display.columns, display.source_rows, display.source_columns)
        yield repr(shape).encode()
        yield display.pixels
