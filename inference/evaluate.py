"""How accurate a package is on labelled radiographs that somebody has, label by label.

    CSV line -> image file -> every score -> AUROC, sensitivity and specificity with 95 % intervals, for each column

No gate is asked: a JPEG has no header that could say an age or a view. Whoever evaluates knows what the images are.
Each image counts as a patient of its own, because the table names none; with several images a patient the true
intervals are wider. Everything runs in this process: evaluate only files that you trust.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domain.errors import Refuse
from inference import pixels
from inference.accuracy import Accuracy, measure
from inference.network import Network
from inference.package import Package

FILE_COLUMN = "file"
TRUTH = {"0": False, "1": True}
BAD_TABLE = "bad_table"


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelAccuracy:
    """One label's line; rates and bounds in [0, 1], bounds of 95 % intervals."""

    label: str
    n: int
    positives: int
    auroc: float
    auroc_low: float
    auroc_high: float
    threshold: float
    sensitivity: float
    sensitivity_low: float
    sensitivity_high: float
    specificity: float
    specificity_low: float
    specificity_high: float
    true_positives: int
    false_negatives: int
    true_negatives: int
    false_positives: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelledImages:
    """The table: N files, and for each of its label columns (by place in the manifest) N truths."""

    files: tuple[Path, ...]
    truths: dict[int, NDArray[np.bool_]]


def evaluate(package: Package, images_dir: Path, table: Path) -> list[LabelAccuracy]:
    """Score every image of the table and compare with its truth.

    Args:
        images_dir: the folder that the table's `file` column is relative to.
        table: CSV; header `file`, then labels of the package, upper or lower case; each value 0 or 1.

    Raises:
        Refuse: the table or an image cannot be used; the message names the line, the label or the file.
        Misconfigured: the package is not configured or not what its manifest says.
    """
    labelled = read_table(package, images_dir, table)
    network = Network(package)
    scores = np.array([_scores(network, file) for file in labelled.files])
    return [
        _line(package.manifest.labels[place].label, measure(scores[:, place], truth, threshold=threshold))
        for place, truth in labelled.truths.items()
        for threshold in (package.manifest.labels[place].threshold,)
    ]


def read_table(package: Package, images_dir: Path, table: Path) -> LabelledImages:
    """Read the CSV and check all of it, before the first image is scored."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            places = _label_places(package, next(rows, []))
            lines = list(_lines(rows, places))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Refuse(f"{table}: cannot be read: {why}", reason=BAD_TABLE) from error
    truths = {place: np.array([values[column] for _, values in lines]) for column, place in enumerate(places)}
    for place, truth in truths.items():
        if not truth.any() or truth.all():
            label = package.manifest.labels[place].label
            raise Refuse(
                f"label {label!r}: {int(truth.sum())} of {len(truth)} images have it",
                reason=BAD_TABLE,
                hint="AUROC needs images with and without the finding.",
            )
    files = tuple(images_dir / name for name, _ in lines)
    for path in files:
        if not path.is_file():
            raise Refuse(f"{path}: there is no such file", reason=BAD_TABLE, hint="`file` is relative to --images.")
    return LabelledImages(files=files, truths=truths)


def _label_places(package: Package, header: list[str]) -> list[int]:
    """The place in the manifest of each label column."""
    names = [name.strip().casefold() for name in header]
    if len(names) < 2 or names[0] != FILE_COLUMN:
        raise Refuse(f"the table must begin with the line `{FILE_COLUMN},<Label>…`", reason=BAD_TABLE)
    known = {label.label.casefold(): place for place, label in enumerate(package.manifest.labels)}
    for name, written in zip(names[1:], header[1:], strict=True):
        if name not in known:
            labels = ", ".join(label.label for label in package.manifest.labels)
            raise Refuse(
                f"{package.name} has no label {written.strip()!r}", reason=BAD_TABLE, hint=f"It has: {labels}."
            )
    if len(set(names)) < len(names):
        raise Refuse("the table names a column twice", reason=BAD_TABLE)
    return [known[name] for name in names[1:]]


def _lines(rows: Iterator[list[str]], places: list[int]) -> Iterator[tuple[str, list[bool]]]:
    """(file, one truth a label column) of every line that is not blank."""
    for number, row in enumerate(rows, start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(places) + 1:
            raise Refuse(f"line {number}: {len(places) + 1} values were expected, not {len(row)}", reason=BAD_TABLE)
        values = [TRUTH.get(cell.strip()) for cell in row[1:]]
        for value, cell in zip(values, row[1:], strict=True):
            if value is None:
                raise Refuse(f"line {number}: {cell.strip()!r} is neither 0 nor 1", reason=BAD_TABLE)
        yield row[0].strip(), [value is True for value in values]


def _scores(network: Network, file: Path) -> tuple[float, ...]:
    try:
        return network.answer(pixels.read(file)).scores
    except Refuse as error:
        raise Refuse(f"{file}: {error.message}", reason=error.reason, hint=error.hint) from error


def _line(label: str, accuracy: Accuracy) -> LabelAccuracy:
    return LabelAccuracy(
        label=label,
        n=accuracy.images,
        positives=accuracy.true_positives + accuracy.false_negatives,
        auroc=accuracy.auroc.value,
        auroc_low=accuracy.auroc.low,
        auroc_high=accuracy.auroc.high,
        threshold=accuracy.threshold,
        sensitivity=accuracy.sensitivity.value,
        sensitivity_low=accuracy.sensitivity.low,
        sensitivity_high=accuracy.sensitivity.high,
        specificity=accuracy.specificity.value,
        specificity_low=accuracy.specificity.low,
        specificity_high=accuracy.specificity.high,
        true_positives=accuracy.true_positives,
        false_negatives=accuracy.false_negatives,
        true_negatives=accuracy.true_negatives,
        false_positives=accuracy.false_positives,
    )
