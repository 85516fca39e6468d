"""What a network said about one image, on its way from the child process to the house.

It travels as JSON, never as a pickle: the child has touched hostile bytes, and a pickle from it could run code here.
"""

from dataclasses import asdict, dataclass
from typing import Any

from domain.findings import ActivationMap, Finding, ImageAnalysis
from inference.package import Label, Manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """`scores` in [0, 1] in the order of the manifest's labels, and the activation of the top detected label.

    Where no label is detected, the activation is that of the label nearest to its threshold.
    """

    scores: tuple[float, ...]
    activation: ActivationMap

    def as_json(self) -> dict[str, Any]:
        return {"scores": self.scores, "activation": asdict(self.activation)}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Answer":
        activation = document["activation"]
        return cls(
            scores=tuple(float(score) for score in document["scores"]),
            activation=ActivationMap(**{**activation, "values": tuple(int(value) for value in activation["values"])}),
        )


def image_analysis(manifest: Manifest, sop_instance_uid: str, answer: Answer) -> ImageAnalysis:
    """Scores as findings, the most certain against its threshold first."""
    pairs = zip(manifest.labels, answer.scores, strict=True)
    ranked = sorted(pairs, key=lambda pair: relative_certainty(pair[1], pair[0].threshold), reverse=True)
    return ImageAnalysis(
        sop_instance_uid=sop_instance_uid,
        findings=tuple(_finding(label, score) for label, score in ranked),
        activation=answer.activation,
    )


def relative_certainty(score: float, threshold: float) -> float:
    """The score on a scale on which every label's threshold is 0.5 and the ends stay 0 and 1."""
    if score < threshold:
        return 0.5 * score / threshold
    return 1.0 - 0.5 * (1.0 - score) / max(1.0 - threshold, 1e-9)


def _finding(label: Label, score: float) -> Finding:
    return Finding(label=label.label, code=label.code, site=label.site, certainty=score, threshold=label.threshold)
