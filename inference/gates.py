"""May this model see this image? One clause a gate, with what was expected and what was seen.

Gates are hard: no configuration opens one; only `collimator demo` may skip the age gate. Which body part an image shows
is routing's to decide: it weighs several signals, because Body Part Examined (0018,0015) alone is wrong in about one
study of seven. What routing takes for a bone may still be a hip, and the model made for wrists: that is the gate here.
"""

from collections.abc import Mapping
from dataclasses import replace

from domain.routing import NO_RULEBOOK, Decision, GateClause, RuleBook, Shown, shown_in
from domain.study import InstanceFacts, Study
from domain.terms import SNOMED, plain_term, plain_words
from domain.views import are_of, in_words, view_named, view_signals
from inference.package import Accepts, Manifest, Package

AGE_GATE = "age"
VIEW_GATE = "view"
FOR_PROCESSING = "FOR PROCESSING"  # Presentation Intent Type (0008,0068)
# Digital X-Ray, Mammography and Intra-Oral Image Storage - For Processing (PS3.4 B.5)
FOR_PROCESSING_CLASSES = frozenset(f"1.2.840.10008.5.1.4.1.1.1.{number}.1" for number in (1, 2, 3))
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
GREY = frozenset(("MONOCHROME1", "MONOCHROME2", ""))
# Patient Species Description (0010,2201) and Patient Species Code Sequence (0010,2202), of PS3.16 CID 7454
HUMAN = frozenset(("HUMAN", "HOMO SAPIENS", "MENSCH", "HUMAIN", "HUMANO"))
HUMAN_CODES = frozenset(("337915000", "L-85B00", "L-85003"))


def with_gates(decision: Decision, study: Study, packages: Mapping[str, Package], rulebook: RuleBook) -> Decision:
    """The decision, with what the packages' gates say to the images that were sent to them.

    packages: what answers for each package that a rule names. One of another name stands in for it in the
        demonstration; one that is missing is not asked.
    """
    instances = {instance.sop_instance_uid: instance for instance in study.instances}
    images = []
    for image in decision.images:
        package = packages.get(image.package or "")
        if package is not None:
            instance = instances[image.sop_instance_uid]
            gates = accepts(
                package.manifest,
                instance.facts,
                sop_class_uid=instance.sop_class_uid,
                rulebook=rulebook,
                is_demonstration=package.name != image.package,
            )
            image = replace(image, gates=tuple(gates))
        images.append(image)
    return replace(decision, images=tuple(images))


def accepts(
    manifest: Manifest,
    facts: InstanceFacts,
    *,
    sop_class_uid: str = "",
    rulebook: RuleBook = NO_RULEBOOK,
    is_demonstration: bool = False,
) -> list[GateClause]:
    """All gates of one image in fixed order; the model may see it when every clause passed.

    rulebook: what terms and codes of body parts mean. One that it does not know passes: routing has answered for it.
    is_demonstration: the age gate is open, and says so.
    """
    accepted = manifest.accepts
    return [
        _pixels(facts),
        _presentation(facts, sop_class_uid),
        _origin(facts, sop_class_uid),
        _species(facts),
        _one_of("modality", accepted.modalities, facts.modality),
        _one_of("sop_class", accepted.sop_classes, sop_class_uid),
        _body_part(accepted, facts, rulebook),
        _view(accepted, facts),
        _open_to_all(_age(accepted, facts)) if is_demonstration else _age(accepted, facts),
    ]


def _pixels(facts: InstanceFacts) -> GateClause:
    seen = f"{facts.number_of_frames} frame(s)" if facts.has_pixels else "no Pixel Data"
    passed = facts.has_pixels and facts.number_of_frames == 1
    return GateClause(name="pixels", expected="a single-frame image", seen=seen, passed=passed)


def _presentation(facts: InstanceFacts, sop_class_uid: str) -> GateClause:
    """A detector's raw data, which a modality may send beside the image, are no image yet (PS3.3 C.8.11.1)."""
    seen = FOR_PROCESSING if sop_class_uid in FOR_PROCESSING_CLASSES else facts.presentation_intent.strip().upper()
    return GateClause(
        name="presentation", expected="an image that is not FOR PROCESSING", seen=seen, passed=seen != FOR_PROCESSING
    )


def _origin(facts: InstanceFacts, sop_class_uid: str) -> GateClause:
    """A screen save or a Secondary Capture in colour is what a program drew, often another model's result under the
    film's own Modality and Body Part Examined. A film that was scanned is a Secondary Capture in grey.
    """
    seen = ""
    if "SCREEN SAVE" in facts.image_type.split("\\"):
        seen = "screen save"
    elif sop_class_uid == SECONDARY_CAPTURE and facts.photometric_interpretation not in GREY:
        seen = f"Secondary Capture in {facts.photometric_interpretation}"
    return GateClause(name="origin", expected="a film or its scan in grey", seen=seen, passed=not seen)


def _species(facts: InstanceFacts) -> GateClause:
    """A manifest's population is one of people: a dog of five years is no child (PS3.3 C.7.1.1)."""
    told = [facts.species] if facts.species else []
    is_human = all(plain_words(species) in HUMAN for species in told) and all(
        code.value in HUMAN_CODES if code.scheme.upper() in SNOMED else plain_words(code.meaning) in HUMAN
        for code in facts.species_codes
    )
    told += [code.meaning or code.value for code in facts.species_codes]
    return GateClause(name="species", expected="human, or absent", seen=" and ".join(told), passed=is_human)


def _body_part(accepts: Accepts, facts: InstanceFacts, rulebook: RuleBook) -> GateClause:
    """Body Part Examined and each anatomic region have to be the model's, as far as they are there and known."""
    shown = shown_in(facts, rulebook)
    terms = {plain_term(term) for term in accepts.body_parts}
    return GateClause(
        name="body_part",
        expected=f"{_any_of(accepts.body_parts)}, or unknown",
        seen=" and ".join(one.seen for one in shown),
        passed=all(_is_of(one, terms, rulebook) for one in shown),
    )


def _is_of(shown: Shown, terms: set[str], rulebook: RuleBook) -> bool:
    """HAND is of a model for HAND, and of one for BONE, which is what routing makes of HAND; not of one for WRIST.

    A code that says no more than the body part is of a model for anything there.
    """
    if not shown.body_parts:
        return True
    if terms & {*shown.terms, *(plain_term(part) for part in shown.body_parts)}:
        return True
    return not shown.terms and any(rulebook.terms.get(term) in shown.body_parts for term in terms)


def _view(accepts: Accepts, facts: InstanceFacts) -> GateClause:
    """A frontal model refuses a lateral view; most films name no view, and routing answers for those.

    Attributes that disagree are a conflict, never a guess.
    """
    signals = view_signals(facts)
    return GateClause(
        name=VIEW_GATE,
        expected=f"{_any_of(accepts.views)}, or absent",
        seen=in_words(signals),
        passed=not accepts.views or are_of(signals, accepts.views),
    )


def _age(accepts: Accepts, facts: InstanceFacts) -> GateClause:
    low, high = accepts.age_min_years, accepts.age_max_years
    bounds = f"{low or 0} or more" if high is None else f"{low or 0} to {high}"
    expected = f"{bounds} completed years{', or unknown' if accepts.accepts_unknown_age else ''}"
    ages = facts.completed_years
    if not ages:
        is_unlimited = low is None and high is None
        passed = accepts.accepts_unknown_age or is_unlimited
        return GateClause(name=AGE_GATE, expected=expected, seen=facts.age_conflict, passed=passed)
    # Where the attributes differ by a birthday, nobody knows on which side of it: each has to be inside.
    passed = all((low is None or years >= low) and (high is None or years <= high) for years in ages)
    return GateClause(name=AGE_GATE, expected=expected, seen=" or ".join(map(str, ages)), passed=passed)


def _open_to_all(clause: GateClause) -> GateClause:
    return replace(clause, expected=f"{clause.expected}, or any in the demonstration", passed=True)


def short_view(view: str) -> str:
    """View Position (0018,5101) as a known term, also from the meaning of a view's code; any other text as it is."""
    return view_named(view) or view


def _one_of(name: str, allowed: tuple[str, ...], seen: str) -> GateClause:
    passed = not allowed or seen.strip().upper() in allowed
    return GateClause(name=name, expected=_any_of(allowed), seen=seen.strip(), passed=passed)


def _any_of(allowed: tuple[str, ...]) -> str:
    return " or ".join(allowed) if allowed else "any"
