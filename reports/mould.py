"""What highdicom built, encoded once, with gaps where each study's own values go.

    highdicom builds it with marks in the place of values ──> bytes, cut at the marks ──> filled for each study

A mark is a value that occurs nowhere else and is of the same kind as what will stand there, so highdicom checks all
the rest, once.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.charset import encode_string
from pydicom.uid import UID
from pydicom.valuerep import DS

from reports.encoding import length_bytes

Points = tuple[tuple[float, float], ...]
Value = UID | str | float | int | Points


PADDING = b"\0 "


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """A whole element's length and value: that of the value `number`, as this VR writes it."""

    number: int
    vr: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """A place between two items where any number of encoded items goes: the children `number`."""

    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Mould:
    pieces: tuple[bytes | Gap | Slot, ...]

    @property
    def values_shown(self) -> set[int]:
        return {piece.number for piece in self.pieces if isinstance(piece, Gap)}

    def fill(self, values: Sequence[Value], children: Sequence[bytes], encodings: list[str]) -> bytes:
        return b"".join(
            piece
            if isinstance(piece, bytes)
            else children[piece.number]
            if isinstance(piece, Slot)
            else encode_value(piece.vr, values[piece.number], encodings)
            for piece in self.pieces
        )


def mark(number: int, value: Value) -> Value:
    """What stands for the value until it is known; of its kind."""
    if isinstance(value, UID):
        return UID(f"2.25.7000000000000000000{number:03}")
    if isinstance(value, str):
        return f"(the value {number:03} of the mould)"
    if isinstance(value, tuple):
        x = float(990000 + number)
        return ((x, 1.0), (x, 2.0), (x, 3.0), (x, 1.0))  # closed, as many a form has to be
    return type(value)(9990000 + number)


def cast(encoded: bytes, marks: Sequence[Value], children: Sequence[bytes] = ()) -> Mould:
    """Cut at each child that stands for its slot (none where it is empty), then wherever a mark is a whole value.

    Raises:
        ValueError: a child is not in there as it was given.
    """
    pieces: list[bytes | Gap | Slot] = [encoded]
    for number, child in enumerate(children):
        if child:
            pieces = _cut(pieces, child, Slot(number=number))
    for number, value in enumerate(marks):
        for shown in _forms(value):
            pieces = [part for piece in pieces for part in _cut_values(piece, shown, number)]
    return Mould(pieces=tuple(piece for piece in pieces if piece != b""))


def encode_value(vr: bytes, value: Value, encodings: list[str]) -> bytes:
    """Length and value of an element. A number may be shown twice, as decimal string and as a floating point."""
    if isinstance(value, UID):
        content, padding = value.encode("ascii"), b"\0"
    elif isinstance(value, str):
        content, padding = encode_string(value, encodings), b" "
    elif isinstance(value, tuple):
        content, padding = _floats(value), b""
    elif vr == b"FD":
        content, padding = struct.pack("<d", value), b""
    else:
        content, padding = str(DS(value, auto_format=True)).encode("ascii"), b" "
    if len(content) % 2:
        content += padding
    return length_bytes(vr, len(content)) + content


def _forms(value: Value) -> list[bytes]:
    """How a mark is written."""
    if isinstance(value, str):
        return [value.encode()]
    if isinstance(value, tuple):
        return [_floats(value)]
    as_text = str(DS(value, auto_format=True)).encode()
    return [as_text, struct.pack("<d", value)] if isinstance(value, float) else [as_text]


def _cut(pieces: list[bytes | Gap | Slot], child: bytes, slot: Slot) -> list[bytes | Gap | Slot]:
    for position, piece in enumerate(pieces):
        if isinstance(piece, bytes) and child in piece:
            before, after = piece.split(child)
            return [*pieces[:position], before, slot, after, *pieces[position + 1 :]]
    raise ValueError("a child is not in what was built of it")


def _cut_values(piece: bytes | Gap | Slot, shown: bytes, number: int) -> list[bytes | Gap | Slot]:
    """Cut out length and value of every element whose whole value is the mark."""
    if not isinstance(piece, bytes):
        return [piece]
    length = len(shown) + len(shown) % 2
    start = piece.find(shown)
    while start >= 0:
        end = start + length
        vr = _vr_of_value(piece, start, length)
        if vr and piece[start:end].rstrip(PADDING) == shown.rstrip(PADDING):
            before, after = piece[: start - len(length_bytes(vr, length))], piece[end:]
            return [before, Gap(number=number, vr=vr), *_cut_values(after, shown, number)]
        start = piece.find(shown, start + 1)
    return [piece]


def _vr_of_value(piece: bytes, start: int, length: int) -> bytes:
    """The VR of the element whose value begins at `start` and has this length; empty if none does."""
    for vr in (piece[start - 8 : start - 6], piece[start - 4 : start - 2]):
        if vr.isalpha() and vr.isupper() and piece.endswith(vr + length_bytes(vr, length), 0, start):
            return vr
    return b""


def _floats(points: Points) -> bytes:
    return b"".join(struct.pack("<2f", *point) for point in points)
