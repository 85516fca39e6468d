"""What a serving node installs, and under which licences (docs/adr/0007): none that binds what it is used with."""

import re
from importlib.metadata import Distribution, distribution

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

COPYLEFT = re.compile(r"GPL|General Public|MPL|Mozilla|EUPL|CDDL|SSPL|Commons Clause|Business Source", re.IGNORECASE)
PERMISSIVE = re.compile(r"MIT|BSD|Apache|PSF|HPND|ISC|Zlib|Unlicense", re.IGNORECASE)
# Used unmodified, as libraries that can be replaced; and a list of certificates.
KNOWN = {"psycopg", "psycopg-binary", "certifi"}


def installed_with(name: str, extras: tuple[str, ...] = (), found: dict[str, Distribution] | None = None) -> list[str]:
    """The names of all that comes with it."""
    found = {} if found is None else found
    found[canonicalize_name(name)] = distribution(name)
    for text in distribution(name).requires or ():
        needed = Requirement(text)
        is_asked = needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras))
        if is_asked and (needed.extras or canonicalize_name(needed.name) not in found):
            installed_with(needed.name, tuple(needed.extras), found)
    return sorted(found)


def licence_of(name: str) -> str:
    """By its SPDX expression, its classifiers, or its own words, in this order."""
    said = distribution(name).metadata.json
    classified = [line.rpartition(":: ")[2] for line in said.get("classifier", ()) if line.startswith("License")]
    return str(said.get("license_expression") or ", ".join(classified) or said.get("license") or "")


@pytest.mark.parametrize("name", installed_with("collimator"))
def test_what_a_node_installs_is_permissive_or_one_of_the_three_that_are_known(name: str) -> None:
    licence = licence_of(name)
    if name in KNOWN:
        assert COPYLEFT.search(licence)
    else:
        assert PERMISSIVE.search(licence)
        assert not COPYLEFT.search(licence)


def test_a_walk_finds_what_comes_with_what_comes() -> None:
    assert {"sqlalchemy", "psycopg-binary", "greenlet", "certifi", "numpy"} <= set(installed_with("collimator"))
    assert "torch" not in installed_with("collimator")
