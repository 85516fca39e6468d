"""Compressed pixels (PS3.5 A.4) are followed while they arrive: what is cut short is not acknowledged."""

import struct
from pathlib import Path

import pytest
from pydicom.uid import JPEGBaseline8Bit

from scp.dataset_head import MOST_FRAGMENTS, Fragments
from storage.instances import Spool
from tests.factories.hostile import CR, EXPLICIT, IMPLICIT, Peer, an_instance, store
from tests.factories.services import PATHS, serving

JPEG = str(JPEGBaseline8Bit)
PIXEL_DATA, DELIMITER = b"\xe0\x7f\x10\x00", struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
NATIVE = an_instance("2.25.1")
HEADER = NATIVE.partition(PIXEL_DATA)[0]
IMPLICIT_HEADER = an_instance("2.25.1", transfer_syntax_uid=IMPLICIT).partition(PIXEL_DATA)[0]


def fragment(size: int) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, size) + bytes(size)


def compressed(*sizes: int, end: bytes = DELIMITER) -> bytes:
    """The image with fragments of these sizes behind an empty Basic Offset Table."""
    start = PIXEL_DATA + b"OB\0\0\xff\xff\xff\xff"
    return HEADER + start + b"".join(map(fragment, (0, *sizes))) + end


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("data_set", "syntax", "status"),
    [
        (compressed(1_000), JPEG, 0x0000),
        (compressed(*[1_000] * 700), JPEG, 0x0000),
        (compressed(700_000), JPEG, 0x0000),
        (compressed(1_000, end=b""), JPEG, 0x0000),
        (compressed(1_000, end=DELIMITER + b"what follows"), JPEG, 0x0000),
        (HEADER, JPEG, 0x0000),
        (compressed(1_000, end=b"")[:-500], JPEG, 0xC000),
        (compressed(700_000, end=b"")[:-1], JPEG, 0xC000),
        (compressed(*[1_000] * 700, end=DELIMITER[:5]), JPEG, 0xC000),
        (compressed(700_000, end=b"no header of an item"), JPEG, 0xC000),
        (NATIVE, JPEG, 0xC000),
        (compressed(1_000), EXPLICIT, 0xC000),
        (IMPLICIT_HEADER + PIXEL_DATA + b"\xff\xff\xff\xff" + fragment(1_000) + DELIMITER, IMPLICIT, 0xC000),
    ],
    ids=[
        "one frame", "many fragments", "a large fragment", "no delimiter", "something behind the delimiter",
        "no pixels", "cut in a fragment", "cut in a large fragment", "cut in the delimiter", "noise between fragments",
        "native pixels", "fragments where native pixels should be", "the same, implicit",
    ],
)  # fmt: skip
def test_compressed_pixels_are_stored_when_they_are_whole(
    tmp_path: Path, path: str, data_set: bytes, syntax: str, status: int
) -> None:
    with serving(tmp_path, path, {}) as port, Peer(port) as peer:
        peer.associate(contexts=((1, CR, (syntax,)),))
        assert peer.say(*store("2.25.1", data_set)).status() == status
    stored = [Spool(tmp_path).path(key).read_bytes() for key in Spool(tmp_path).stored_keys()]
    assert [content.endswith(data_set) for content in stored] == [True] * (status == 0x0000)
    assert list(Spool(tmp_path).unfinished()) == []


def test_fragments_without_end_are_not_followed_for_ever() -> None:
    pixels, some = Fragments(), memoryview(fragment(0) * 1_000)
    for _ in range(MOST_FRAGMENTS // 1_000):
        pixels.follow(some)
    pixels.follow(memoryview(b"anything"))
    assert not pixels.is_cut_short
