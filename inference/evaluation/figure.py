"""A small writer of SVG for plots: axes, lines, bands, bars and marks, in the units of the data.

Colours and fonts are classes of the page's style sheet, so that one drawing is right on light, dark and paper. Every
figure has a title and a description for those who cannot see it (SVG 2, 5.8), and needs nothing from elsewhere.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby

WIDTH, HEIGHT = 380, 330
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 14, 48  # of the drawing area's frame

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """`ticks`: (place, what it says there)."""

    label: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]


def shares(label: str) -> Axis:
    """From 0 to 1."""
    return Axis(label=label, low=0.0, high=1.0, ticks=[(tick / 5, f"{tick / 5:.1f}") for tick in range(6)])


@dataclass(kw_only=True, slots=True)
class Figure:
    """Marks lie on each other in the order in which they are drawn. `name` is its id on the page."""

    name: str
    title: str
    description: str
    x: Axis
    y: Axis
    marks: list[str] = field(default_factory=list)

    def line(self, points: Iterable[Point], *, style: str) -> None:
        self.marks.append(f'<path class="line {style}" d="{self._path(points)}"/>')

    def area(self, points: Iterable[Point], *, style: str) -> None:
        self.marks.append(f'<path class="area {style}" d="{self._path(points)}Z"/>')

    def bar(self, low: Point, high: Point, *, style: str) -> None:
        """A rectangle between two corners."""
        x, y = self._at((low[0], high[1]))
        right, bottom = self._at((high[0], low[1]))
        size = f'width="{right - x:.1f}" height="{bottom - y:.1f}"'
        self.marks.append(f'<rect class="bar {style}" x="{x:.1f}" y="{y:.1f}" {size}/>')

    def dot(self, point: Point, *, style: str) -> None:
        x, y = self._at(point)
        self.marks.append(f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>')

    def text(
        self, point: Point, words: str, *, style: str, anchor: str = "start", shift_px: Point = (0.0, 0.0)
    ) -> None:
        """`shift_px`: to the right and down, so that words stand beside a mark."""
        x, y = self._at(point)
        self.marks.append(_text(x + shift_px[0], y + shift_px[1], words, style=style, anchor=anchor))

    def svg(self) -> str:
        return (
            f'<svg class="figure" role="img" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'aria-labelledby="{self.name}-title {self.name}-desc">'
            f'<title id="{self.name}-title">{escape(self.title)}</title>'
            f'<desc id="{self.name}-desc">{escape(self.description)}</desc>'
            f"{self._axes()}{''.join(self.marks)}</svg>"
        )

    def _axes(self) -> str:
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        parts = []
        for value, words in self.x.ticks:
            x, _ = self._at((value, self.y.low))
            parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
            parts.append(_text(x, bottom + 18, words, style="tick", anchor="middle"))
        for value, words in self.y.ticks:
            _, y = self._at((self.x.low, value))
            parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
            parts.append(_text(LEFT - 7, y + 4, words, style="tick", anchor="end"))
        middle_x, middle_y = (LEFT + right) / 2, (TOP + bottom) / 2
        parts.append(f'<path class="frame" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
        parts.append(_text(middle_x, HEIGHT - 8, self.x.label, style="axis", anchor="middle"))
        turned = _text(0, 0, self.y.label, style="axis", anchor="middle")
        parts.append(f'<g transform="translate(14 {middle_y}) rotate(-90)">{turned}</g>')
        return "".join(parts)

    def _path(self, points: Iterable[Point]) -> str:
        places = [f"{x:.1f} {y:.1f}" for x, y in map(self._at, points)]
        # Ten thousand images have ten thousand thresholds, and the drawing a few hundred places.
        return "M" + "L".join(place for place, _ in groupby(places))

    def _at(self, point: Point) -> Point:
        """Where a point of the data lies on the drawing."""
        across = (point[0] - self.x.low) / (self.x.high - self.x.low)
        up = (point[1] - self.y.low) / (self.y.high - self.y.low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def _text(x: float, y: float, words: str, *, style: str, anchor: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
