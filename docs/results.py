"""The gallery of results, docs/results.md and its pictures: `python -m docs.results`.

All of it comes from the real writers. The film is the synthetic radiograph with which packages are checked, and what
was found on it is made up. The prose is written by hand; whatever stands between `<!-- table: NAME -->` and
`<!-- end -->` comes from here, and a test compares the page with what the writers write today.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import UID

from docs.conformance import SECTION
from domain.errors import Refuse
from domain.findings import (
    ActivationMap,
    Analysis,
    Code,
    Finding,
    ImageAnalysis,
    Line,
    ModelIdentity,
    Region,
)
from domain.states import Reason
from domain.study import Study
from inference.golden import COLUMNS, ROWS, synthetic_radiograph
from inference.package import load
from inference.pixels import display_image, read
from inference.registry import BUILTIN_DIR
from reports.html import overlay_as_png
from reports.picture.page import FILM_BOXES
from reports.request import ReportRequest, WrittenResult
from reports.words import LANGUAGES
from reports.write import FORMS, write_results
from tests.factories.analyses import (
    CLEARED_MODEL,
    COBB_ANGLE,
    DEMONSTRATION_MODEL,
    MODEL,
    NODE,
    PNEUMONIA,
    activation,
    finding,
)
from tests.factories.sources import radiograph, stored_study
from workflow.steps import note_in_words

PAGE = Path(__file__).with_name("results.md")
PICTURES = Path(__file__).parent / "pictures" / "results"
SHOWN_WIDTH = 720  # smaller than most viewers show it

DECISION = ("Body Part Examined (0018,0015) 'CHEST' says chest, so rule 'chest of an adult' sends it to chest.",)
OPACITY = (0.725, 0.65)  # where the synthetic film has one: parts of its width and height
CERTAINTIES = {"Pneumonia": 0.83, "Consolidation": 0.71, "Lung Opacity": 0.66, "Infiltration": 0.41}


@dataclass(frozen=True, kw_only=True, slots=True)
class Exhibit:
    """One picture of the gallery. rows: of the film, from its middle; few of them make it a wide one.

    answers: what is said to be found, on the image of this SOP Instance UID and of so many rows.
    """

    name: str
    caption: str
    answers: Callable[[str, int], ImageAnalysis]
    model: ModelIdentity = MODEL
    language: str = "en"
    rows: int = ROWS


def labels_of_chest(sop_instance_uid: str, rows: int) -> ImageAnalysis:
    """Eighteen labels, as the adult chest package has them."""
    manifest = load(BUILTIN_DIR / "chest").manifest
    findings = tuple(
        Finding(
            label=one.label,
            code=one.code,
            site=one.site,
            certainty=CERTAINTIES.get(one.label, 0.02 * number),
            threshold=one.threshold,
        )
        for number, one in enumerate(manifest.labels)
    )
    ordered = tuple(sorted(findings, key=lambda finding: finding.threshold - finding.certainty))
    return ImageAnalysis(sop_instance_uid=sop_instance_uid, findings=ordered, activation=warm_spot(rows))


def one_found(sop_instance_uid: str, rows: int) -> ImageAnalysis:
    return ImageAnalysis(sop_instance_uid=sop_instance_uid, findings=(PNEUMONIA,), activation=warm_spot(rows))


def none_found(sop_instance_uid: str, rows: int) -> ImageAnalysis:
    return ImageAnalysis(
        sop_instance_uid=sop_instance_uid, findings=(finding("Pneumonia", 0.34),), activation=warm_spot(rows)
    )


def boxed(sop_instance_uid: str, rows: int) -> ImageAnalysis:
    fracture = Code(value="125605004", scheme="SCT", meaning="Fracture of bone")
    places = (
        Region(label="Fracture", certainty=0.77, left=60, top=200, width=90, height=60),
        Region(label="Fracture", certainty=0.58, left=330, top=330, width=100, height=80),
    )
    found = replace(finding("Fracture", 0.77, code=fracture), site=None)
    return ImageAnalysis(sop_instance_uid=sop_instance_uid, findings=(found,), activation=None, regions=places)


def measured(sop_instance_uid: str, rows: int) -> ImageAnalysis:
    lines = (Line(start=(190, 180), end=(310, 210)), Line(start=(190, 470), end=(310, 438)))
    angle = replace(COBB_ANGLE, value=27.4, threshold=10.0, lines=lines)
    return ImageAnalysis(sop_instance_uid=sop_instance_uid, findings=(), activation=None, measurements=(angle,))


def warm_spot(rows: int) -> ActivationMap:
    """On the opacity, in the centred square that a network looks at."""
    side = min(rows, COLUMNS)
    across = (OPACITY[0] * COLUMNS - (COLUMNS - side) / 2) / side
    down = (OPACITY[1] * ROWS - (ROWS - side) / 2) / side
    spread = (0.16 * COLUMNS / side, 0.2 * COLUMNS / side)
    return activation(rows, COLUMNS, centre=(across, down), spread=spread)


EXHIBITS = (
    Exhibit(
        name="findings", caption="Eighteen labels: what was found comes first, in colour.", answers=labels_of_chest
    ),
    Exhibit(
        name="nothing_found",
        caption="No finding: the map is faint, for it reaches its own maximum whatever the score is.",
        answers=none_found,
    ),
    Exhibit(name="boxes", caption="A detector's places, each with its own certainty.", answers=boxed),
    Exhibit(name="measurement", caption="A measured value, and between which lines.", answers=measured),
    Exhibit(name="wide", caption="A wide film has its findings below it.", answers=labels_of_chest, rows=300),
    Exhibit(name="cleared", caption="A model that its manifest calls cleared.", answers=one_found, model=CLEARED_MODEL),
    Exhibit(
        name="demonstration",
        caption="A model that runs outside its patients, which only `collimator demo` allows.",
        answers=one_found,
        model=DEMONSTRATION_MODEL,
    ),
    Exhibit(name="german", caption="In German.", answers=one_found, language="de"),
)
NOTE = Refuse("the basic plan's 100 studies of this period are used up", reason=Reason.OVER_QUOTA)


def main() -> int:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for exhibit in EXHIBITS:
            _write_picture(exhibit.name, analysed(exhibit, Path(folder)))
        for language in LANGUAGES:
            _write_picture(f"note_{language}", noted(language, Path(folder)))
    PAGE.write_text(generated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def generated(page: str) -> str:
    """The page as the writers write today."""
    return SECTION.sub(lambda match: f"{match[1]}{TABLES[match[2]]()}{match[3]}", page)


def analysed(exhibit: Exhibit, folder: Path) -> ReportRequest:
    study = _study(folder, exhibit.rows)
    path = study.instances[0].path
    answers = exhibit.answers(study.instances[0].sop_instance_uid, exhibit.rows)
    return ReportRequest(
        study=study,
        node=NODE,
        analysis=Analysis(model=exhibit.model, images=(answers,)),
        displays={answers.sop_instance_uid: display_image(read(path), within=FILM_BOXES)},
        decision=DECISION,
        language=exhibit.language,
    )


def noted(language: str, folder: Path) -> ReportRequest:
    note = replace(note_in_words(NOTE, LANGUAGES[language]), is_drawn=True)
    return ReportRequest(study=_study(folder, ROWS), node=NODE, note=note, language=language)


def pictures() -> str:
    shown = [(exhibit.name, exhibit.caption) for exhibit in EXHIBITS]
    shown += [(f"note_{language}", f"A note ({language}).") for language in LANGUAGES]
    return "".join(f"\n![{caption}](pictures/results/{name}.png)\n\n*{caption}*\n" for name, caption in shown) + "\n"


def objects() -> str:
    """What each profile and extra writes of the first exhibit."""
    lines = ["| profile or extra | Series Description | SOP class | Modality |", "| --- | --- | --- | --- |"]
    with tempfile.TemporaryDirectory() as folder:
        request = analysed(EXHIBITS[0], Path(folder))
        for profile in FORMS:
            for result in write_results(request, profile=profile):
                header = pydicom.dcmread(BytesIO(result.content), stop_before_pixels=True)
                kind = UID(result.sop_class_uid).name
                lines.append(f"| {profile} | {header.SeriesDescription} | {kind} | {header.Modality} |")
    return "\n".join(lines) + "\n"


def text(language: str) -> str:
    """The readable report of the first exhibit, as viewers show it."""
    with tempfile.TemporaryDirectory() as folder:
        request = replace(analysed(EXHIBITS[0], Path(folder)), language=language)
        (result,) = write_results(request, profile="text")
    return _as_text(result)


def note_text() -> str:
    with tempfile.TemporaryDirectory() as folder:
        (result,) = write_results(noted("en", Path(folder)), profile="text")
    return _as_text(result)


def measurement() -> str:
    """The tree of the measurement report of a single finding."""
    with tempfile.TemporaryDirectory() as folder:
        results = write_results(analysed(replace(EXHIBITS[0], answers=one_found), Path(folder)), profile="standard")
    (report,) = (result for result in results if result.kind == "measurement_sr")
    document = pydicom.dcmread(BytesIO(report.content))
    return "".join(f"    {line}\n" for line in _tree(document, depth=0))


TABLES: dict[str, Callable[[], str]] = {
    "objects": objects,
    "pictures": pictures,
    "text_en": lambda: text("en"),
    "text_de": lambda: text("de"),
    "text_note": note_text,
    "measurement": measurement,
}


def _study(folder: Path, rows: int) -> Study:
    """The synthetic film, under a patient who is none."""
    dataset = radiograph(1)
    above = (ROWS - rows) // 2
    film = np.ascontiguousarray(synthetic_radiograph().stored[above : above + rows])
    dataset.Rows, dataset.Columns = film.shape
    dataset.PixelData = film.tobytes()
    return stored_study([dataset], folder)


def _write_picture(name: str, request: ReportRequest) -> None:
    (result,) = write_results(request, profile="sc_only")
    picture = Image.open(BytesIO(overlay_as_png(result.content)))
    height = round(picture.height * SHOWN_WIDTH / picture.width)
    shown = picture.resize((SHOWN_WIDTH, height), Image.Resampling.LANCZOS)
    shown.save(PICTURES / f"{name}.png", optimize=True)


def _as_text(result: WrittenResult) -> str:
    document = pydicom.dcmread(BytesIO(result.content))
    lines = [document.ConceptNameCodeSequence[0].CodeMeaning]
    for section in document.ContentSequence:
        if section.ValueType == "CONTAINER":
            lines += ["", section.ConceptNameCodeSequence[0].CodeMeaning]
            lines += [f"  {line.TextValue}" for line in section.ContentSequence if line.ValueType == "TEXT"]
    return "".join(f"    {line}".rstrip() + "\n" for line in lines)


def _tree(item: Dataset, depth: int) -> Iterator[str]:
    name = item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else ""
    yield "  " * depth + " = ".join(part for part in (name, _value(item)) if part)
    for child in item.get("ContentSequence") or ():
        yield from _tree(child, depth + 1)


def _value(item: Dataset) -> str:
    match item.ValueType:
        case "TEXT":
            return str(item.TextValue)
        case "CODE":
            return str(item.ConceptCodeSequence[0].CodeMeaning)
        case "NUM":
            (measured_value,) = item.MeasuredValueSequence
            return f"{measured_value.NumericValue} {measured_value.MeasurementUnitsCodeSequence[0].CodeValue}"
        case "UIDREF":
            return str(item.UID)
        case "IMAGE":
            return str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        case _:
            return ""


if __name__ == "__main__":
    sys.exit(main())
