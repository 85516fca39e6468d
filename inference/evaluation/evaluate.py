"""Scores every image of a table and compares with its truth.

    table line -> image file -> every score ─┐
                            unreadable ──────┴─> each label: accuracy, curve, calibration, thresholds, groups

No gate is asked: whoever evaluates knows what the images are; how many the package would have refused is counted where
age or view is known. Everything runs in this process: evaluate only files that you trust.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domain.drift import UNKNOWN, Counts, bins_of, spread
from domain.errors import Refuse
from domain.findings import ImageRun
from domain.study import InstanceFacts
from inference import pixels
from inference.analysis import image_analysis
from inference.answer import Answer
from inference.evaluation.accuracy import Accuracy, measure
from inference.evaluation.calibration import Calibration, calibrate
from inference.evaluation.operating_points import OperatingPoint, operating_points
from inference.evaluation.roc import Roc, roc
from inference.evaluation.sample import Sample
from inference.evaluation.subgroups import Subgroup, subgroups, unknown_attributes
from inference.evaluation.subjects import Subject, completed, from_header, is_outside
from inference.evaluation.table import BAD_TABLE, Line, read_table, require_both_classes
from inference.network import Network
from inference.package import Package

NO_FILE = "there is no such file"


@dataclass(frozen=True, kw_only=True, slots=True)
class Unreadable:
    """An image that was left out."""

    file: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelEvaluation:
    """All that was measured of one label; `accuracy` at the manifest's threshold."""

    label: str
    sample: Sample
    accuracy: Accuracy
    roc: Roc
    calibration: Calibration
    operating_points: tuple[OperatingPoint, ...]
    subgroups: tuple[Subgroup, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evaluation:
    """One run. `images` were scored; `outside` of them lie outside of what the package accepts, as far as is known.

    `patients` is None where the table names none: then each image counted as a patient. `counts`: how scores and images
    were spread, as drift counts them.
    """

    package: Package
    labels: tuple[LabelEvaluation, ...]
    images: int
    patients: int | None
    outside: int
    unknown_attributes: tuple[str, ...]
    unreadable: tuple[Unreadable, ...]
    table_sha256: str
    counts: Mapping[str, Counts]


def evaluate(package: Package, images_dir: Path, table: Path, *, skips_unreadable: bool = False) -> Evaluation:
    """Score every image of the table and compare with its truth.

    Args:
        images_dir: the folder that the table's `file` column is relative to.
        table: CSV, as inference/evaluation/table.py says.
        skips_unreadable: leave out what is missing or cannot be read, and say so; else the first such image ends it.

    Raises:
        Refuse: the table or an image cannot be used; the message names the line, the label or the file.
        Misconfigured: the package is not configured or not what its manifest says.
    """
    labelled = read_table(package, images_dir, table)
    require_both_classes(package, labelled.labels, labelled.lines)
    if not skips_unreadable:
        _require_files(labelled.lines)
    scored, unreadable = _score_all(package, labelled.lines, skips_unreadable=skips_unreadable)
    lines = [image.line for image in scored]
    require_both_classes(package, labelled.labels, lines)
    subjects = [image.subject for image in scored]
    patients = [line.patient for line in lines] if labelled.has_patients else None
    scores = np.array([image.scores for image in scored])
    return Evaluation(
        package=package,
        labels=tuple(
            _evaluated(package, place, scores[:, place], [line.truths[column] for line in lines], patients, subjects)
            for column, place in enumerate(labelled.labels)
        ),
        images=len(lines),
        patients=None if patients is None else len(set(patients)),
        outside=sum(is_outside(package.manifest, subject) for subject in subjects),
        unknown_attributes=unknown_attributes(subjects),
        unreadable=unreadable,
        table_sha256=labelled.sha256,
        counts=_known(spread(image.bins for image in scored)),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scored:
    """An image that was read; `scores` in the order of the manifest's labels. `bins`: in which drift counts it."""

    line: Line
    subject: Subject
    scores: tuple[float, ...]
    bins: Mapping[str, str]


def _score_all(
    package: Package, lines: Sequence[Line], *, skips_unreadable: bool
) -> tuple[list[_Scored], tuple[Unreadable, ...]]:
    network = Network(package)
    scored, unreadable = [], []
    for line in lines:
        try:
            answer, grey_mean = _looked_at(network, line.file)
            subject = completed(line.subject, from_header(line.file))
            bins = _bins(package, answer, grey_mean, subject)
            scored.append(_Scored(line=line, subject=subject, scores=answer.scores, bins=bins))
        except Refuse as error:
            if not skips_unreadable:
                raise Refuse(f"{line.file}: {error.message}", reason=error.reason, hint=error.hint) from error
            unreadable.append(Unreadable(file=line.name, why=error.message))
    return scored, tuple(unreadable)


def _require_files(lines: Sequence[Line]) -> None:
    for line in lines:
        if not _is_there(line.file):
            raise Refuse(f"{line.file}: {NO_FILE}", reason=BAD_TABLE, hint="`file` is relative to --images.")


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a name that no file can have
        return False


def _looked_at(network: Network, file: Path) -> tuple[Answer, float]:
    """What the network says, and how bright the image is."""
    if not _is_there(file):
        raise Refuse(NO_FILE, reason=BAD_TABLE)
    radiograph = pixels.read(file)
    return network.answer(radiograph), pixels.grey_mean(radiograph)


def _bins(package: Package, answer: Answer, grey_mean: float, subject: Subject) -> dict[str, str]:
    run = ImageRun(decode_s=0.0, infer_s=0.0, grey_mean=grey_mean)
    image = image_analysis(package.manifest, "", answer, device="cpu", run=run)
    facts = InstanceFacts(patient_age_years=subject.age_years, view_position=subject.view)
    return {feature: one for feature, one in bins_of(image, facts).items() if feature != "device"}


def _known(counts: Mapping[str, Counts]) -> Mapping[str, Counts]:
    """Without features of which nothing was known of any image."""
    return {feature: bins for feature, bins in counts.items() if set(bins) != {UNKNOWN}}


def _evaluated(
    package: Package,
    place: int,
    scores: NDArray[np.float64],
    truths: Sequence[bool],
    patients: Sequence[str] | None,
    subjects: Sequence[Subject],
) -> LabelEvaluation:
    label = package.manifest.labels[place]
    sample = Sample.of(scores, np.array(truths), patients)
    accuracy = measure(sample, threshold=label.threshold)
    return LabelEvaluation(
        label=label.label,
        sample=sample,
        accuracy=accuracy,
        roc=roc(sample),
        calibration=calibrate(sample),
        operating_points=operating_points(sample, accuracy),
        subgroups=subgroups(sample, subjects, threshold=label.threshold),
    )
