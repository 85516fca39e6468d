"""The result objects that a step wrote to disk, as the next step needs them."""

from dataclasses import dataclass

from storage.studies import ResultRow


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    rows: tuple[ResultRow, ...]
