"""A network's answer as the house tells it: labels with their codes, in the order in which a reader wants them."""

from domain.findings import Finding, ImageAnalysis, ImageRun
from inference.answer import Answer
from inference.labels import Label, relative_certainty
from inference.package import Manifest


def image_analysis(
    manifest: Manifest, sop_instance_uid: str, answer: Answer, *, device: str, run: ImageRun
) -> ImageAnalysis:
    """Scores as findings, the most certain against its threshold first."""
    pairs = zip(manifest.labels, answer.scores, strict=True)
    ranked = sorted(pairs, key=lambda pair: relative_certainty(pair[1], pair[0].threshold), reverse=True)
    return ImageAnalysis(
        sop_instance_uid=sop_instance_uid,
        findings=tuple(_finding(label, score) for label, score in ranked),
        activation=answer.activation,
        regions=answer.regions,
        measurements=answer.measurements,
        device=device,
        run=run,
    )


def _finding(label: Label, score: float) -> Finding:
    return Finding(label=label.label, code=label.code, site=label.site, certainty=score, threshold=label.threshold)
