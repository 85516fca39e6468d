"""How the listing verbs print: aligned columns for people, a list of objects for programs."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime

from storage.plain import to_plain

GAP = "  "


def print_objects(objects: Iterable[object]) -> None:
    """A JSON list; the keys are the fields' names."""
    print(json.dumps([to_plain(one) for one in objects], indent=2))


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as their widest cell; nothing but the header when there is no row."""
    lines = [list(header), *([cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        print(GAP.join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def cell(value: object) -> str:
    """A value as one line of text. What a peer chose must not move the cursor or start a line of its own."""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = "-" if value in (None, "") else str(value)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
