"""What a run leaves: tables for people, JSON for programs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmarks.ingest.associations import AssociationCosts
from benchmarks.ingest.cell import Cell
from benchmarks.ingest.conditions import Conditions
from benchmarks.ingest.goals import Outcome
from benchmarks.ingest.summary import Median, ratio
from benchmarks.page import spoken, table

COMPARED_WITH = ("storescp", "orthanc-tuned", "pynetdicom", "floor-durable")


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """
    is_complete: False where somebody ended it early.
    skipped: receivers that this machine cannot run, and why.
    """

    conditions: Conditions
    rounds: int
    is_quick: bool
    is_complete: bool
    skipped: dict[str, str]
    cells: list[Cell]
    medians: list[Median]
    association_costs: list[AssociationCosts]
    goals: dict[str, list[Outcome]]

    @property
    def failures(self) -> list[str]:
        cells = [f"{_where(cell)}: {cell.failure}" for cell in self.cells if cell.failure]
        costs = [f"associations, {costs.receiver}: {costs.failure}" for costs in self.association_costs]
        return cells + [line for line, costs in zip(costs, self.association_costs, strict=True) if costs.failure]


def as_json(run: Run) -> str:
    return json.dumps({"part": "ingest", **asdict(run)}, indent=2) + "\n"


def as_markdown(run: Run) -> str:
    """Conditions, figures, goals, and what was skipped or failed."""
    parts = [_conditions(run), _figures(run.medians)]
    if run.association_costs:
        parts.append(_association_costs(run.association_costs))
    parts += [_goals(run.goals)]
    parts += [_list("Skipped", (f"{name}: {reason}" for name, reason in run.skipped.items()))]
    parts += [_list("Failed", run.failures)]
    return "\n".join(part for part in parts if part)


def one_line(cell: Cell) -> str:
    """For those who wait."""
    if cell.figures is None:
        return f"{_where(cell)}: FAILED: {cell.failure}"
    figures = cell.figures
    return (
        f"{_where(cell)}: {figures.instances_per_s:.0f}/s, {figures.mb_per_s:.0f} MB/s, "
        f"{figures.cpu_s_per_gb:.2f} CPU s/GB"
    )


def _where(cell: Cell) -> str:
    plan = cell.plan
    return f"round {plan.round}, {plan.load}, associations: {plan.associations}, {plan.sender}, {plan.receiver}"


def _conditions(run: Run) -> str:
    kind = "quick run: it shows that everything works, not how fast" if run.is_quick else f"{run.rounds} rounds"
    kind += "" if run.is_complete else ", ended early"
    return spoken(run.conditions, kind=kind, loads=[cell.load_average for cell in run.cells])


def _figures(medians: Sequence[Median]) -> str:
    heads = (
        "load", "assoc.", "sender", "receiver", "instances/s (slowest–fastest)", "MB/s", "CPU s/GB", "CPU s/1000",
        "sender CPU s/GB", "answer ms", "RSS MB", "PSS MB", "indexed after s", *(f"× {peer}" for peer in COMPARED_WITH),
    )  # fmt: skip
    return table(heads, (_figure_row(median) for median in medians))


def _figure_row(median: Median) -> list[str]:
    where = [median.load, str(median.associations), median.sender, median.receiver]
    if not median.rounds:
        return [*where, "failed", *[""] * (8 + len(COMPARED_WITH))]
    figures = median.figures
    failed = f", {len(median.failures)} failed" if median.failures else ""
    span = f" ({median.slowest:.4g}–{median.fastest:.4g}{failed})" if median.rounds > 1 or failed else ""
    speed = f"{figures['instances_per_s']:.4g}{span}"
    plain = [
        ("mb_per_s", ".0f"),
        ("cpu_s_per_gb", ".2f"),
        ("cpu_s_per_1000", ".2f"),
        ("sender_cpu_s_per_gb", ".2f"),
        ("latency_ms", ".2f"),
        ("peak_rss_mb", ".0f"),
        ("peak_pss_mb", ".0f"),
        ("indexed_after_s", ".2f"),
    ]
    return [
        *where,
        speed,
        *(_number(figures.get(name), form) for name, form in plain),
        *(_compared(median, peer) for peer in COMPARED_WITH),
    ]


def _compared(median: Median, peer: str) -> str:
    speed, cpu = ratio(median, peer, "instances_per_s"), ratio(median, peer, "cpu_s_per_gb")
    if peer == median.receiver:
        return "1"
    return "" if speed is None else f"{speed:.2f} (CPU {_number(cpu, '.2f') or '?'})"


def _association_costs(costs: Iterable[AssociationCosts]) -> str:
    heads = (
        "receiver", "set-up and release, ms of CPU", "ms", "ten idle, % of a core", "each further: RSS MB", "PSS MB",
    )  # fmt: skip
    rows = [
        [
            one.receiver,
            _number(one.set_up_cpu_ms, ".2f"),
            _number(one.set_up_ms, ".2f"),
            _number(one.idle_cpu_percent, ".2f"),
            _number(one.further_rss_mb, ".2f"),
            _number(one.further_pss_mb, ".2f"),
        ]
        for one in costs
    ]
    return table(heads, rows)


def _goals(by_sender: Mapping[str, Sequence[Outcome]]) -> str:
    """Those that the run has something to say about, with a column for each sender."""
    by_goal = zip(*by_sender.values(), strict=True)
    rows = [
        [one[0].about, one[0].goal, *map(_seen, one)]
        for one in by_goal
        if any(outcome.seen is not None for outcome in one)
    ]
    return table(("about", "goal", *(f"seen ({sender})" for sender in by_sender)), rows) if rows else ""


def _seen(outcome: Outcome) -> str:
    if outcome.seen is None:
        return ""
    return f"{outcome.seen:.2f}{outcome.unit}{'' if outcome.is_reached else ' **missed**'}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _list(title: str, lines: Iterable[str]) -> str:
    items = "".join(f"- {line}\n" for line in lines)
    return f"{title}:\n\n{items}" if items else ""
