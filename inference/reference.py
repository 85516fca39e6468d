"""How scores and images were spread where a model was measured: published in its manifest, for domain/drift.py.

[reference]
about = "4,376 radiographs of the test set"
[reference.counts]
"score Pneumonia" = { "0.1" = 2900, "0.8" = 1476 }      # of each feature, how many images were in each bin
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from domain.drift import OF_IMAGES, REFERENCE_IMAGES, Counts, is_bin
from inference.labels import Label, Measure
from inference.toml_table import Table

MOST_IMAGES = 10**9


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """`about`: which images, for people. `counts`: how many of them, by feature and bin; a feature that is not there is
    learned where the model serves.
    """

    about: str
    counts: Mapping[str, Counts]


def read_reference(table: Table, labels: tuple[Label, ...], measures: tuple[Measure, ...]) -> Reference:
    """
    Raises:
        Misconfigured: a feature or a bin is none that drift counts, or there are too few images to hold others against.
    """
    about, counts = table.text("about"), table.table("counts")
    known = {*OF_IMAGES, *(f"score {one.label}" for one in labels), *(f"value {one.label}" for one in measures)}
    read = {}
    for feature in counts.values:
        counts.require(feature in known, feature, f"one of {sorted(known)} as the key")
        bins = counts.table(feature)
        for name in bins.values:
            bins.require(is_bin(feature, name), name, "a bin that drift counts as the key (domain/drift.py)")
        read[feature] = {name: bins.integer(name, low=0, high=MOST_IMAGES) for name in bins.values}
        is_enough = sum(read[feature].values()) >= REFERENCE_IMAGES
        counts.require(is_enough, feature, f"at least {REFERENCE_IMAGES} images")
    table.finish()
    return Reference(about=about, counts=read)


def as_toml(reference: Reference) -> str:
    """The section as a manifest holds it."""
    lines = ["[reference]", f"about = {_quoted(reference.about)}", "[reference.counts]"]
    for feature, bins in sorted(reference.counts.items()):
        inside = ", ".join(f"{_quoted(name)} = {count}" for name, count in sorted(bins.items()))
        lines.append(f"{_quoted(feature)} = {{ {inside} }}")
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    """JSON's strings are TOML's, but for DEL, and for characters that JSON would write as two halves."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
