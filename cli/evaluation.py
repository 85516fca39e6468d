"""`collimator models evaluate`: how accurate a package is on somebody's labelled images."""

import argparse
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cli import DEFAULT_CONFIG
from cli.listing import print_objects, print_table
from domain.drift import REFERENCE_IMAGES
from domain.errors import Misconfigured, Refuse
from inference.package import Package
from inference.reference import Reference, as_toml

if TYPE_CHECKING:
    from inference.evaluation.evaluate import Evaluation
    from inference.evaluation.lines import LabelLine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", metavar="PACKAGE")
    parser.add_argument("--version", default="", help="default: the one that the name alone means")
    parser.add_argument("--images", required=True, type=Path, metavar="DIR", help="JPEG, PNG or DICOM files")
    parser.add_argument(
        "--labels",
        required=True,
        type=Path,
        metavar="CSV",
        help="header: file,LABEL…; then a file and 0 or 1 a label; perhaps patient, age, sex, view, manufacturer",
    )
    parser.add_argument("--json", action="store_true", help="a list of objects, one a label")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write all of it as one page, with plots")
    parser.add_argument(
        "--reference", type=Path, metavar="FILE", help="write how scores and images are spread, for the manifest"
    )
    parser.add_argument(
        "--skip-unreadable", action="store_true", help="leave out images that cannot be read, and say which and why"
    )


def run(package: Package, args: argparse.Namespace) -> int:
    for option, file in (("--html", args.html), ("--reference", args.reference)):
        if file is not None and not file.parent.is_dir():
            raise Misconfigured(
                f"{file.parent}: there is no such folder", hint=f"Make it first; {option} writes one file."
            )
    # Brings codecs and the runtime, which no other verb here needs.
    from inference.evaluation.evaluate import evaluate
    from inference.evaluation.lines import label_lines

    evaluation = evaluate(package, args.images, args.labels, skips_unreadable=args.skip_unreadable)
    for image in evaluation.unreadable:
        print(f"collimator: left out: {image.file}: {image.why}", file=sys.stderr)
    if args.html is not None:
        _write_page(evaluation, args)
    if args.reference is not None:
        _write_reference(evaluation, args)
    lines = label_lines(evaluation)
    if args.json:
        print_objects(lines)
    else:
        _print_table(lines)
    return 0


def _write_page(evaluation: "Evaluation", args: argparse.Namespace) -> None:
    from inference.evaluation.page import as_html

    _write(args.html, as_html(evaluation, command=_command(args), made_at=datetime.now(UTC)))


def _write_reference(evaluation: "Evaluation", args: argparse.Namespace) -> None:
    """The section of the manifest that drift is held against (docs/packages.md)."""
    if evaluation.images < REFERENCE_IMAGES:
        raise Refuse(
            f"a reference takes at least {REFERENCE_IMAGES} images; here are {evaluation.images}",
            reason="too_few_images",
        )
    about = f"{evaluation.images} images of {args.labels.name}, SHA-256 {evaluation.table_sha256[:12]}"
    _write(args.reference, as_toml(Reference(about=about, counts=evaluation.counts)))


def _write(path: Path, content: str) -> None:
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be written ({error.strerror})") from error


def _command(args: argparse.Namespace) -> str:
    """As it can be typed again."""
    words = ["collimator", "models", "evaluate", args.package, "--images", args.images, "--labels", args.labels]
    words += ["--version", args.version] * bool(args.version)
    words += ["--skip-unreadable"] * args.skip_unreadable + ["--html", args.html]
    words += ["--config", args.config] * (args.config != DEFAULT_CONFIG)
    return shlex.join(str(word) for word in words)


def _print_table(lines: "list[LabelLine]") -> None:
    print_table(
        ("LABEL", "N", "POSITIVES", "AUROC", "95 %", "THRESHOLD", "SENSITIVITY", "95 %", "SPECIFICITY", "95 %"),
        [
            (
                line.label,
                line.n,
                line.positives,
                f"{line.auroc:.3f}",
                _interval(line.auroc_low, line.auroc_high),
                f"{line.threshold:.3f}",
                f"{line.sensitivity:.3f}",
                _interval(line.sensitivity_low, line.sensitivity_high),
                f"{line.specificity:.3f}",
                _interval(line.specificity_low, line.specificity_high),
            )
            for line in lines
        ],
    )


def _interval(low: float, high: float) -> str:
    return f"{low:.3f} to {high:.3f}"
