"""Which model looks at which image, and why.

    decide(study, rulebook)
      └─ for each image   body part from every signal in its header; two that disagree are a conflict, never a guess
         └─ rules in order: the first whose clauses all hold names the package
            └─ the package's gates (inference/gates.py), once its version is chosen: it may still refuse the image

Body Part Examined is wrong in about 15 % of real studies and often absent, so it is one signal among several.
Every signal, every clause and what it saw is part of the decision: `rules explain` and the study's history print it,
and the SR says in a sentence why an image went where it went.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from domain.findings import Code
from domain.study import Instance, InstanceFacts, Study
from domain.terms import code_key, plain_term, plain_words
from domain.versions import Choice
from domain.views import are_of, in_words, view_signals

BODY_PART = "body part"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """An ordered rule. An empty tuple or None asks nothing of that attribute."""

    name: str
    package: str
    body_parts: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    callers: tuple[str, ...] = ()
    age_min_years: float | None = None
    age_max_years: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleBook:
    """Routing as data.

    `terms`: Body Part Examined value -> body part. `codes`: code of an anatomic region or a procedure -> body part, a
    value of SNOMED's as it is, one of another scheme as SCHEME:VALUE.
    `words`: word in a description -> body part. `modalities`: Modality that by itself tells the body part.
    `within`: body part -> the larger one that holds it: a film of the one is also one of the other.
    """

    rules: tuple[Rule, ...]
    terms: Mapping[str, str]
    codes: Mapping[str, str]
    words: Mapping[str, str]
    modalities: Mapping[str, str]
    within: Mapping[str, str] = field(default_factory=dict)


# Knows no term and no word.
NO_RULEBOOK = RuleBook(rules=(), terms={}, codes={}, words={}, modalities={})


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What a coded attribute says is shown: the terms of Body Part Examined that it names, and their body parts.

    Neither: nobody knows what it says. A code that is known and whose meaning names no term has a body part alone.
    """

    seen: str
    terms: tuple[str, ...]
    body_parts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    """One attribute that says something about the body part. `body_parts` is empty when the word is unknown."""

    attribute: str
    seen: str
    body_parts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Clause:
    """One condition of one rule, the value it saw, and whether it held."""

    rule: str
    attribute: str
    expected: str
    seen: str
    holds: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class GateClause:
    """One gate of a package: what its manifest accepts, what the image has, and whether it may pass.

    `seen` is empty where the attribute was.
    """

    name: str
    expected: str
    seen: str
    passed: bool

    @property
    def words(self) -> str:
        """As a clause of a sentence that says why an image was refused."""
        return f"{self.spoken_name} {self.seen or 'unknown'} where {self.expected} is accepted"

    @property
    def spoken_name(self) -> str:
        return self.name.replace("_", " ")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageDecision:
    """`package` is None when the image goes nowhere; `reason` says why in one sentence.

    `gates`: of the package, asked once its version is chosen. A package that is outside the plan is not asked, and a
    node of an earlier version has not kept them.
    """

    sop_instance_uid: str
    package: str | None
    reason: str
    signals: tuple[Signal, ...]
    clauses: tuple[Clause, ...]
    gates: tuple[GateClause, ...] = ()

    @property
    def refusal(self) -> str:
        """Why the package refuses the image; "" where it does not."""
        return why_refused(self.gates)

    @property
    def outcome(self) -> str:
        """The reason, and what the package has to say to it."""
        return f"{self.reason}, which refuses it: {self.refusal}" if self.refusal else self.reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Silent:
    """A package that was to look at an image, and is not in the plan or not configured."""

    package: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """A study's routing: one ImageDecision for each instance, and one Choice of version for each package.

    silent: packages that do not answer; what the others find goes out all the same.
    """

    images: tuple[ImageDecision, ...]
    choices: tuple[Choice, ...] = ()
    silent: tuple[Silent, ...] = ()

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages that get at least one image, in the order of the images."""
        return tuple(dict.fromkeys(image.package for image in self.images if image.package is not None))

    @property
    def answering(self) -> tuple[str, ...]:
        silent = {one.package for one in self.silent}
        return tuple(package for package in self.packages if package not in silent)

    def choice(self, package: str) -> Choice:
        """The version that was chosen; one without a number where a node before versions has decided."""
        return next((choice for choice in self.choices if choice.package == package), Choice(package=package))

    @property
    def reason(self) -> str:
        """One sentence for the whole study."""
        chosen = [image for image in self.images if image.package is not None]
        return "; ".join(dict.fromkeys(image.outcome for image in chosen or self.images)) or "the study has no instance"


def decide(study: Study, rulebook: RuleBook) -> Decision:
    """Route every instance of a study."""
    return Decision(
        images=tuple(decide_image(instance, study.calling_ae_title, rulebook) for instance in study.instances)
    )


def decide_image(instance: Instance, calling_ae_title: str, rulebook: RuleBook) -> ImageDecision:
    """Route one instance."""

    def answer(
        package: str | None, reason: str, signals: tuple[Signal, ...] = (), clauses: tuple[Clause, ...] = ()
    ) -> ImageDecision:
        return ImageDecision(
            sop_instance_uid=instance.sop_instance_uid,
            package=package,
            reason=reason,
            signals=signals,
            clauses=clauses,
        )

    if not instance.facts.has_pixels:
        return answer(None, "not an image")
    signals = tuple(body_part_signals(instance.facts, rulebook))
    body_part, why = agree_on_body_part(signals)
    if body_part is None:
        return answer(None, why, signals)

    tried: list[Clause] = []
    for rule in rulebook.rules:
        clauses = list(clauses_of(rule, instance.facts, body_part, calling_ae_title))
        tried += clauses
        if all(clause.holds for clause in clauses):
            return answer(
                rule.package, f"{why}, so rule '{rule.name}' sends it to {rule.package}", signals, tuple(tried)
            )
    return answer(None, f"{why}, and no rule takes it: {nearest_miss(tried)}", signals, tuple(tried))


def body_part_signals(facts: InstanceFacts, rulebook: RuleBook) -> list[Signal]:
    """Every attribute that is present and could tell the body part, coded ones first."""
    signals = []
    of_modality = rulebook.modalities.get(facts.modality)
    if of_modality:
        signals.append(Signal(attribute="Modality (0008,0060)", seen=facts.modality, body_parts=(of_modality,)))
    for value in facts.body_parts_examined:
        parts = parts_of_term(value, rulebook)
        signals.append(Signal(attribute="Body Part Examined (0018,0015)", seen=value, body_parts=parts))
    # Each region is in the image. Of the study's procedures an image may be any one, as of the parts in a description.
    coded = [("Anatomic Region Sequence (0008,2218)", [code]) for code in facts.anatomic_regions]
    if facts.procedure_codes:
        coded.append(("Procedure Code Sequence (0008,1032)", list(facts.procedure_codes)))
    for attribute, codes in coded:
        parts = tuple(dict.fromkeys(part for code in codes for part in parts_of_code(code, rulebook)))
        seen = " and ".join(code.meaning or code.value for code in codes)
        signals.append(Signal(attribute=attribute, seen=seen, body_parts=parts))
    texts = [
        ("Study Description (0008,1030)", facts.study_description),
        ("Series Description (0008,103E)", facts.series_description),
        ("Protocol Name (0018,1030)", facts.protocol_name),
    ]
    for attribute, text in texts:
        if text:
            signals.append(Signal(attribute=attribute, seen=text, body_parts=parts_in(text, rulebook)))
    return [replace(one, body_parts=_also_within(one.body_parts, of_modality, rulebook)) for one in signals]


def shown_in(facts: InstanceFacts, rulebook: RuleBook) -> list[Shown]:
    """What the coded attributes say, term by term: routing asks which body part it is, a model's gate which bone."""
    shown = [
        Shown(seen=value, terms=terms_in(value, rulebook), body_parts=parts_of_term(value, rulebook))
        for value in facts.body_parts_examined
    ]
    for code in facts.anatomic_regions:
        terms = terms_in(code.meaning, rulebook)
        part = part_of_code(code, rulebook)
        shown.append(
            Shown(
                seen=code.meaning or code.value,
                # The code is what was meant; words of its meaning that are about another part are no terms of it.
                terms=tuple(term for term in terms if part in (None, rulebook.terms[term])),
                body_parts=(part,) if part else tuple(dict.fromkeys(rulebook.terms[term] for term in terms)),
            )
        )
    return [_narrowed(one, rulebook.modalities.get(facts.modality), rulebook) for one in shown]


def terms_in(text: str, rulebook: RuleBook) -> tuple[str, ...]:
    """The known terms of Body Part Examined in a text: the whole of it, "LOWER LEG", else its words, "CHEST PA"."""
    if (term := plain_term(text)) in rulebook.terms:
        return (term,)
    return _known_words(text, rulebook.terms)


def parts_of_term(value: str, rulebook: RuleBook) -> tuple[str, ...]:
    """What a value of Body Part Examined names. Where it is no known term, the words of descriptions may be in it: many
    modalities write it in their users' language.
    """
    parts = tuple(dict.fromkeys(rulebook.terms[term] for term in terms_in(value, rulebook)))
    return parts or parts_in(value, rulebook)


def parts_in(text: str, rulebook: RuleBook) -> tuple[str, ...]:
    """The body parts that the words of a text name."""
    return tuple(dict.fromkeys(rulebook.words[word] for word in _known_words(text, rulebook.words)))


def parts_of_code(code: Code, rulebook: RuleBook) -> tuple[str, ...]:
    """What a code stands for, or what the words of its meaning name."""
    part = part_of_code(code, rulebook)
    return (part,) if part else parts_in(code.meaning, rulebook)


def part_of_code(code: Code, rulebook: RuleBook) -> str | None:
    """What a code stands for: a value means nothing without its scheme (PS3.3 8.1)."""
    return rulebook.codes.get(code_key(f"{code.scheme}:{code.value}")) if code.scheme else None


def agree_on_body_part(signals: tuple[Signal, ...]) -> tuple[str | None, str]:
    """The one body part that the signals agree on, or None, and a sentence that says why.

    Coded attributes must agree among themselves. A description may name several parts and agrees with a coded
    attribute when it names that part among them.
    """
    telling = [signal for signal in signals if signal.body_parts]
    if not telling:
        return None, "no attribute tells the body part"
    candidates = set(telling[0].body_parts)
    for signal in telling[1:]:
        candidates &= set(signal.body_parts)
    if len(candidates) == 1:
        part = candidates.pop()
        first = next((signal for signal in telling if len(signal.body_parts) == 1), telling[0])
        return part, f"{first.attribute} '{first.seen}' says {part}"
    said = ", ".join(f"{signal.attribute} '{signal.seen}' says {' or '.join(signal.body_parts)}" for signal in telling)
    return None, f"conflict about the body part: {said}"


def clauses_of(rule: Rule, facts: InstanceFacts, body_part: str, calling_ae_title: str) -> list[Clause]:
    """The conditions that a rule sets, each with what it saw."""

    def clause(attribute: str, expected: str, seen: str, holds: bool) -> Clause:
        return Clause(rule=rule.name, attribute=attribute, expected=expected, seen=seen, holds=holds)

    clauses = []
    for attribute, allowed, seen in (
        (BODY_PART, rule.body_parts, body_part),
        ("Modality (0008,0060)", rule.modalities, facts.modality),
        ("Calling AE Title", rule.callers, calling_ae_title),
    ):
        if allowed:
            clauses.append(clause(attribute, " or ".join(allowed), seen or "absent", seen in allowed))
    if rule.views:
        views = view_signals(facts)
        expected = " or ".join(rule.views)
        clauses.append(clause("view", expected, in_words(views) or "absent", bool(views) and are_of(views, rule.views)))
    if rule.age_min_years is not None or rule.age_max_years is not None:
        ages = facts.completed_years
        low = rule.age_min_years if rule.age_min_years is not None else 0.0
        high = rule.age_max_years if rule.age_max_years is not None else 150.0
        # Ages are completed years: a child of 5.9 years is 5. An unknown age is never inside a population.
        holds = bool(ages) and all(low <= years <= high for years in ages)
        clauses.append(
            clause(
                "Patient's Age (0010,1010)",
                f"{low:g} to {high:g} years" if rule.age_max_years is not None else f"at least {low:g} years",
                " or ".join(f"{years} years" for years in ages) or facts.age_conflict or "unknown",
                holds,
            )
        )
    return clauses


def nearest_miss(clauses: list[Clause]) -> str:
    """The failed clause of the rule that came nearest, which is what a reader wants to know."""
    rules: dict[str, list[Clause]] = {}
    for clause in clauses:
        rules.setdefault(clause.rule, []).append(clause)
    if not rules:
        return "there are no rules"
    rules = {name: tried for name, tried in rules.items() if all(c.holds for c in tried if c.attribute == BODY_PART)}
    if not rules:
        return "no rule is about this body part"
    nearest = min(rules.values(), key=lambda tried: sum(not clause.holds for clause in tried))
    missed = next(clause for clause in nearest if not clause.holds)
    return f"rule '{missed.rule}' wants {missed.attribute} {missed.expected}, and it is {missed.seen}"


def explain(decision: Decision) -> tuple[str, ...]:
    """The whole decision as lines of text; the same lines go to the study's history and the terminal."""
    lines = []
    for image in decision.images:
        lines.append(f"{image.sop_instance_uid}: {image.outcome}")
        lines += [f"  {s.attribute} '{s.seen}': {' or '.join(s.body_parts) or 'no known word'}" for s in image.signals]
        lines += [
            f"  rule '{c.rule}': {c.attribute} wants {c.expected}, saw {c.seen}: {'yes' if c.holds else 'no'}"
            for c in image.clauses
        ]
        lines += [
            f"  gate of {image.package}: {g.spoken_name} wants {g.expected}, saw {g.seen or 'none'}: "
            f"{'yes' if g.passed else 'no'}"
            for g in image.gates
        ]
    lines += [f"{choice.package}: {choice.why}" for choice in decision.choices]
    lines += [f"{one.package}: does not answer: {one.why}" for one in decision.silent]
    return tuple(lines)


def why_refused(gates: Iterable[GateClause]) -> str:
    """Every gate that is shut, in one clause of a sentence; "" where all are open."""
    return "; ".join(gate.words for gate in gates if not gate.passed)


def _known_words(text: str, table: Mapping[str, str]) -> tuple[str, ...]:
    """The words of a text that are in a table, each once; HANDS is there as HAND."""
    words = (word if word in table else word.removesuffix("S") for word in plain_words(text).split())
    return tuple(dict.fromkeys(word for word in words if word in table))


def _also_within(parts: tuple[str, ...], of_modality: str | None, rulebook: RuleBook) -> tuple[str, ...]:
    """HEAD on a panoramic film is no other part: what its Modality tells lies within it."""
    is_wider = of_modality is not None and of_modality not in parts and rulebook.within.get(of_modality) in parts
    return (*parts, of_modality) if of_modality and is_wider else parts


def _narrowed(shown: Shown, of_modality: str | None, rulebook: RuleBook) -> Shown:
    """As `_also_within`; its terms are those of the larger part, and say nothing more of the one within."""
    parts = _also_within(shown.body_parts, of_modality, rulebook)
    return shown if parts == shown.body_parts else replace(shown, terms=(), body_parts=parts)
