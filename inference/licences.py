"""What the licence of published weights asks of the people who use them, and whether they must accept it by name.

    the manifest's text -> terms by SPDX identifier, else by what it says of itself, else unknown terms, which bind

A licence *binds* where it limits what the user may do: copyleft, no commercial use, limits of use, or terms that nobody
here has read. One that only asks to keep its notices does not. This is a sieve and not legal advice.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

SPDX_PAGE = "https://spdx.org/licenses/{}.html"


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """`asks`: one or two plain sentences."""

    binds: bool
    asks: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Licence:
    """`name` as the manifest has it: an SPDX expression where there is one. It is what a person accepts."""

    name: str
    url: str
    binds: bool
    asks: str


def licence_of(name: str, url: str = "") -> Licence:
    """The terms of a licence; of a conjunction such as "Apache-2.0 AND CC-BY-4.0", of all its parts.

    Args:
        name: an SPDX expression, or whatever the weights' owner states.
        url: where its text is; empty: SPDX's own page of the first identifier that it names.
    """
    parts = [part.strip("() ") for part in re.split(r"\s+AND\s+", name)]
    terms = [_terms(part) for part in parts]
    known = [spdx for part in parts for spdx in SPDX if spdx.casefold() == part.casefold()]
    return Licence(
        name=name,
        url=url or (SPDX_PAGE.format(known[0]) if known else ""),
        binds=any(one.binds for one in terms),
        asks=" ".join(dict.fromkeys(one.asks for one in terms)),
    )


def is_accepted(licence: Licence, accepted_name: str) -> bool:
    """Whether somebody named this licence, and not another one."""
    return accepted_name.strip().casefold() == licence.name.casefold()


def _terms(part: str) -> Terms:
    if known := [terms for spdx, terms in SPDX.items() if spdx.casefold() == part.casefold()]:
        return known[0]
    # An alternative or an exception changes what an identifier means, and nobody here has read how.
    is_compound = re.search(r"\b(OR|WITH)\b", part) is not None
    stated = None if is_compound else next((terms for pattern, terms in STATED if pattern.search(part)), None)
    return stated or UNKNOWN


_NOT_COMMERCIALLY = "You may not use it commercially: ask its owner whether a hospital's or practice's use is that."

NOTICES = Terms(
    binds=False, asks="You may use, change and pass it on, also commercially. Whoever passes it on keeps its notices."
)
NOTHING = Terms(binds=False, asks="It asks for nothing.")
CREDIT = Terms(binds=False, asks="You may use, change and pass it on, also commercially. Credit its makers.")
CREDIT_SAME = Terms(
    binds=True, asks="Credit its makers. Whatever you make of it and pass on must be under the same licence."
)
WEAK_COPYLEFT = Terms(
    binds=True, asks="Whoever passes it on must give the source of it, and of changes to it, under the same licence."
)
COPYLEFT = Terms(
    binds=True,
    asks="Whoever passes it on, or a program that contains it, must give all of the source under the same licence.",
)
NETWORK_COPYLEFT = Terms(
    binds=True,
    asks="Whoever passes it on, or lets others use it over a network, must give them all of the source under the same "
    "licence.",
)
NON_COMMERCIAL = Terms(binds=True, asks=_NOT_COMMERCIALLY)
NON_COMMERCIAL_SAME = Terms(
    binds=True, asks=f"{_NOT_COMMERCIALLY} Whatever you make of it and pass on must be under the same licence."
)
NON_COMMERCIAL_AS_IS = Terms(binds=True, asks=f"{_NOT_COMMERCIALLY} You may not pass on anything that you make of it.")
AS_IS = Terms(binds=True, asks="Credit its makers. You may not pass on anything that you make of it.")
LIMITED_USE = Terms(
    binds=True, asks="It forbids some uses, often medical ones. Whoever passes it on must forbid them too."
)
UNKNOWN = Terms(
    binds=True, asks="Collimator does not know these terms: read them, and decide whether you may use the weights."
)

SPDX: Mapping[str, Terms] = {
    **dict.fromkeys(("Apache-2.0", "MIT", "MIT-0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib"), NOTICES),
    **dict.fromkeys(("CC0-1.0", "0BSD", "Unlicense"), NOTHING),
    **dict.fromkeys(("CC-BY-3.0", "CC-BY-4.0"), CREDIT),
    **dict.fromkeys(("CC-BY-SA-3.0", "CC-BY-SA-4.0"), CREDIT_SAME),
    **dict.fromkeys(
        (
            *("MPL-2.0", "EPL-2.0", "LGPL-2.1", "LGPL-2.1-only", "LGPL-2.1-or-later"),
            *("LGPL-3.0", "LGPL-3.0-only", "LGPL-3.0-or-later"),
        ),
        WEAK_COPYLEFT,
    ),
    **dict.fromkeys(
        ("GPL-2.0", "GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0", "GPL-3.0-only", "GPL-3.0-or-later"), COPYLEFT
    ),
    **dict.fromkeys(("AGPL-3.0", "AGPL-3.0-only", "AGPL-3.0-or-later"), NETWORK_COPYLEFT),
    **dict.fromkeys(("CC-BY-NC-3.0", "CC-BY-NC-4.0", "PolyForm-Noncommercial-1.0.0"), NON_COMMERCIAL),
    **dict.fromkeys(("CC-BY-NC-SA-3.0", "CC-BY-NC-SA-4.0"), NON_COMMERCIAL_SAME),
    "CC-BY-NC-ND-4.0": NON_COMMERCIAL_AS_IS,
    "CC-BY-ND-4.0": AS_IS,
}

# What owners write who name no SPDX identifier; the first that fits. All of them bind: a permissive licence that is
# not named by its identifier has to be read by somebody first.
STATED: tuple[tuple[re.Pattern[str], Terms], ...] = (
    (re.compile(r"non-?\s?commercial|research (use )?only|academic|\bNC\b", re.IGNORECASE), NON_COMMERCIAL),
    (re.compile(r"\bA-?GPL|affero", re.IGNORECASE), NETWORK_COPYLEFT),
    (re.compile(r"\bL-?GPL|lesser general public", re.IGNORECASE), WEAK_COPYLEFT),
    (re.compile(r"\bGPL|general public licen[cs]e", re.IGNORECASE), COPYLEFT),
    (re.compile(r"\bRAIL|responsible ai|use restrictions", re.IGNORECASE), LIMITED_USE),
)
