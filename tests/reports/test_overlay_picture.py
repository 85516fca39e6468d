"""What a radiologist must be able to see on the overlay, whatever the film's shape."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from domain.findings import ActivationMap, DisplayImage, ImageAnalysis, LeftOut, ModelIdentity, Region
from reports.picture.heatmap import film_with_activation
from reports.picture.letters import font, length, wrapped, write
from reports.picture.marks import draw_marks
from reports.picture.page import SMALL, draw_note, draw_page
from reports.words import LANGUAGES
from reports.write import write_results
from tests.factories.analyses import (
    CLEARED_MODEL,
    COBB_ANGLE,
    DEMONSTRATION_MODEL,
    EFFUSION,
    FINDINGS,
    MODEL,
    PLACES,
    PNEUMONIA,
    activation,
    analysis,
    display,
    finding,
    report_request,
)
from tests.factories.sources import radiograph, stored_study

SHAPES = {"small": (64, 56), "square": (500, 500), "wide": (400, 1200), "tall": (1500, 400), "large": (3000, 2500)}
RED, AMBER = (104, 22, 26), (242, 178, 76)


def page_of(rows: int, columns: int, *, model: ModelIdentity = MODEL, **changes: object) -> Image.Image:
    image = ImageAnalysis(sop_instance_uid="1.2", findings=FINDINGS, activation=activation(rows, columns))
    return draw_page(display(rows, columns), replace(image, **changes), model, "Collimator 0.1.0")  # type: ignore[arg-type]


def count(page: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(page) == colour).all(axis=-1).sum())


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_page_is_legible_whatever_the_films_shape(shape: tuple[int, int]) -> None:
    width, height = page_of(*shape).size
    assert 860 <= width <= 1300
    assert height <= 1500


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_corners_are_left_to_the_viewers_own_text(shape: tuple[int, int]) -> None:
    page = np.asarray(page_of(*shape, model=DEMONSTRATION_MODEL))
    side = page.shape[1] // 5
    for corner in (page[:80, :side], page[:80, -side:], page[-60:, :side], page[-60:, -side:]):
        assert (corner == (10, 11, 12)).all()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_warning_is_on_every_page_but_a_cleared_models(shape: tuple[int, int]) -> None:
    assert count(page_of(*shape), RED) > 5000
    assert count(page_of(*shape, model=CLEARED_MODEL), RED) == 0


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_demonstration_is_stamped_above_the_film_and_on_it(shape: tuple[int, int]) -> None:
    page = page_of(*shape, model=DEMONSTRATION_MODEL, findings=(EFFUSION,))
    rows_with_amber = (np.asarray(page) == AMBER).all(axis=-1).sum(axis=1) > 100
    stripes = int((np.diff(rows_with_amber.astype(int)) == 1).sum())
    assert stripes == 2


def test_a_finding_that_is_detected_is_amber_and_the_others_are_not() -> None:
    assert count(page_of(64, 56, findings=(PNEUMONIA,)), AMBER) > 1000
    assert count(page_of(64, 56, findings=(EFFUSION,)), AMBER) == 0


@pytest.mark.parametrize(
    "text",
    [
        "Vertebral compression fracture of the thoracolumbar junction with retropulsion",
        "Pneumonoultramicroscopicsilicovolcanoconiosis" * 3,
        "a",
    ],
)
def test_a_long_name_is_measured_and_never_clipped(text: str) -> None:
    lines = wrapped(text, SMALL, 200)
    assert all(length(line, SMALL) <= 200 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_forty_labels_find_their_place_beside_the_film() -> None:
    findings = tuple(finding(f"Label number {number}", number / 100) for number in range(40))
    page = np.asarray(page_of(500, 500, findings=findings))
    assert ((page == (98, 106, 115)).all(axis=-1)).any()
    assert page.shape[0] < 1300


def activation_at(left: float, top: float, width: float, height: float) -> ActivationMap:
    return ActivationMap(
        label="Pneumonia", rows=1, columns=1, values=(255,), left=left, top=top, width=width, height=height
    )


def test_the_map_lies_where_the_network_looked_in_source_pixels() -> None:
    """A map over columns 100 to 300 and rows 50 to 100 of a 400 by 200 source, on a film drawn at half its size."""
    film = DisplayImage(rows=100, columns=200, pixels=bytes(100 * 200), source_rows=200, source_columns=400)
    picture = np.asarray(film_with_activation(film, activation_at(100, 50, 200, 50), (200, 100)))
    coloured = (picture[..., 0] > picture[..., 2] + 20) & (picture[..., 0] > 100)
    rows, columns = np.nonzero(coloured)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (25, 50, 50, 150)


@pytest.mark.parametrize("highest", [20, 60, 90, 255])
@pytest.mark.parametrize("place", [(0.0, 0.0), (0.9, 0.1), (0.4, 0.6)])
def test_only_what_of_the_map_can_be_seen_is_worked_on_and_that_shows_nowhere(
    monkeypatch: pytest.MonkeyPatch, highest: int, place: tuple[float, float]
) -> None:
    chance = np.random.default_rng(highest)
    cells = chance.integers(0, 40, (9, 11))
    cells[round(place[0] * 8), round(place[1] * 10)] = highest
    shown = ActivationMap(
        label="Pneumonia",
        rows=9,
        columns=11,
        values=tuple(cells.ravel().tolist()),
        left=-3,
        top=20,
        width=420,
        height=300,
    )
    in_part = film_with_activation(display(400, 380), shown, (590, 610))
    monkeypatch.setattr("reports.picture.heatmap.SURELY_INVISIBLE_BELOW", -1)
    assert (np.asarray(film_with_activation(display(400, 380), shown, (590, 610))) == np.asarray(in_part)).all()


@pytest.mark.parametrize("shared", [1, 2, 3])
@pytest.mark.parametrize("size", [(61, 47), (64, 48)])
def test_a_film_in_strips_is_the_film_at_once(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], shared: int
) -> None:
    """Whether a strip is a row or everything, and whether or not pixels that share a value go into its sides."""
    monkeypatch.setattr("reports.picture.heatmap.SHARED_FROM", min(size) // shared)
    width, height = size
    pictures = []
    for strip_pixels in (1, 200, 1 << 30):
        monkeypatch.setattr("reports.picture.heatmap.STRIP_PIXELS", strip_pixels)
        picture = film_with_activation(display(height, width), activation(height, width), size)
        pictures.append(np.asarray(picture))
    assert (pictures[0] == pictures[1]).all()
    assert (pictures[0] == pictures[2]).all()
    assert (pictures[0][..., 0] != pictures[0][..., 2]).any()


@pytest.mark.parametrize(("is_strong", "opacity"), [(True, 0.5), (False, 0.22)])
def test_each_grey_is_blended_with_the_colour_of_the_map_to_the_nearest_of_256(is_strong: bool, opacity: float) -> None:
    """A map that is at its maximum everywhere, pale yellow, over every grey that there is."""
    greys = np.arange(256, dtype=np.uint8).reshape(16, 16)
    film = DisplayImage(rows=16, columns=16, pixels=greys.tobytes(), source_rows=16, source_columns=16)
    picture = film_with_activation(film, activation_at(0, 0, 16, 16), (16, 16), is_strong=is_strong)
    yellow = np.array([252, 244, 160])
    expected = greys[..., np.newaxis] + (yellow - greys[..., np.newaxis].astype(float)) * opacity
    assert (np.asarray(picture)[..., :3] == np.rint(expected)).all()


def test_a_film_without_a_map_is_left_grey() -> None:
    picture = np.asarray(film_with_activation(display(), None, (56, 64)))
    assert (picture[..., 0] == picture[..., 1]).all()
    assert (picture[..., 1] == picture[..., 2]).all()


def test_a_map_that_is_low_everywhere_leaves_the_film_as_it_is() -> None:
    low = replace(activation_at(0, 0, 56, 64), values=(0,))
    picture = film_with_activation(display(), low, (56, 64))
    assert (np.asarray(picture) == np.asarray(film_with_activation(display(), None, (56, 64)))).all()


def test_a_map_of_a_score_below_its_threshold_is_fainter_than_that_of_a_finding() -> None:
    """Scaled to its own maximum, it would look as sure as the other one."""

    def colourfulness(certainty: float) -> float:
        page = np.asarray(page_of(500, 500, findings=(replace(PNEUMONIA, certainty=certainty),)))
        film = page[200:600, 100:700].astype(int)
        return float((film.max(axis=-1) - film.min(axis=-1)).mean())

    assert colourfulness(0.1) < 0.6 * colourfulness(0.9)
    assert colourfulness(0.1) > 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_warning_stands_in_the_lower_band_too_where_no_control_of_a_viewer_covers_it(language: str) -> None:
    pages = [
        np.asarray(
            draw_page(display(500, 500), an_image(), model, "Image 1 · Collimator 0.1.0", words=LANGUAGES[language])
        )
        for model in (MODEL, CLEARED_MODEL)
    ]
    warned, cleared = ((page[-140:] == (238, 118, 104)).all(axis=-1).sum() for page in pages)
    assert warned > 100
    assert cleared == 0


@pytest.mark.parametrize(
    ("unseen", "language", "said"),
    [
        ((), "en", ""),
        ((2, 3), "en", "Not analysed: Image 2 (DX, PA), Image 3 (DX, PA)."),
        ((3,), "de", "Nicht ausgewertet: Bild 3 (DX, PA)."),
        (
            (2, 3, 4, 5, 6),
            "en",
            "Not analysed: Image 2 (DX, PA), Image 3 (DX, PA), Image 4 (DX, PA), Image 5 (DX, PA), … (5).",
        ),
    ],
)
def test_an_overlay_names_the_images_that_nobody_has_looked_at_for_it_may_be_all_that_a_pacs_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unseen: tuple[int, ...], language: str, said: str
) -> None:
    """Image 7 has another model's overlay."""
    told = []

    def drawn(*args: Any, not_analysed: str, **kwargs: Any) -> Image.Image:
        told.append(not_analysed)
        return draw_page(*args, not_analysed=not_analysed, **kwargs)

    monkeypatch.setattr("reports.writers.overlay.draw_page", drawn)
    study = stored_study([radiograph(number) for number in range(1, 8)], tmp_path)
    uids = [instance.sop_instance_uid for instance in study.instances]
    left_out = tuple(LeftOut(sop_instance_uid=uids[number - 1], why="a gate") for number in unseen)
    answer = replace(analysis(study), left_out=left_out[:1], unseen=left_out[1:])
    request = replace(report_request(study, answer), seen_by_others=(uids[6],), language=language)
    assert len(write_results(request, profile="sc_only")) == 1
    assert told == [said]


def test_what_nobody_has_looked_at_stands_in_the_lower_band() -> None:
    plain, told = (
        draw_page(display(500, 500), an_image(), MODEL, "Collimator 0.1.0", not_analysed=words)
        for words in ("", "Not analysed: Image 2 (DX, LL).")
    )
    assert (told.width, told.height - plain.height) == (plain.width, 24)  # a line
    assert np.array_equal(np.asarray(told)[:-160], np.asarray(plain)[: told.height - 160])


def an_image() -> ImageAnalysis:
    return ImageAnalysis(sop_instance_uid="1.2", findings=FINDINGS, activation=activation(500, 500))


def test_an_umlaut_is_a_letter_with_two_dots_and_as_wide_as_without() -> None:
    assert length("Über", SMALL) == length("Uber", SMALL)
    page, plain = (Image.new("RGB", (80, 60)) for _ in range(2))
    write(page, (10, 20), "Ä", 30, (255, 255, 255))
    write(plain, (10, 20), "A", 30, (255, 255, 255))
    above = np.asarray(page)[:, :, 0].astype(int) - np.asarray(plain)[:, :, 0]
    rows, columns = np.nonzero(above > 100)
    assert above.min() == 0
    assert rows.max() < np.nonzero(np.asarray(plain)[:, :, 0])[0].min() + 3
    assert len(np.unique(np.diff(np.unique(columns)))) == 2  # two dots, and a gap between them


def test_a_letter_that_the_font_lacks_is_spelled_and_one_that_nothing_spells_is_a_question_mark() -> None:
    assert length("Straße é", SMALL) == length("Strasse e", SMALL)
    assert length("胸", SMALL) == length("?", SMALL)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_note_is_a_page_of_the_same_design_and_leaves_the_corners_free(language: str) -> None:
    lines = ("The basic plan's 100 studies of this period are used up. " * 3, "The images are kept.")
    page = np.asarray(draw_note("Not analysed yet", lines, "Collimator 0.1.0", words=LANGUAGES[language]))
    height, width = page.shape[:2]
    assert (width, height) == (1280, 860)
    side = width // 5
    for corner in (page[:80, :side], page[:80, -side:], page[-60:, :side], page[-60:, -side:]):
        assert (corner == (10, 11, 12)).all()
    assert (page != (10, 11, 12)).any(axis=-1).sum() > 5000


def test_a_note_that_is_long_makes_its_page_longer() -> None:
    lines = tuple(f"Sentence number {number} of a very long explanation." for number in range(40))
    assert draw_note("Not analysed", lines, "Collimator 0.1.0").height > 1300


MARK = (250, 168, 40)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_region_is_boxed_where_it_is_on_the_film(shape: tuple[int, int]) -> None:
    rows, columns = shape
    box = Region(label="Pneumonia", certainty=0.8, left=columns / 4, top=rows / 4, width=columns / 2, height=rows / 2)
    film = film_with_activation(display(rows, columns), None, (400, 400 * rows // columns))
    image = ImageAnalysis(sop_instance_uid="1.2", findings=FINDINGS, activation=None, regions=(box,))
    draw_marks(film, display(rows, columns), image, font(SMALL))
    down, across = np.nonzero((np.asarray(film)[..., :3] == MARK).all(axis=-1))
    edges = [across.min() / film.width, across.max() / film.width, down.min() / film.height, down.max() / film.height]
    assert edges == pytest.approx([0.25, 0.75, 0.25, 0.75], abs=0.03)


def test_each_of_several_regions_tells_its_own_certainty() -> None:
    one = page_of(500, 500, activation=None, regions=PLACES[:1])
    two = page_of(500, 500, activation=None, regions=(PLACES[0], PLACES[0]))
    # The same box drawn twice: what is new is its text.
    assert (np.asarray(one) != np.asarray(two)).any()


def test_what_was_measured_is_drawn_to_the_films_edges_and_told_beside_it() -> None:
    film = film_with_activation(display(), None, (560, 640))
    image = ImageAnalysis(sop_instance_uid="1.2", findings=(), activation=None, measurements=(COBB_ANGLE,))
    draw_marks(film, display(), image, font(SMALL))
    marked = (np.asarray(film)[..., :3] == MARK).all(axis=-1)
    assert marked[:, :3].any()
    assert marked[:, -3:].any()
    assert count(page_of(500, 500, findings=(), measurements=(replace(COBB_ANGLE, value=30.0),)), AMBER) > 100
