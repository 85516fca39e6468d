"""What a compressed image says of itself before it is decoded: its size, and what its samples are.

JPEG and JPEG-LS say it in the frame header, somewhere before the first scan (ISO/IEC 10918-1 B.2.2, 14495-1 C.2.2);
JPEG 2000 in SIZ, right behind its beginning (ISO/IEC 15444-1 A.5.1), also inside of a JP2 file.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

HEAD_BYTES = 1 << 18  # where the header must be: in films among the first thousand, in photographs behind a thumbnail
JPEG_LS_FRAME = 0xF7
FRAMES = frozenset({*range(0xC0, 0xD0), JPEG_LS_FRAME} - {0xC4, 0xC8, 0xCC})  # DHT, JPG and DAC are none
WITHOUT_CONTENT = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})  # a stuffed byte, TEM, RST0 to RST7, SOI
END_OF_IMAGE, START_OF_SCAN, RESTART_INTERVAL = 0xD9, 0xDA, 0xDD
JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
START_OF_CODESTREAM_AND_SIZ = 0xFF4FFF51
START_OF_TILE_PART, END_OF_CODESTREAM = 0xFF90, 0xFFD9


@dataclass(frozen=True, kw_only=True, slots=True)
class Codestream:
    """`bits` of a sample. Of JPEG also where the first scan starts, and after how many units a decoder begins anew."""

    rows: int
    columns: int
    components: int
    bits: int
    scan_start: int = 0
    restart_interval: int = 0


def of_jpeg(stream: bytes | memoryview) -> Codestream:
    """
    Raises:
        ValueError: there is no frame header.
    """
    frame, restart_interval, scan_start = b"", 0, 0
    for marker, content, end in _segments(bytes(stream[:HEAD_BYTES])):
        scan_start = end
        if marker in FRAMES and not frame:
            frame = content
        elif marker == RESTART_INTERVAL and len(content) == 2:
            restart_interval = int.from_bytes(content)
    if len(frame) < 6:
        raise ValueError("the stream has no frame header")
    bits, rows, columns, components = struct.unpack(">BHHB", frame[:6])
    return Codestream(
        rows=rows,
        columns=columns,
        components=components,
        bits=bits,
        scan_start=scan_start,
        restart_interval=restart_interval,
    )


def of_jpeg_2000(stream: bytes | memoryview) -> Codestream:
    """
    Raises:
        ValueError: it does not begin with SOC and SIZ, or its components have not all the same size.
    """
    head = bytes(stream[:HEAD_BYTES])
    start = _in_boxes(head) if head.startswith(JP2_SIGNATURE) else 0
    if len(head) < start + 45:
        raise ValueError("the stream is too short")
    markers, right, bottom, left, top, components, depth = struct.unpack_from(">I4x4I16xHB", head, start)
    if markers != START_OF_CODESTREAM_AND_SIZ:
        raise ValueError("the stream does not begin with SOC and SIZ")
    steps = head[start + 42 : start + 42 + 3 * components]  # of each: its depth, and its steps across and down
    if set(steps[1::3]) | set(steps[2::3]) != {1}:
        raise ValueError("components of a smaller size are not read")
    return Codestream(rows=bottom - top, columns=right - left, components=components, bits=(depth & 0x7F) + 1)


def has_all_tile_parts(stream: bytes | memoryview) -> bool:
    """Whether each of them is as long as it says, and the end comes right behind the last (ISO/IEC 15444-1 A.4).

    OpenJPEG goes on where it does not: with a byte lost, most of a film is another one. Bytes that were exchanged show
    nowhere.
    """
    position = _in_boxes(bytes(stream[:HEAD_BYTES])) if bytes(stream[:12]) == JP2_SIGNATURE else 0
    position += 2  # SOC
    try:
        marker, length = struct.unpack_from(">HH", stream, position)
        while marker != START_OF_TILE_PART:
            if marker < 0xFF00 or length < 2:
                return False
            position += 2 + length
            marker, length = struct.unpack_from(">HH", stream, position)
        while marker == START_OF_TILE_PART:
            (length,) = struct.unpack_from(">6xL", stream, position)
            if not length:  # up to the end, whatever that is: only of the last
                return END_OF_CODESTREAM.to_bytes(2) in bytes(stream[-16:])
            position += length
            (marker,) = struct.unpack_from(">H", stream, position)
    except struct.error:
        return False
    return bool(marker == END_OF_CODESTREAM)


def _segments(head: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Each marker before the first scan, what it holds, and where that ends.

    What lies between them is passed over, as libjpeg does it.
    """
    position = 2
    while (position := head.find(0xFF, position)) >= 0:
        while head[position : position + 1] == b"\xff":
            position += 1
        marker = int.from_bytes(head[position : position + 1])
        position += 1
        if marker in (START_OF_SCAN, END_OF_IMAGE):
            return
        if marker not in WITHOUT_CONTENT:
            length = max(2, int.from_bytes(head[position : position + 2]))
            yield marker, head[position + 2 : position + length], position + length
            position += length


def _in_boxes(head: bytes) -> int:
    """Where the codestream of a JP2 file begins (ISO/IEC 15444-1 I.4)."""
    position = 0
    while position + 16 <= len(head):
        length, kind = struct.unpack_from(">I4s", head, position)
        begin = position + (16 if length == 1 else 8)
        if kind == b"jp2c":
            return begin
        if length == 1:
            length = int.from_bytes(head[position + 8 : position + 16])
        position += max(8, length)
    raise ValueError("the JP2 file holds no codestream")
