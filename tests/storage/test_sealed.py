"""At rest, what the node keeps is noise without its key, and is refused when a single bit of it was changed."""

import os
import re
import secrets
from pathlib import Path

import pydicom
import pytest

from storage.content import is_same_content
from storage.headers import read_stored_instance
from storage.instances import ResultFolder, Spool
from storage.sealed import BLOCK_BYTES, PLAIN_BYTES, Damaged, lent_descriptor
from storage.study_keys import KeyNotThere, MasterKey, StudyKeys, study_name
from tests.factories.arrivals import encoded, files_in, spooled
from tests.factories.sources import radiograph

STUDY = study_name("st-mary", "2.25.4711.1")
HEADER_BYTES, TAG_BYTES = 64, 16
FIRST_BYTES = PLAIN_BYTES - HEADER_BYTES  # of block 0
# Around the ends of blocks, where readers go wrong.
SIZES = [
    *(0, 1, FIRST_BYTES - 1, FIRST_BYTES, FIRST_BYTES + 1),
    *(PLAIN_BYTES, FIRST_BYTES + PLAIN_BYTES - 1, FIRST_BYTES + PLAIN_BYTES, FIRST_BYTES + PLAIN_BYTES + 1, 200_001),
]


@pytest.fixture
def keys(tmp_path: Path) -> StudyKeys:
    return StudyKeys(tmp_path, [MasterKey(secret=b"m" * 32)])


@pytest.fixture
def sealed(tmp_path: Path, keys: StudyKeys) -> Spool:
    return Spool(tmp_path, keys=keys)


def stored(spool: Spool, content: bytes, *, pieces: int = 1 << 30, study: str = STUDY) -> str:
    """Put it into the spool in fragments of so many bytes."""
    file = spool.receive(study)
    for start in range(0, len(content), pieces):
        file.write(memoryview(content)[start : start + pieces])
    return file.commit()


def read(spool: Spool, key: str) -> bytes:
    with spool.open(key) as file:
        return file.read()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pieces", [1 << 30, 131_060, 16_372, 65_536])
def test_what_was_received_is_read_back_however_it_came(sealed: Spool, size: int, pieces: int) -> None:
    content = secrets.token_bytes(size)
    assert read(sealed, stored(sealed, content, pieces=pieces)) == content


def test_several_fragments_of_one_write_are_kept_in_their_order(sealed: Spool) -> None:
    fragments = [secrets.token_bytes(size) for size in (10, PLAIN_BYTES, 5, 2 * PLAIN_BYTES, 0, 7)]
    file = sealed.receive(STUDY)
    file.write(*fragments)
    assert read(sealed, file.commit()) == b"".join(fragments)


def test_a_fragments_memory_may_be_used_again_at_once(sealed: Spool) -> None:
    memory = bytearray(b"first!")
    file = sealed.receive(STUDY)
    file.write(memory)
    memory[:] = b"second"
    file.write(memory)
    assert read(sealed, file.commit()) == b"first!second"


def test_a_sealed_file_is_read_from_any_place(sealed: Spool) -> None:
    content = secrets.token_bytes(3 * PLAIN_BYTES + 17)
    with sealed.open(stored(sealed, content)) as file:
        for place in (2 * PLAIN_BYTES + 5, 0, PLAIN_BYTES - 3, len(content) - 1, len(content), len(content) + 9):
            assert file.seek(place) == place
            assert file.read(10) == content[place : place + 10]
        assert file.seek(-5, os.SEEK_END) == len(content) - 5
        assert file.read() == content[-5:]
        with pytest.raises(OSError, match="Invalid argument"):
            file.seek(-1)


def test_pydicom_reads_a_sealed_file_like_any_other(sealed: Spool) -> None:
    key = spooled(sealed, radiograph(1), study=STUDY)
    with sealed.open(key) as file:
        assert pydicom.dcmread(file, stop_before_pixels=True).PatientID == "PID0001"
    with sealed.open(key) as file:
        assert pydicom.dcmread(file).PixelData == radiograph(1).PixelData


def test_nothing_of_the_content_shows_on_the_disk(sealed: Spool, tmp_path: Path) -> None:
    spooled(sealed, radiograph(1), study=STUDY)
    ResultFolder(tmp_path, keys=sealed.keys).put("2.25.7", encoded(radiograph(1)), study=STUDY)
    written = b"".join(path.read_bytes() for path in files_in(tmp_path))
    for told in (b"DOE", b"PID0001", b"19700101", b"DICM", b"2.25.4711"):
        assert told not in written


def test_the_same_content_twice_is_not_the_same_on_the_disk(sealed: Spool) -> None:
    one, other = (stored(sealed, b"the same") for _ in range(2))
    assert sealed.path(one).read_bytes()[HEADER_BYTES:] != sealed.path(other).read_bytes()[HEADER_BYTES:]
    assert read(sealed, one) == read(sealed, other)


@pytest.mark.parametrize("place", [0, 8, 9, 16, 40, HEADER_BYTES, HEADER_BYTES + 1000, -1, -20])
def test_a_flipped_bit_is_refused(sealed: Spool, place: int) -> None:
    path = sealed.path(key := stored(sealed, secrets.token_bytes(PLAIN_BYTES + 100)))
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)
    if place == 0:  # no longer marked as sealed, and no reader takes it for anything else that the node stored
        with pytest.raises(ValueError, match="no File Meta of this node"):
            read_stored_instance(sealed, key)
    else:
        with pytest.raises((Damaged, KeyNotThere)):
            read(sealed, key)


@pytest.mark.parametrize(
    "left",
    [
        0,
        10,
        HEADER_BYTES,
        HEADER_BYTES + TAG_BYTES,
        BLOCK_BYTES,
        BLOCK_BYTES + TAG_BYTES,
        2 * BLOCK_BYTES,
        -1,
        -TAG_BYTES,
    ],
)
def test_a_file_that_was_cut_is_refused_before_any_of_it_is_used(sealed: Spool, left: int) -> None:
    path = sealed.path(key := stored(sealed, secrets.token_bytes(2 * PLAIN_BYTES + 100)))
    os.truncate(path, left if left >= 0 else path.stat().st_size + left)
    if left == 0:
        assert read(sealed, key) == b""  # an empty file is no sealed file, and no instance either
        with pytest.raises(ValueError, match="no File Meta of this node"):
            read_stored_instance(sealed, key)
    else:
        with pytest.raises(Damaged, match="the sealed file is damaged"):
            sealed.open(key)


def test_blocks_that_changed_places_are_refused(sealed: Spool) -> None:
    path = sealed.path(key := stored(sealed, secrets.token_bytes(3 * PLAIN_BYTES)))
    content = path.read_bytes()
    first, second, third, last = (
        content[start : start + BLOCK_BYTES] for start in range(0, 4 * BLOCK_BYTES, BLOCK_BYTES)
    )
    path.write_bytes(first + third + second + last)
    with pytest.raises(Damaged, match="block 1 is not what was stored"):
        read(sealed, key)


def test_a_file_under_the_name_of_another_of_its_study_is_refused(sealed: Spool) -> None:
    one, other = stored(sealed, b"one"), stored(sealed, b"other")
    sealed.path(one).rename(sealed.path(other))
    with pytest.raises(Damaged):
        sealed.open(other)


def test_what_was_stored_before_there_was_a_key_stays_readable(tmp_path: Path, keys: StudyKeys) -> None:
    before = stored(Spool(tmp_path), b"in clear")
    ResultFolder(tmp_path).put("2.25.7", b"result", study=STUDY)
    assert read(Spool(tmp_path, keys=keys), before) == b"in clear"
    with ResultFolder(tmp_path, keys=keys).open("2.25.7") as file:
        assert file.read() == b"result"


def test_an_identical_re_send_is_known_whether_the_first_was_sealed_or_not(tmp_path: Path, keys: StudyKeys) -> None:
    in_clear = spooled(Spool(tmp_path), radiograph(1))
    spool = Spool(tmp_path, keys=keys)
    assert is_same_content(spool, in_clear, spooled(spool, radiograph(1), study=STUDY))
    assert not is_same_content(spool, in_clear, spooled(spool, radiograph(2), study=STUDY))


def test_without_the_key_file_a_sealed_instance_says_what_is_missing(sealed: Spool, tmp_path: Path) -> None:
    key = stored(sealed, b"content")
    with pytest.raises(KeyNotThere, match=r"it is sealed, and storage\.encryption_key_file is not set"):
        Spool(tmp_path).open(key)


def test_the_key_goes_and_with_it_all_of_the_study_but_nothing_else(sealed: Spool, keys: StudyKeys) -> None:
    one, two = stored(sealed, b"one"), stored(sealed, b"two")
    other = stored(sealed, b"other", study=study_name("st-mary", "2.25.4711.2"))
    assert keys.destroy(STUDY)
    for key in (one, two):
        with pytest.raises(KeyNotThere, match="the key that it is sealed with was destroyed"):
            sealed.open(key)
    assert read(sealed, other) == b"other"
    assert not keys.destroy(STUDY)


def test_an_instance_of_a_study_that_is_erased_while_it_comes_is_not_acknowledged(
    sealed: Spool, keys: StudyKeys
) -> None:
    file = sealed.receive(STUDY)
    file.write(b"half of it")
    keys.destroy(STUDY)
    stored(sealed, b"the study has a new key by now")
    with pytest.raises(KeyNotThere, match="the study was erased while this came"):
        file.commit()
    file.discard()
    assert len(list(sealed.stored_keys())) == 1
    assert list(sealed.unfinished()) == []


def test_an_instance_of_no_known_study_has_a_key_of_its_own_that_goes_with_it(sealed: Spool, keys: StudyKeys) -> None:
    one, other = stored(sealed, b"one", study=""), stored(sealed, b"other", study="")
    assert sorted(path.stem for path in files_in(keys.root)) == sorted([one, other])
    sealed.remove(one)
    assert [path.stem for path in files_in(keys.root)] == [other]
    assert read(sealed, other) == b"other"


@pytest.mark.parametrize("is_sealed", [True, False])
def test_the_plain_text_is_lent_by_a_descriptor_and_never_on_a_disk(
    tmp_path: Path, keys: StudyKeys, is_sealed: bool
) -> None:
    spool = Spool(tmp_path, keys=keys if is_sealed else None)
    content = secrets.token_bytes(2 * PLAIN_BYTES + 5)
    key = stored(spool, content)
    with lent_descriptor(spool.open(key)) as descriptor:
        assert Path(f"/proc/self/fd/{descriptor}").read_bytes() == content
        is_in_memory = re.match("/memfd:", os.readlink(f"/proc/self/fd/{descriptor}")) is not None
    assert is_in_memory is is_sealed
    assert list(spool.unfinished()) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
