"""What a radiologist sees in OHIF of the profile `ohif`: the overlay, the text, the place on the source image."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page
from pydicom.data import get_testdata_file

from inference import pixels
from reports.regions import MarkedRegion, marked_regions
from reports.source import read_source
from reports.write import write_results
from tests.factories.analyses import activation, analysis, report_request
from tests.factories.sources import stored_study
from tests.journeys.house import Orthanc
from tests.viewer.ohif import Ohif

WITHIN_MS = 180_000
SIZE = {"width": 1500, "height": 900}
THUMBNAIL = "[data-cy^=study-browser-thumbnail]"
VIEWPORT = "[data-cy=viewport-pane]"


@dataclass(frozen=True)
class Shown:
    """A study in the viewer, all of its series listed. place: what its finding's region says."""

    page: Page
    place: MarkedRegion
    errors: list[str]

    def open(self, series: str) -> None:
        self.page.locator(THUMBNAIL).filter(has_text=series).first.dblclick(timeout=WITHIN_MS)

    def picture(self) -> np.ndarray:
        """The viewport as it is on the screen: (rows, columns, 3), uint8."""
        shot = self.page.locator(VIEWPORT).first.screenshot()
        return np.asarray(Image.open(BytesIO(shot)).convert("RGB"))


@pytest.fixture(scope="module")
def shown(pacs: Orthanc, ohif: Ohif, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("shown")
    source = pydicom.dcmread(str(get_testdata_file("RG1_UNCR.dcm")))
    del source.PixelSpacing  # it says 0, with which OHIF shows a black page of anything
    study = stored_study([source], folder)
    given = analysis(study)
    image = replace(given.images[0], activation=activation(source.Rows, source.Columns))
    request = report_request(study, replace(given, images=(image,)))
    display = pixels.display_image(pixels.read(study.instances[0].path), within=[(1536, 1536)])
    pacs.put_in(Path(study.instances[0].path))
    for result in write_results(replace(request, displays={image.sop_instance_uid: display}), profile="ohif"):
        path = folder / f"{result.kind}.dcm"
        path.write_bytes(result.content)
        pacs.put_in(path)
    (place,) = marked_regions(image, read_source(study).instances[0])
    page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
    errors: list[str] = []
    skip = page.get_by_text("Skip all").first  # the tour for those who are here for the first time
    page.add_locator_handler(skip, lambda: skip.click())
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(ohif.address_of(source.StudyInstanceUID), wait_until="domcontentloaded", timeout=WITHIN_MS)
    page.locator(THUMBNAIL).nth(3).wait_for(timeout=WITHIN_MS)
    yield Shown(page=page, place=place, errors=errors)
    page.close()


def test_the_overlay_is_shown_with_its_colours_and_its_warning(shown: Shown, pictures: Path) -> None:
    shown.open("AI Overlay")
    shown.page.get_by_text("W:256").first.wait_for(timeout=WITHIN_MS)
    shown.page.wait_for_timeout(1500)
    shown.page.screenshot(path=pictures / "ohif_overlay.png")
    picture = shown.picture().astype(int)
    red, green, blue = (picture[..., channel] for channel in range(3))
    assert ((red - blue > 60) & (green - blue > 30)).mean() > 0.01  # the activation map
    assert ((red > 90) & (green < 40) & (blue < 50)).mean() > 0.002  # NOT FOR DIAGNOSTIC USE


def test_the_text_is_shown_line_by_line(shown: Shown, pictures: Path) -> None:
    shown.open("AI Summary")
    shown.page.get_by_text("Found: Pneumonia, certainty 83 % (threshold 50 %)").wait_for(timeout=WITHIN_MS)
    shown.page.screenshot(path=pictures / "ohif_text.png")
    text = shown.page.locator(VIEWPORT).first.inner_text()
    assert "NOT FOR DIAGNOSTIC USE" in text
    assert "Not found: Effusion 12 %, Pleural Thickening 5 % (threshold 50 %)." in text
    assert "Not looked for: anything other than Pneumonia, Effusion, Pleural Thickening." in text


def test_the_place_is_drawn_on_the_source_image(shown: Shown, pictures: Path) -> None:
    shown.open("AI Regions")
    shown.page.get_by_text("Certainty of Finding: 83.00 %").first.wait_for(timeout=WITHIN_MS)
    shown.page.wait_for_timeout(1500)
    shown.page.screenshot(path=pictures / "ohif_regions.png")
    assert shown.picture().mean() > 40  # the film is there
    drawn = shown.page.locator(f"{VIEWPORT} svg polyline").first.get_attribute("points") or ""
    points = np.array([float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", drawn)]).reshape(-1, 2)
    outline = np.array(shown.place.outline)
    # The same shape in the same proportions: as wide for its height, and as far from the middle of the film.
    assert ratio(points) == pytest.approx(ratio(outline), rel=0.03)


def ratio(points: np.ndarray) -> float:
    """Width by height."""
    width, height = np.ptp(points, axis=0)
    return float(width / height)


def test_nothing_that_was_opened_broke_the_page(shown: Shown) -> None:
    assert shown.errors == []
