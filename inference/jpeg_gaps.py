"""Whether libjpeg has made up a part of a JPEG image: where a stream lacks one it only warns, and nobody hears it.

    lossless, and image does not end in middle grey?  --yes--> all of it is there
               |no
    decode again, with more data behind the stream: becomes another image?  --no--> the film is grey there by itself

What libjpeg runs out of, it fills with the grey in the middle of its range. The first question costs nothing, and few
films come to the second; of lossless ones, whose values leave their range soon behind a gap. A stream with restart
intervals may lack one in its middle: there grey is looked for everywhere. Where as many blocks are found behind a gap
as there should be, or more, neither sees it, nor bytes that were exchanged for others.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.codestream import Codestream

Pixels = NDArray[Any]

END_OF_IMAGE = b"\xff\xd9"
MARKER = re.compile(rb"(\xff[^\x00\xff])", re.DOTALL)
RESTART_OR_SCAN = re.compile(rb"\xff([\xd0-\xd7\xda])")
MOST_MARKERS = 1 << 18  # films have fewer; a hostile stream may be made of markers alone
RESTARTS = [bytes((0xFF, 0xD0 + number)) for number in range(8)]
BLOCK = 8  # samples across and down
# The first makes data of an 0xFF before it (ISO/IEC 10918-1 B.1.1.5).
MORE = bytes(range(0x00, 0xFF, 4))
# A decoder that is between two intervals waits for the next one's number, and passes over the rest.
BEHIND = MORE + b"".join(restart + MORE for restart in RESTARTS) + END_OF_IMAGE


def is_filled_up(
    decoded: Pixels,
    stream: bytes | memoryview,
    said: Codestream,
    decode: Callable[[bytes], Pixels],
    *,
    is_lossless: bool,
) -> bool:
    """
    Args:
        decoded: (rows, columns) or (rows, columns, 3), as `decode` makes it of the stream.
        stream: without its end-of-image marker.
    """
    if said.restart_interval and not _has_all_restarts(stream[said.scan_start :]):
        return True
    if is_lossless and not _has_grey(decoded, said):
        return False
    # More data before each marker, too: where a piece is lost, its ends may have made one of what they were.
    head, scans = bytes(stream[: said.scan_start]), bytes(stream[said.scan_start :])
    longer = head + scans[:2] + MARKER.sub(MORE + rb"\1", scans[2:], count=MOST_MARKERS) + BEHIND
    return not np.array_equal(decode(longer), decoded)


def _has_all_restarts(scans: bytes | memoryview) -> bool:
    """Whether each scan's are numbered from 0 to 7 and from 0 again, as ISO/IEC 10918-1 B.2.1 says."""
    due = 0
    for found in RESTART_OR_SCAN.finditer(scans):
        (marker,) = found[1]
        if marker == 0xDA:
            due = 0
        elif marker == 0xD0 + due % 8:
            due += 1
        else:
            return False
    return True


def _has_grey(decoded: Pixels, said: Codestream) -> bool:
    """The width of a block: at the end, or anywhere where the decoder may have gone on behind a gap."""
    asked = decoded[:, said.columns % BLOCK :] if said.restart_interval else decoded[-1:, -BLOCK:]
    is_grey = asked == 1 << (said.bits - 1)
    if is_grey.ndim == 3:
        is_grey = is_grey.all(axis=2)
    return bool(is_grey.reshape(-1, BLOCK).all(axis=1).any())
