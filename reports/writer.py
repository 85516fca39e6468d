"""What a writer is. A module in reports/writers/ defines one, `WRITER`, and is found by its name."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pydicom.dataset import Dataset

from domain.findings import ImageAnalysis
from reports.request import ReportRequest
from reports.source import SourceInstance, SourceStudy


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What every writer works from: what was asked, what the source says, and the digest of both."""

    request: ReportRequest
    source: SourceStudy
    fingerprint: str

    def source_of(self, image: ImageAnalysis) -> SourceInstance:
        return self.source.instance(image.sop_instance_uid)


@dataclass(frozen=True, kw_only=True, slots=True)
class Writer:
    """One kind of result. `write` makes the finished data sets, one for each object of this kind.

    `kind` is the module's name; every object of it is of one SOP class. `series_number` tells the kinds apart in a
    viewer's list of series.
    """

    kind: str
    sop_class_uid: str
    series_number: int
    write: Callable[[Material], Iterable[Dataset]]
