"""From which side an image was taken, in the terms of View Position (0018,5101), as headers say it.

A coded view is one attribute's; a description may name one, in words, and then may name several: "Chest PA and LAT" is
about two images and says nothing of either. Where no attribute codes a view, Patient Orientation still tells a lateral.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from domain.findings import Code
from domain.study import InstanceFacts
from domain.terms import SNOMED, plain_words

AP, PA, LEFT, RIGHT, LATERAL = "AP", "PA", "LL", "RL", "LATERAL"  # LATERAL: of a side that nobody names
FRONTAL = "FRONTAL"  # from a side that nobody names
DECUBITUS, OBLIQUE = "DECUBITUS", "OBLIQUE"

VIEW_POSITION = "View Position (0018,5101)"
_OPEN = {LATERAL: {LEFT, RIGHT}, FRONTAL: {AP, PA}}
# PS3.16 CID 4010, in SNOMED CT and in its retired designators. The words of its meaning speak for any other code.
_VIEW_CODES = {
    "399348003": AP, "R-10206": AP, "272479007": PA, "R-10214": PA, "399173006": LEFT, "R-10236": LEFT,
    "399198007": RIGHT, "R-10232": RIGHT, "399067008": LATERAL, "R-102CD": LATERAL, "399033003": FRONTAL,
    "R-10202": FRONTAL,
}  # fmt: skip

# Whole words as plain_words parts them; where one phrase begins like another, the longer one counts. Code Meanings of
# CID 4010 are among them. A decubitus film is frontal with a horizontal beam: no frontal model was made for it.
_PHRASES = {
    "FRONTAL": FRONTAL, "FRONTALE": FRONTAL, "FACE": FRONTAL, "FRENTE": FRONTAL,
    "AP": AP, "A P": AP, "ANTEROPOSTERIOR": AP, "ANTERO POSTERIOR": AP, "ANTEROPOSTERIORE": AP,
    "ANTERO POSTERIORE": AP, "ANTEROPOSTERIEUR": AP, "ANTERO POSTERIEUR": AP,
    "PA": PA, "P A": PA, "POSTEROANTERIOR": PA, "POSTERO ANTERIOR": PA, "POSTEROANTERIORE": PA,
    "POSTERO ANTERIORE": PA, "POSTEROANTERIEUR": PA, "POSTERO ANTERIEUR": PA,
    "LL": LEFT, "LEFT LATERAL": LEFT, "LEFT LAT": LEFT, "LLAT": LEFT,
    "RL": RIGHT, "RIGHT LATERAL": RIGHT, "RIGHT LAT": RIGHT, "RLAT": RIGHT,
    "LAT": LATERAL, "LATERAL": LATERAL, "LATERALE": LATERAL, "LATEROLATERALE": LATERAL,
    "PROFIL": LATERAL, "PROFILO": LATERAL, "PERFIL": LATERAL,
    "SEITLICH": LATERAL, "SEITLICHE": LATERAL, "SEITLICHES": LATERAL, "SEITL": LATERAL,
    "DECUBITUS": DECUBITUS, "DECUB": DECUBITUS, "LATERAL DECUBITUS": DECUBITUS, "LAT DECUBITUS": DECUBITUS,
    "LEFT LATERAL DECUBITUS": "LLD", "LLD": "LLD", "RIGHT LATERAL DECUBITUS": "RLD", "RLD": "RLD",
    "DECUBITO LATERAL": DECUBITUS, "DECUBITO LATERALE": DECUBITUS,
    "LAO": "LAO", "RAO": "RAO", "LPO": "LPO", "RPO": "RPO", "LLO": "LLO", "RLO": "RLO",
    "SCHRAG": OBLIQUE, "SCHRAEG": OBLIQUE, "OBLICUA": OBLIQUE, "OBLIQUA": OBLIQUE,
    "OBLIQUE": OBLIQUE, "LATERAL OBLIQUE": OBLIQUE, "AP OBLIQUE": OBLIQUE, "PA OBLIQUE": OBLIQUE,
    "ANTERO POSTERIOR OBLIQUE": OBLIQUE, "POSTERO ANTERIOR OBLIQUE": OBLIQUE,
}  # fmt: skip
_SAGITTAL = re.compile(r"[AP]\\[FH]")
_LONGEST = max(len(phrase.split()) for phrase in _PHRASES)
_LYING = frozenset((DECUBITUS, "LLD", "RLD"))


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewSignal:
    """One attribute that names a view. `view`: its own text, upper case, where that is no known view."""

    attribute: str
    view: str


def view_signals(facts: InstanceFacts) -> tuple[ViewSignal, ...]:
    """View Position and View Code Sequence, where there is any; else what the image's own descriptions name, and a
    Patient Orientation along the sagittal plane, which is a lateral's (PS3.3 C.7.6.1.1.1).

    Study Description (0008,1030) is about all images of the study, so it is not asked.
    """
    coded = [(VIEW_POSITION, facts.view_position)]
    meanings = [code.meaning.upper() for code in facts.view_codes]
    if facts.view_position in meanings:  # it stands there for an absent View Position
        coded.clear()
    coded += [("View Code Sequence (0054,0220)", _view_of_code(code)) for code in facts.view_codes]
    coded = [(attribute, text) for attribute, text in coded if text.strip()]
    described = [
        ("Series Description (0008,103E)", facts.series_description),
        ("Protocol Name (0018,1030)", facts.protocol_name),
        ("Patient Orientation (0020,0020)", LATERAL if _SAGITTAL.fullmatch(facts.patient_orientation) else ""),
    ]
    known = tuple(
        ViewSignal(attribute=attribute, view=view)
        for attribute, text in coded or described
        if (view := view_named(text))
    )
    if coded and not known:
        attribute, text = coded[0]
        return (ViewSignal(attribute=attribute, view=text.strip().upper()),)
    return known


def are_of(signals: Sequence[ViewSignal], views: Sequence[str]) -> bool:
    """Whether each attribute names one of these views, and all the same one; they contradict each other otherwise."""
    is_wanted = all(any(is_same_view(one.view, view) for view in views) for one in signals)
    return is_wanted and all(is_same_view(one.view, signals[0].view) for one in signals)


def in_words(signals: Sequence[ViewSignal]) -> str:
    """The views, and who named them; "" where nobody has."""
    if [one.attribute for one in signals] == [VIEW_POSITION]:
        return signals[0].view
    return " and ".join(f"{one.view} by {one.attribute}" for one in signals)


def view_named(text: str) -> str:
    """The one view that a text names; "" where it names none, or several."""
    views = set(_views_in(plain_words(text).split()))
    if views & _LYING:
        views -= {AP, PA, FRONTAL}
    views -= {view for view, sides in _OPEN.items() if views & sides}
    return views.pop() if len(views) == 1 else ""


def is_same_view(one: str, other: str) -> bool:
    """Also where one of them leaves the side open."""
    return one == other or other in _OPEN.get(one, ()) or one in _OPEN.get(other, ())


def _view_of_code(code: Code) -> str:
    """A text that names the view. A code's meaning may be in any language, and may be missing."""
    known = _VIEW_CODES.get(code.value, "") if code.scheme.upper() in SNOMED else ""
    return known or code.meaning.upper() or code.value


def _views_in(words: list[str]) -> Iterator[str]:
    start = 0
    while start < len(words):
        phrases = ((count, " ".join(words[start : start + count])) for count in range(_LONGEST, 0, -1))
        count, view = next(((count, _PHRASES[phrase]) for count, phrase in phrases if phrase in _PHRASES), (1, ""))
        if view:
            yield view
        start += count
