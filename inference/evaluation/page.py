"""An evaluation as one page of HTML that stands alone: no script, no style sheet, no font, no image from elsewhere.

Every text in it is escaped: labels and groups come from files that others wrote.
"""

from datetime import datetime
from functools import cache
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from inference.evaluation import plots
from inference.evaluation.evaluate import Evaluation, LabelEvaluation
from inference.evaluation.operating_points import (
    LEAST_SENSITIVITY,
    LEAST_SPECIFICITY,
    MANIFEST,
    SENSITIVE,
    SPECIFIC,
    YOUDEN,
)
from inference.evaluation.sample import RESAMPLES, Estimate
from inference.evaluation.subgroups import LEAST_PATIENTS, Subgroup

FOLDER = Path(__file__).parent
CHOSEN_FOR = {
    MANIFEST: "the manifest's, as in service",
    SENSITIVE: f"sensitivity of {LEAST_SENSITIVITY:.0%} or more",
    SPECIFIC: f"specificity of {LEAST_SPECIFICITY:.0%} or more",
    YOUDEN: "largest sum of both (Youden)",
}
PLOTS = {"roc": plots.roc_plot, "reliability": plots.reliability_plot, "histogram": plots.histogram_plot}


def as_html(evaluation: Evaluation, *, command: str, made_at: datetime) -> str:
    """The complete page; `command` is what made it."""
    manifest = evaluation.package.manifest
    return (
        _environment()
        .get_template("page.html")
        .render(
            evaluation=evaluation,
            manifest=manifest,
            command=command,
            made_at=made_at,
            style=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),  # noqa: S704 - ours
            has_operating_scale=manifest.preprocessing.scaling == "xrv_1024",
            resamples=RESAMPLES,
            least_patients=LEAST_PATIENTS,
            chosen_for=CHOSEN_FOR,
            figures=[_figures(label, number) for number, label in enumerate(evaluation.labels)],
            groups=[_by_attribute(label) for label in evaluation.labels],
        )
    )


def _figures(label: LabelEvaluation, number: int) -> dict[str, Markup]:
    """Every plot of a label, each with an id of its own."""
    return {kind: Markup(plot(label, f"{kind}-{number}")) for kind, plot in PLOTS.items()}  # noqa: S704 - escaped there


def _by_attribute(label: LabelEvaluation) -> list[tuple[str, list[Subgroup]]]:
    return [(attribute, list(group)) for attribute, group in groupby(label.subgroups, lambda one: one.attribute)]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["interval"] = _interval
    environment.filters["strip"] = _strip
    return environment


def _interval(estimate: Estimate) -> str:
    return f"{estimate.low:.3f} to {estimate.high:.3f}"


def _strip(estimate: Estimate, reference: float) -> Markup:
    return Markup(plots.strip(estimate, reference))  # noqa: S704 - numbers only
