"""What every writer works from."""

from dataclasses import dataclass

from domain.findings import ImageAnalysis
from reports.language import Words
from reports.request import ReportRequest
from reports.source import SourceInstance, SourceStudy
from reports.words import LANGUAGES


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What was asked, what the source says, and the digest of both."""

    request: ReportRequest
    source: SourceStudy
    fingerprint: str

    def source_of(self, image: ImageAnalysis) -> SourceInstance:
        return self.source.instance(image.sop_instance_uid)

    @property
    def words(self) -> Words:
        """What the reader is told in."""
        return LANGUAGES[self.request.language]
