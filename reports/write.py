"""The door of the reports room: an analysis or a note goes in, finished and checked DICOM objects come out."""

import pkgutil
from collections.abc import Collection, Iterator
from functools import cache
from importlib import import_module

import reports.writers
from domain.errors import Misconfigured
from reports.draft import Draft
from reports.material import Material
from reports.provenance import TRANSFER_SYNTAX_UID
from reports.request import Note, ReportRequest, WrittenResult
from reports.source import OpenFile, open_plain_file, read_source
from reports.uids import fingerprint_of
from reports.validate import require_valid
from reports.writer import Writer

# Which kinds of result a destination gets, in the order in which they are sent. What does not take a profile gets the
# first one behind it that it takes.
PROFILES = {
    "ohif": ("overlay", "region_sr", "text_sr"),
    "standard": ("overlay", "measurement_sr", "text_sr"),
    "text": ("text_sr",),
    "sc_only": ("overlay",),
}
# What can say why a study was not analysed. The picture is for a destination that takes no text, and who wants both.
KINDS_OF_A_NOTE = ("overlay", "text_sr")


def write_results(
    request: ReportRequest, *, profile: str, open_file: OpenFile = open_plain_file
) -> tuple[WrittenResult, ...]:
    """The results of one study for one kind of destination. The same request gives the same bytes.

    open_file: opens an instance's file by its path.

    Raises:
        Misconfigured: no such profile.
        Refuse: the source cannot be read, or a result would not conform to the standard.
    """
    kinds = kinds_of(profile)
    if request.note is not None:
        kinds = _kinds_of_a_note(kinds, request.note)
    analysed = [image.sop_instance_uid for image in request.analysed_images]
    source = read_source(request.study, first=analysed, open_file=open_file)
    material = Material(request=request, source=source, fingerprint=fingerprint_of(request, source))
    return tuple(_written(kinds, material))


def kinds_of(profile: str) -> tuple[str, ...]:
    if profile not in PROFILES:
        raise Misconfigured(
            f"there is no result profile {profile!r}",
            hint=f"Use one of: {', '.join(sorted(PROFILES))}.",
        )
    return PROFILES[profile]


def _kinds_of_a_note(kinds: tuple[str, ...], note: Note) -> tuple[str, ...]:
    possible = tuple(kind for kind in kinds if kind in KINDS_OF_A_NOTE)
    return possible if note.is_drawn or "text_sr" not in possible else ("text_sr",)


def next_profile(profile: str, refused_kinds: Collection[str]) -> str | None:
    """The form for a destination that refuses these kinds: the first behind `profile` without their SOP classes."""
    forms = list(PROFILES)
    behind = forms[forms.index(profile) + 1 :]
    refused = _sop_classes(refused_kinds)
    return next((form for form in behind if not _sop_classes(PROFILES[form]) & refused), None)


def _sop_classes(kinds: Collection[str]) -> set[str]:
    return {all_writers()[kind].sop_class_uid for kind in kinds}


def contexts_of_profile(profile: str) -> list[tuple[str, str]]:
    """The (SOP Class UID, Transfer Syntax UID) pairs that a destination of this profile has to take."""
    return [(all_writers()[kind].sop_class_uid, TRANSFER_SYNTAX_UID) for kind in kinds_of(profile)]


@cache
def all_writers() -> dict[str, Writer]:
    """Every module in reports/writers/ by its name."""
    names = (module.name for module in pkgutil.iter_modules(reports.writers.__path__))
    return {name: import_module(f"reports.writers.{name}").WRITER for name in names}


def _written(kinds: tuple[str, ...], material: Material) -> Iterator[WrittenResult]:
    for kind in kinds:
        for draft in all_writers()[kind].write(material):
            yield _finished(all_writers()[kind], draft)


def _finished(writer: Writer, draft: Draft) -> WrittenResult:
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
