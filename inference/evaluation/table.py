"""The table that somebody brings: CSV; header `file`, labels of the package, and what is known of each image.

    file,Pneumonia,patient,age,sex,view,manufacturer
    a/1.dcm,1,p7,4,F,AP,

Upper or lower case; a label's value is 0 or 1; each file stands there once. `patient`, `age`, `sex`, `view` and
`manufacturer` may be left out, and but for `patient` be empty. Semicolons or tabs may stand for the commas, as Excel
writes them in much of Europe; what follows `file` in the first line is taken for all. Numbers have a point.
"""

import csv
import hashlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from domain.errors import Refuse
from inference.evaluation.subjects import Subject
from inference.package import Package
from storage.headers import age_in_years

FILE_COLUMN = "file"
PATIENT_COLUMN = "patient"
SUBJECT_COLUMNS = ("age", "sex", "view", "manufacturer")
TRUTH = {"0": False, "1": True}
BAD_TABLE = "bad_table"
OLDEST_YEARS = 150
SEPARATOR = re.compile(rf'\s*"?{FILE_COLUMN}"?\s*([,;\t])', re.IGNORECASE)
SHOWN_CHARACTERS = 60  # of a first line that is no header


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One image of the table, `name` as it stands there.

    `truths` are in the order of the table's labels; `patient` is empty without a column.
    """

    name: str
    file: Path
    truths: tuple[bool, ...]
    patient: str
    subject: Subject


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledImages:
    """`labels`: the place in the manifest of each label of the table. `sha256`: of the table's bytes."""

    lines: tuple[Line, ...]
    labels: tuple[int, ...]
    has_patients: bool
    sha256: str


def read_table(package: Package, images_dir: Path, table: Path) -> LabelledImages:
    """Read all of the table, before the first image is scored.

    Raises:
        Refuse: it cannot be used; the message names the line or the label.
    """
    try:
        content = table.read_bytes()
        text = content.decode("utf-8-sig")
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
        columns = _Columns.of(package, next(rows, []))
        lines = tuple(_lines(rows, columns, images_dir))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        hint = "Save it as UTF-8: in Excel, `CSV UTF-8`." if isinstance(error, UnicodeDecodeError) else ""
        raise Refuse(f"{table}: cannot be read: {why}", reason=BAD_TABLE, hint=hint) from error
    return LabelledImages(
        lines=lines,
        labels=tuple(place for place in columns.labels if place is not None),
        has_patients=PATIENT_COLUMN in columns.names,
        sha256=hashlib.sha256(content).hexdigest(),
    )


def require_both_classes(package: Package, labels: Sequence[int], lines: Sequence[Line]) -> None:
    """AUROC is a comparison.

    Raises:
        Refuse: all images have a finding, or none.
    """
    for column, place in enumerate(labels):
        positives = sum(line.truths[column] for line in lines)
        if positives in (0, len(lines)):
            raise Refuse(
                f"label {package.manifest.labels[place].label!r}: {positives} of {len(lines)} images have it",
                reason=BAD_TABLE,
                hint="AUROC needs images with and without the finding.",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Columns:
    """`names` in the table's order; `labels`: for each, its place in the manifest, or None where it is no label."""

    names: tuple[str, ...]
    labels: tuple[int | None, ...]

    @classmethod
    def of(cls, package: Package, header: Sequence[str]) -> "_Columns":
        names = tuple(name.strip().casefold() for name in header)
        if not names or names[0] != FILE_COLUMN:
            raise _no_header(header)
        if "" in names:
            raise Refuse(
                f"column {names.index('') + 1} of the table has no name",
                reason=BAD_TABLE,
                hint="Name it, or take it away: is there a separator at the end of each line?",
            )
        known = {label.label.casefold(): place for place, label in enumerate(package.manifest.labels)}
        for name, written in zip(names[1:], header[1:], strict=True):
            if name not in known and name not in (PATIENT_COLUMN, *SUBJECT_COLUMNS):
                labels = ", ".join(label.label for label in package.manifest.labels) or "none, it measures"
                hint = f"It has: {labels}. Other columns: {', '.join((PATIENT_COLUMN, *SUBJECT_COLUMNS))}."
                raise Refuse(f"{package.name} has no label {written.strip()!r}", reason=BAD_TABLE, hint=hint)
        if len(set(names)) < len(names):
            raise Refuse("the table names a column twice", reason=BAD_TABLE)
        labels_of = (None, *(known.get(name) for name in names[1:]))
        if all(place is None for place in labels_of):
            raise _no_header(header)
        return cls(names=names, labels=labels_of)


def _separator(text: str) -> str:
    """As it stands behind `file` in the first line; a comma where nothing does."""
    found = SEPARATOR.match(text)
    return found[1] if found else ","


def _no_header(header: Sequence[str]) -> Refuse:
    return Refuse(
        f"the table must begin with the line `{FILE_COLUMN},<Label>…`, "
        f"and begins with {','.join(header)[:SHOWN_CHARACTERS]!r}",
        reason=BAD_TABLE,
        hint=f"`{FILE_COLUMN}` is the first column, at least one label another; commas, semicolons or tabs part them.",
    )


def _lines(rows: Iterator[list[str]], columns: _Columns, images_dir: Path) -> Iterator[Line]:
    """Every line that is not blank."""
    lines_of: dict[str, int] = {}
    for number, row in enumerate(rows, start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(columns.names):
            raise Refuse(f"line {number}: {len(columns.names)} values were expected, not {len(row)}", reason=BAD_TABLE)
        cells = [cell.strip() for cell in row]
        file = images_dir / cells[0]
        first = lines_of.setdefault(os.path.abspath(file), number)
        if first != number:
            raise Refuse(
                f"lines {first} and {number} name the same file: {cells[0]}",
                reason=BAD_TABLE,
                hint="An image counts once, with one truth: leave one of the lines.",
            )
        # A label that has the name of another column is the label.
        others = {
            name: cell for name, cell, place in zip(columns.names, cells, columns.labels, strict=True) if place is None
        }
        yield Line(
            name=cells[0],
            file=file,
            truths=tuple(
                _truth(number, cell) for cell, place in zip(cells, columns.labels, strict=True) if place is not None
            ),
            patient=_patient(number, others),
            subject=Subject(
                age_years=_age(number, others.get("age", "")),
                sex=others.get("sex", ""),
                view=others.get("view", ""),
                manufacturer=others.get("manufacturer", ""),
            ),
        )


def _truth(number: int, cell: str) -> bool:
    if cell not in TRUTH:
        raise Refuse(f"line {number}: {cell!r} is neither 0 nor 1", reason=BAD_TABLE)
    return TRUTH[cell]


def _patient(number: int, cells: dict[str, str]) -> str:
    if cells.get(PATIENT_COLUMN) == "":
        raise Refuse(
            f"line {number}: no patient",
            reason=BAD_TABLE,
            hint="Name every image's patient, or leave the column out: then each image counts as one.",
        )
    return cells.get(PATIENT_COLUMN, "")


def _age(number: int, cell: str) -> float | None:
    """Years as a number, or an Age String such as 018M."""
    if not cell:
        return None
    years = age_in_years(cell)
    if years is None:
        try:
            years = float(cell)
        except ValueError:
            years = float("nan")
    if not isfinite(years) or not 0 <= years <= OLDEST_YEARS:
        raise Refuse(f"line {number}: {cell!r} is no age", reason=BAD_TABLE, hint="Years, as 4.5, or 018M for months.")
    return years
