"""What a writer is. A module in reports/writers/ defines one, `WRITER`, and is found by its name."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from reports.direct import DirectDraft
from reports.draft import Draft
from reports.material import Material

Drafted = Draft | DirectDraft


@dataclass(frozen=True, kw_only=True, slots=True)
class Writer:
    """One kind of result. `write` drafts the objects of this kind.

    `kind` is the module's name; every object of it is of one SOP class. `series_number` tells the kinds apart in a
    viewer's list of series.
    """

    kind: str
    sop_class_uid: str
    series_number: int
    write: Callable[[Material], Iterable[Drafted]]
