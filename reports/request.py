"""What a report is made from, and what comes out of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

from domain.care import Rejection
from domain.findings import Analysis, DisplayImage, ImageAnalysis
from domain.study import Study


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeIdentity:
    """The node that signs the results (General Equipment Module, PS3.3 C.7.5.1): never the scanner's."""

    manufacturer: str
    model_name: str
    serial_number: str
    software_version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """Why a study has no analysis: not configured, not in the plan, over its quota, refused.

    It is in the language of its request. `is_drawn`: as a picture as well, where a destination takes both.
    """

    title: str
    lines: tuple[str, ...]
    is_drawn: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class PreviousResult:
    """A result of an earlier generation of the same study, which a revised one replaces."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportRequest:
    """Everything that the results of one study are made from: an analysis, a note that says why there is none, or the
    rejection of earlier results, which then are the study's instances.

    `displays` holds the picture of each analysed image by its SOP Instance UID; only the overlay needs them.
    `decision` explains the routing, a sentence a line. `seen_by_others`: SOP Instance UIDs of the images that another
    model of the same study has looked at, which has reports of its own. The content date and time of every object is
    the moment the study was complete, so that writing them again gives the same bytes. `language` is that of what
    people read: a key of reports.words.LANGUAGES.
    """

    study: Study
    node: NodeIdentity
    analysis: Analysis | None = None
    note: Note | None = None
    rejection: Rejection | None = None
    displays: Mapping[str, DisplayImage] = field(default_factory=dict)
    decision: tuple[str, ...] = ()
    seen_by_others: tuple[str, ...] = ()
    previous_results: tuple[PreviousResult, ...] = ()
    language: str = "en"

    def __post_init__(self) -> None:
        if sum(given is not None for given in (self.analysis, self.note, self.rejection)) != 1:
            raise ValueError("a report is about an analysis, a note that says why there is none, or a rejection")
        if self.analysis is not None:
            _require_answers_in_range(self.analysis)
            _require_images_of_the_study(self.analysis, self.study)

    @property
    def analysed_images(self) -> tuple[ImageAnalysis, ...]:
        return self.analysis.images if self.analysis is not None else ()


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenResult:
    """One finished object. `content` is the whole file (PS3.10): preamble, File Meta Information and Data Set."""

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    content: bytes


def _require_answers_in_range(analysis: Analysis) -> None:
    for image in analysis.images:
        for finding in image.findings:
            # Written so that "not a number" fails too.
            if not (0.0 <= finding.certainty <= 1.0 and 0.0 <= finding.threshold <= 1.0):
                raise ValueError(f"{finding.label}: certainty and threshold must lie in [0, 1]")
        for measurement in image.measurements:
            if not isfinite(measurement.value):
                raise ValueError(f"{measurement.label}: the value must be a number")


def _require_images_of_the_study(analysis: Analysis, study: Study) -> None:
    known = {instance.sop_instance_uid for instance in study.instances}
    analysed = [image.sop_instance_uid for image in analysis.images]
    if not analysed or not known.issuperset(analysed) or len(set(analysed)) != len(analysed):
        raise ValueError("an analysis names at least one image, each of them once and part of the study")
