"""The door of the reports room: an analysis or a note goes in, finished and checked DICOM objects come out."""

import pkgutil
from collections.abc import Collection, Iterator
from functools import cache

import reports.writers
from domain.errors import Misconfigured
from reports.by_name import writer_of
from reports.material import Material
from reports.provenance import TRANSFER_SYNTAX_UID
from reports.request import Note, ReportRequest, WrittenResult
from reports.source import OpenFile, open_plain_file, read_source
from reports.uids import fingerprint_of
from reports.validate import require_valid
from reports.writer import Drafted, Writer

# Which kinds of result a destination gets, in the order in which they are sent.
PROFILES = {
    "air": ("overlay", "air_sr", "text_sr"),
    "ohif": ("overlay", "region_sr", "text_sr"),
    "standard": ("overlay", "measurement_sr", "text_sr"),
    "text": ("text_sr",),
    "sc_only": ("overlay",),
}
# What does not take a profile gets the first of these that it takes.
INSTEAD = {
    "air": ("standard", "text", "sc_only"),
    "ohif": ("text", "sc_only"),
    "standard": ("text", "sc_only"),
    "text": ("sc_only",),
    "sc_only": (),
}
# What a destination may ask for besides, each for itself. Where there is nothing to show, there is no object.
EXTRAS = {"kos": ("kos",), "gsps": ("gsps",), "seg": ("seg",), "pdf": ("pdf",)}
FORMS = {**PROFILES, **EXTRAS}
# What can say why a study was not analysed. The picture is for a destination that takes no text, and who wants both.
KINDS_OF_A_NOTE = ("overlay", "text_sr")
KINDS_OF_A_REJECTION = ("rejection_note",)


def write_results(
    request: ReportRequest, *, profile: str, open_file: OpenFile = open_plain_file
) -> tuple[WrittenResult, ...]:
    """The results of one study for one kind of destination. The same request gives the same bytes.

    profile: or an extra.
    open_file: opens an instance's file by its path.

    Raises:
        Misconfigured: no such profile.
        Refuse: the source cannot be read, or a result would not conform to the standard.
    """
    kinds = kinds_of(profile)
    if request.note is not None:
        kinds = _kinds_of_a_note(kinds, request.note)
    return _written_of(request, kinds, open_file)


def write_rejection(request: ReportRequest, *, open_file: OpenFile = open_plain_file) -> WrittenResult:
    """The note that takes results back; they are the instances of the request's study.

    Raises:
        Refuse: one of them cannot be read.
    """
    (note,) = _written_of(request, KINDS_OF_A_REJECTION, open_file)
    return note


def _written_of(request: ReportRequest, kinds: tuple[str, ...], open_file: OpenFile) -> tuple[WrittenResult, ...]:
    # What is rejected is named without exception.
    about = request.analysed_images if request.rejection is None else request.study.instances
    source = read_source(request.study, first=[one.sop_instance_uid for one in about], open_file=open_file)
    material = Material(request=request, source=source, fingerprint=fingerprint_of(request, source))
    return tuple(_written(kinds, material))


def kinds_of(profile: str) -> tuple[str, ...]:
    """Of a profile, or of an extra."""
    if profile not in FORMS:
        raise Misconfigured(
            f"there is no result profile {profile!r}",
            hint=f"Use one of: {', '.join(sorted(PROFILES))}.",
        )
    return FORMS[profile]


def _kinds_of_a_note(kinds: tuple[str, ...], note: Note) -> tuple[str, ...]:
    possible = tuple(kind for kind in kinds if kind in KINDS_OF_A_NOTE)
    return possible if note.is_drawn or "text_sr" not in possible else ("text_sr",)


def next_profile(profile: str, refused_kinds: Collection[str]) -> str | None:
    """What stands for `profile` at a destination that refuses these kinds: the first form without their SOP classes.
    None: there is none, or none is needed, for the profile itself is not refused.
    """
    refused = _sop_classes(refused_kinds)
    if not refused & _sop_classes(PROFILES[profile]):
        return None
    return next((form for form in INSTEAD[profile] if not _sop_classes(PROFILES[form]) & refused), None)


def _sop_classes(kinds: Collection[str]) -> set[str]:
    return {all_writers()[kind].sop_class_uid for kind in kinds}


def contexts_of_profile(profile: str) -> list[tuple[str, str]]:
    """The (SOP Class UID, Transfer Syntax UID) pairs that a destination of this profile or extra has to take."""
    return [(all_writers()[kind].sop_class_uid, TRANSFER_SYNTAX_UID) for kind in kinds_of(profile)]


def contexts_of_rejection() -> list[tuple[str, str]]:
    """The same, for taking results back."""
    return [(all_writers()[kind].sop_class_uid, TRANSFER_SYNTAX_UID) for kind in KINDS_OF_A_REJECTION]


@cache
def all_writers() -> dict[str, Writer]:
    """Every module in reports/writers/ by its name."""
    names = (module.name for module in pkgutil.iter_modules(reports.writers.__path__))
    return {name: writer_of(name) for name in names}


def _written(kinds: tuple[str, ...], material: Material) -> Iterator[WrittenResult]:
    for kind in kinds:
        for draft in all_writers()[kind].write(material):
            yield _finished(all_writers()[kind], draft)


def _finished(writer: Writer, draft: Drafted) -> WrittenResult:
    content = draft.encode()
    require_valid(content)
    return WrittenResult(
        kind=writer.kind,
        sop_class_uid=writer.sop_class_uid,
        sop_instance_uid=draft.sop_instance_uid,
        series_instance_uid=draft.series_instance_uid,
        transfer_syntax_uid=TRANSFER_SYNTAX_UID,
        content=content,
    )
