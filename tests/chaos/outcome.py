"""What was done in a run, what came of it, and which promises it broke."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Outcome:
    """`done_to`: how often each thing was done. `taken_over_s`: from then on until the worker had no job left.

    `parked`: studies that the node put aside because three workers had died under them; a person had them retried.
    `broken`: for each promise that was not kept, where.
    """

    database: str
    seed: int
    lease_s: float
    seconds: float = 0.0
    drained_after_s: float = 0.0
    done_to: Counter[str] = field(default_factory=Counter)
    taken_over_s: dict[str, list[float]] = field(default_factory=dict)
    studies: int = 0
    attempts: int = 0
    delivered: int = 0
    results: int = 0
    ledger_rows: int = 0
    stores: int = 0
    stores_again: int = 0
    parked: int = 0
    broken: dict[str, list[str]] = field(default_factory=dict)

    def is_clean(self) -> bool:
        return not any(self.broken.values())

    def lines(self) -> Iterator[str]:
        """The table, in Markdown."""
        yield f"| {self.database}, seed {self.seed}, lease {self.lease_s:g} s | |"
        yield "| --- | ---: |"
        yield from (f"| {what} | {times} |" for what, times in sorted(self.done_to.items()))
        for what, seconds in self.taken_over_s.items():
            shown = ", ".join(f"{s:.1f}" for s in sorted(seconds))
            yield f"| {what}: its work was taken over after s | {shown} |"
        yield f"| the run took s, of which the last {self.drained_after_s:.0f} in peace | {self.seconds:.0f} |"
        yield f"| studies sent, in {self.attempts} attempts | {self.studies} |"
        yield f"| studies done | {self.delivered} |"
        yield f"| results that the PACS holds | {self.results} |"
        yield f"| C-STOREs that it saw, {self.stores_again} of them with bytes that it had | {self.stores} |"
        yield f"| ledger rows | {self.ledger_rows} |"
        yield f"| studies put aside after three workers died under them, and retried by hand | {self.parked} |"
        for promise, where in self.broken.items():
            yield f"| {promise} | {len(where)}{': ' + '; '.join(where[:5]) if where else ''} |"
