"""Results as pages for a browser."""

from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from domain.study import Study
from reports.html import overlay_as_png, sr_as_html
from reports.write import write_results
from tests.factories.analyses import analysis, finding, report_request
from tests.factories.sources import case, stored_study


class Tags(HTMLParser):
    """The tags and the text that a browser would see."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("kind", ["measurement_sr", "text_sr"])
def test_hostile_text_stays_text(tmp_path: Path, kind: str) -> None:
    study = stored_study(case(15).make(), tmp_path)
    request = report_request(study, analysis(study, findings=(finding("<b onclick=x>", 0.9),)))
    results = {result.kind: result for result in write_results(request, profile="standard")}
    tags = Tags(sr_as_html(results[kind].content))
    assert tags.seen <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "h4"),
        *("header", "main", "dl", "dt", "dd", "section", "ul", "li", "span"),
    }
    assert tags.open == []
    assert "<script>alert(1)</script>^\"'&" in tags.text
    assert "</title><img src=x onerror=alert(2)>" in tags.text


def test_a_name_in_another_script_is_shown_in_it(tmp_path: Path) -> None:
    study = stored_study(case(3).make(), tmp_path)
    page = sr_as_html(write_results(report_request(study), profile="text")[0].content)
    assert "山田^太郎" in page


def test_the_measurements_are_shown_with_their_units(study: Study) -> None:
    results = {result.kind: result for result in write_results(report_request(study), profile="standard")}
    page = sr_as_html(results["measurement_sr"].content)
    assert '<span class="name">Certainty of Finding</span>83.0 %' in page
    assert '<span class="name">Presence</span>Not detected' in page


def test_dates_and_counts_are_shown_as_people_write_them(study: Study) -> None:
    results = {result.kind: result for result in write_results(report_request(study), profile="standard")}
    page = sr_as_html(results["measurement_sr"].content)
    assert "<dt>Study date</dt><dd>2026-11-20</dd>" in page
    assert '<span class="name">Pixel Data Rows</span>64 pixels' in page


def test_the_png_is_the_overlay_pixel_for_pixel(study: Study) -> None:
    overlay = write_results(report_request(study), profile="sc_only")[0]
    picture = np.asarray(Image.open(BytesIO(overlay_as_png(overlay.content))))
    assert picture.tobytes() in overlay.content
