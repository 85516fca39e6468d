"""docs/results.md shows what the writers write. The pictures' bytes are left to the eye."""

import re

from PIL import Image

from docs.results import EXHIBITS, PAGE, PICTURES, SHOWN_WIDTH, TABLES, generated

PICTURE = re.compile(r"\(pictures/results/(\w+\.png)\)")


def test_every_part_of_the_gallery_is_what_the_writers_write_today() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert generated(page) == page, "run `python -m docs.results`, and look at its pictures"


def test_the_page_shows_every_part() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"<!-- table: {name} -->" in page for name in TABLES)


def test_every_picture_that_the_page_shows_is_there_and_no_other() -> None:
    shown = PICTURE.findall(PAGE.read_text(encoding="utf-8"))
    assert len(shown) == len(EXHIBITS) + 2
    assert sorted(shown) == sorted(path.name for path in PICTURES.iterdir())


def test_the_pictures_are_small() -> None:
    for path in PICTURES.iterdir():
        assert path.stat().st_size < 250_000, path.name
        assert Image.open(path).width == SHOWN_WIDTH
