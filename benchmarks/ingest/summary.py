"""Medians over the rounds, and ratios to the peers: each taken inside a round, where both had the same machine."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from benchmarks.ingest.cell import Cell

PEERS = ("storescp", "orthanc-tuned", "pynetdicom", "collimator", "floor-durable")
COMPARED = ("instances_per_s", "cpu_s_per_gb")


@dataclass(frozen=True, kw_only=True, slots=True)
class Median:
    """One receiver in one setting.

    rounds: those that did not fail; `failures` says why the others did.
    figures: medians, by the names in `cell.Figures`; those that do not apply are missing.
    slowest, fastest: instances per second.
    ratios: by peer, then by figure: how much this receiver has of what the peer has.
    """

    load: str
    associations: int
    sender: str
    receiver: str
    rounds: int
    failures: tuple[str, ...]
    figures: dict[str, float]
    slowest: float | None
    fastest: float | None
    ratios: dict[str, dict[str, float]]


Setting = tuple[str, int, str, str]


def summarize(cells: Sequence[Cell]) -> list[Median]:
    """In the order in which they were measured first."""
    settings: dict[Setting, dict[int, Cell]] = {}
    for cell in cells:
        plan = cell.plan
        setting = (plan.load, plan.associations, plan.sender, plan.receiver)
        settings.setdefault(setting, {})[plan.round] = cell
    return [_median(setting, settings) for setting in settings]


def ratio(median: Median, peer: str, figure: str) -> float | None:
    """None where one of both has no such figure."""
    return median.ratios.get(peer, {}).get(figure)


def _median(setting: Setting, settings: dict[Setting, dict[int, Cell]]) -> Median:
    load, associations, sender, receiver = setting
    own = settings[setting]
    speeds = [cell.figures.instances_per_s for cell in own.values() if cell.figures]
    ratios = {}
    for peer in PEERS:
        theirs = settings.get((load, associations, sender, peer), {})
        if peer != receiver and (found := _ratios(own, theirs)):
            ratios[peer] = found
    return Median(
        load=load,
        associations=associations,
        sender=sender,
        receiver=receiver,
        rounds=len(speeds),
        failures=tuple(cell.failure for cell in own.values() if cell.failure),
        figures=_medians(own.values()),
        slowest=min(speeds, default=None),
        fastest=max(speeds, default=None),
        ratios=ratios,
    )


def _medians(cells: Iterable[Cell]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for cell in cells:
        for name, value in asdict(cell.figures).items() if cell.figures else ():
            if value is not None:
                values.setdefault(name, []).append(value)
    return {name: statistics.median(some) for name, some in values.items()}


def _ratios(own: dict[int, Cell], theirs: dict[int, Cell]) -> dict[str, float]:
    pairs = [
        (own[number].figures, theirs[number].figures)
        for number in own
        if number in theirs and own[number].figures and theirs[number].figures
    ]
    found = {}
    for name in COMPARED:
        quotients = [getattr(a, name) / getattr(b, name) for a, b in pairs if getattr(b, name)]
        if quotients:
            found[name] = statistics.median(quotients)
    return found
