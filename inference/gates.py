"""May this model see this image? One clause a gate, with what was expected and what was seen.

Gates are hard: no configuration opens one; only `collimator demo` may skip the age gate. The body part is routing's
to decide: it weighs several signals, because Body Part Examined (0018,0015) alone is wrong in about one study of seven.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import floor

from domain.study import InstanceFacts
from inference.package import Accepts, Manifest

AGE_GATE = "age"
VIEW_GATE = "view"
FOR_PROCESSING = "FOR PROCESSING"  # Presentation Intent Type (0008,0068)


@dataclass(frozen=True, kw_only=True, slots=True)
class GateClause:
    """One gate's answer about one image; `seen` is empty where the attribute was."""

    name: str
    expected: str
    seen: str
    passed: bool


def accepts(manifest: Manifest, facts: InstanceFacts, *, sop_class_uid: str = "") -> list[GateClause]:
    """All gates of one image in fixed order; the model may see it when every clause passed."""
    return [gate(manifest.accepts, facts, sop_class_uid) for gate in _GATES]


def _pixels(_: Accepts, facts: InstanceFacts, __: str) -> GateClause:
    seen = f"{facts.number_of_frames} frame(s)" if facts.has_pixels else "no Pixel Data"
    passed = facts.has_pixels and facts.number_of_frames == 1
    return GateClause(name="pixels", expected="a single-frame image", seen=seen, passed=passed)


def _presentation(_: Accepts, facts: InstanceFacts, __: str) -> GateClause:
    """A detector's raw data, which a modality may send beside the image, are no image yet (PS3.3 C.8.11.1)."""
    seen = facts.presentation_intent.strip().upper()
    return GateClause(
        name="presentation", expected="an image that is not FOR PROCESSING", seen=seen, passed=seen != FOR_PROCESSING
    )


def _modality(accepts: Accepts, facts: InstanceFacts, _: str) -> GateClause:
    return _one_of("modality", accepts.modalities, facts.modality)


def _sop_class(accepts: Accepts, _: InstanceFacts, sop_class_uid: str) -> GateClause:
    return _one_of("sop_class", accepts.sop_classes, sop_class_uid)


def _view(accepts: Accepts, facts: InstanceFacts, _: str) -> GateClause:
    """A frontal model refuses a lateral view; most films name no view, and routing answers for those."""
    seen = facts.view_position.strip().upper()
    passed = not accepts.views or not seen or short_view(seen) in accepts.views
    return GateClause(name=VIEW_GATE, expected=f"{_any_of(accepts.views)}, or absent", seen=seen, passed=passed)


def _age(accepts: Accepts, facts: InstanceFacts, _: str) -> GateClause:
    low, high = accepts.age_min_years, accepts.age_max_years
    bounds = f"{low or 0} or more" if high is None else f"{low or 0} to {high}"
    expected = f"{bounds} completed years{', or unknown' if accepts.accepts_unknown_age else ''}"
    if facts.patient_age_years is None:
        is_unlimited = low is None and high is None
        return GateClause(name=AGE_GATE, expected=expected, seen="", passed=accepts.accepts_unknown_age or is_unlimited)
    years = floor(facts.patient_age_years)
    passed = (low is None or years >= low) and (high is None or years <= high)
    return GateClause(name=AGE_GATE, expected=expected, seen=f"{years}", passed=passed)


_GATES: tuple[Callable[[Accepts, InstanceFacts, str], GateClause], ...] = (
    _pixels,
    _presentation,
    _modality,
    _sop_class,
    _view,
    _age,
)

# View Code Sequence (0054,0220), CID 4010, comes as its Code Meaning.
_VIEW_MEANINGS = {
    "ANTERO-POSTERIOR": "AP",
    "ANTEROPOSTERIOR": "AP",
    "POSTERO-ANTERIOR": "PA",
    "POSTEROANTERIOR": "PA",
    "LEFT LATERAL": "LL",
    "RIGHT LATERAL": "RL",
}


def short_view(view: str) -> str:
    """View Position (0018,5101) for the meaning of a view's code; any other text as it is."""
    return _VIEW_MEANINGS.get(view, view)


def _one_of(name: str, allowed: tuple[str, ...], seen: str) -> GateClause:
    passed = not allowed or seen.strip().upper() in allowed
    return GateClause(name=name, expected=_any_of(allowed), seen=seen.strip(), passed=passed)


def _any_of(allowed: tuple[str, ...]) -> str:
    return " or ".join(allowed) if allowed else "any"
