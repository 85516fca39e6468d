"""What a part of the benchmarks leaves: JSON for programs, tables for people, and its section of docs/benchmarks.md."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.ingest.conditions import Conditions, stolen_since

PAGE = Path("docs/benchmarks.md")


def publish(part: str, run: Any, table: str, *, out: Path, is_for_page: bool) -> None:
    """Write PART.json and PART.md into `out`, the tables into the page where that was asked, and print them."""
    document = {"part": part, **asdict(run)}
    (out / f"{part}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (out / f"{part}.md").write_text(table, encoding="utf-8")
    if is_for_page:
        write_into(PAGE, part, table)
    print(table)


def write_into(page: Path, part: str, table: str) -> None:
    """Between `<!-- table: PART -->` and the next `<!-- end -->`; the rest of the page is written by hand."""
    section = re.compile(rf"(<!-- table: {re.escape(part)} -->\n).*?(<!-- end -->)", re.DOTALL)
    text = page.read_text(encoding="utf-8")
    page.write_text(section.sub(lambda match: f"{match[1]}{table}{match[2]}", text), encoding="utf-8")


def spoken(conditions: Conditions, *, kind: str, loads: Sequence[float]) -> str:
    """The line above the tables: when, on what, and how busy the machine was beside."""
    versions = ", ".join(f"{name} {version}" for name, version in conditions.versions.items())
    loads = [*loads, conditions.load_average]
    return (
        f"{conditions.date}, {kind}. {conditions.processor}, {conditions.cores} cores, {conditions.memory_gb:g} GB, "
        f"{conditions.file_system}, {conditions.kernel}; "
        f"load average {min(loads):.1f} to {max(loads):.1f}, "
        f"{stolen_since(conditions):.0%} of the processors' time taken by the host. {versions}.\n"
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def goal(about: str, wanted: str, seen: str, is_met: bool | None) -> tuple[str, str, str]:
    """A row of the table of goals. Not measured is not met."""
    verdict = {True: "met", False: "**missed**", None: "not measured"}[is_met]
    return about, wanted, f"{seen} {verdict}".strip()
