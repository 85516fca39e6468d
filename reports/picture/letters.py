"""Text on a picture: measured before it is written, never clipped, and in the one font that is always there."""

from collections.abc import Iterator
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from reports.words import in_ascii

Colour = tuple[int, int, int]

# The font has no umlauts: they are its letters with two of its full stops above them.
WITHOUT_DOTS = {"ä": "a", "ö": "o", "ü": "u", "Ä": "A", "Ö": "O", "Ü": "U"}
DOTS_ABOVE, DOTS_APART = 0.1, 0.25  # of the size: between a letter and its dots, and between the middles of both
ALSO_THERE = "·"


def write(
    page: Image.Image, at: tuple[float, float], text: str, size: int, colour: Colour, *, anchor: str = "la"
) -> None:
    """`anchor`: which point of the text is `at`, in Pillow's terms."""
    letters, left, top = _letters(text, size, anchor)
    page.paste(colour, (round(at[0]) + left, round(at[1]) + top), letters)


@lru_cache(maxsize=1024)
def length(text: str, size: int) -> float:
    """In pixels, as it is written."""
    return float(font(size).getlength(_bare(_drawable(text))))


def wrapped(text: str, size: int, width: float) -> list[str]:
    """Text in lines that are measured to fit; a word that is wider than a line is broken, never clipped."""
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and length(joined, size) <= width:
            lines[-1] = joined
        else:
            lines.extend(_broken(word, size, width))
    return lines or [""]


@lru_cache(maxsize=8)
def font(size: int) -> ImageFont.FreeTypeFont:
    """Aileron, which Pillow brings along: no font has to be installed."""
    loaded = ImageFont.load_default(size)
    if not isinstance(loaded, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType, which the overlay's letters need")
    return loaded


def _broken(word: str, size: int, width: float) -> Iterator[str]:
    while length(word, size) > width and len(word) > 1:
        fitting = max(1, next(n for n in range(len(word)) if length(word[: n + 1], size) > width))
        yield word[:fitting]
        word = word[fitting:]
    yield word


def _drawable(text: str) -> str:
    """Text in the characters that there are, or can be made."""
    return "".join(c if c in WITHOUT_DOTS or c in ALSO_THERE else in_ascii(c) for c in text)


def _bare(text: str) -> str:
    return "".join(WITHOUT_DOTS.get(character, character) for character in text)


# Labels, percents and warnings are the same words on page after page, and FreeType takes its time over each.
@lru_cache(maxsize=1024)
def _letters(text: str, size: int, anchor: str) -> tuple[Image.Image, int, int]:
    """How much of each pixel is covered, and where the first one lies as seen from the text's anchor."""
    drawable, of_size = _drawable(text), font(size)
    bare = _bare(drawable)
    left, top, right, bottom = map(round, of_size.getbbox(bare, anchor=anchor))
    room = size // 3 if bare != drawable else 0  # for the dots of a capital letter
    covered = Image.new("L", (max(right - left, 1), max(bottom - top + room, 1)))
    draw = ImageDraw.Draw(covered)
    draw.text((-left, room - top), bare, font=of_size, fill=255, anchor=anchor)
    if room:
        baseline = room - of_size.getbbox(bare, anchor="ls")[1]
        for number, character in enumerate(drawable):
            if character in WITHOUT_DOTS:
                _dot(draw, of_size, bare, number, baseline)
    return covered, left, top - room


def _dot(draw: ImageDraw.ImageDraw, of_size: ImageFont.FreeTypeFont, bare: str, number: int, baseline: float) -> None:
    """Two dots above the letter `number` of what stands on the baseline."""
    first = of_size.getbbox(bare, anchor="ls")[0]
    start, top, end, _ = of_size.getbbox(bare[number], anchor="ls")
    middle = of_size.getlength(bare[:number]) + (start + end) / 2 - first
    dot_start, _, dot_end, _ = of_size.getbbox(".", anchor="ls")
    for side in (-0.5, 0.5):
        x = middle + side * DOTS_APART * of_size.size - (dot_start + dot_end) / 2
        draw.text((x, baseline + top - DOTS_ABOVE * of_size.size), ".", font=of_size, fill=255, anchor="ls")
