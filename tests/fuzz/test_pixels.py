"""Films of every kind come out as they went in, and as DCMTK reads them; damaged ones not otherwise, or not at all."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import uid

from inference import pixels
from tests.fuzz import films
from tests.fuzz.films import SYNTAXES, film
from tests.fuzz.pixel_path import DAMAGE, FIXED, pixels_target
from tests.inference.images import frame_0

SOME = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
A_BYTE = st.integers(0, 255)
DAMAGES = st.lists(st.tuples(A_BYTE, st.integers(0, 65535), A_BYTE), max_size=3)
UNPACKED_BY = {
    uid.JPEGBaseline8Bit: "dcmdjpeg",
    uid.JPEGExtended12Bit: "dcmdjpeg",
    uid.JPEGLossless: "dcmdjpeg",
    uid.JPEGLosslessSV1: "dcmdjpeg",
    uid.JPEGLSLossless: "dcmdjpls",
    uid.JPEGLSNearLossless: "dcmdjpls",
    uid.RLELossless: "dcmdrle",
    uid.DeflatedExplicitVRLittleEndian: "dcmconv",
}


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], None]:
    return pixels_target(tmp_path_factory.mktemp("films"))


@SOME
@given(named=st.tuples(*[A_BYTE] * 6), damages=DAMAGES)
def test_a_film_is_read_as_it_was_made_and_a_damaged_one_or_refused(
    check: Callable[[bytes], None], named: tuple[int, ...], damages: list[tuple[int, int, int]]
) -> None:
    check(FIXED.pack(*named) + b"".join(DAMAGE.pack(*damage) for damage in damages))


@pytest.mark.parametrize("transfer_syntax_uid", SYNTAXES, ids=lambda syntax: syntax.name)
def test_every_layout_comes_out_of_every_transfer_syntax(tmp_path: Path, transfer_syntax_uid: uid.UID) -> None:
    syntax, path = SYNTAXES.index(transfer_syntax_uid), tmp_path / "film.dcm"
    for layout in range(len(films.known_layouts(transfer_syntax_uid))):
        made = film(syntax, layout, 3 * layout, layout, layout)
        path.write_bytes(made.file())
        read = pixels.read(path).stored.astype(np.int64)
        assert np.abs(read - made.values).max() <= made.off_by


@pytest.mark.parametrize(("transfer_syntax_uid", "program"), UNPACKED_BY.items())
def test_grey_films_equal_those_that_dcmtk_unpacks(
    require_program: Callable[[str], str], tmp_path: Path, transfer_syntax_uid: uid.UID, program: str
) -> None:
    """Which leaves what a lossy codec made of the greatest value; and junk: only bits that are stored are compared."""
    syntax, path, unpacked = SYNTAXES.index(transfer_syntax_uid), tmp_path / "film.dcm", tmp_path / "unpacked.dcm"
    for layout, known in enumerate(films.known_layouts(transfer_syntax_uid)):
        if known.is_colour or known.unused_below:
            continue
        made = film(syntax, layout, layout, 3 * layout, layout)
        path.write_bytes(made.file())
        subprocess.run([require_program(program), *_plain(program), path, unpacked], check=True)
        mask = (1 << known.stored) - 1
        by_dcmtk = frame_0(unpacked)
        stored = np.clip(by_dcmtk, *known.range) if made.off_by else by_dcmtk
        np.testing.assert_array_equal(pixels.read(path).stored.astype(np.int64) & mask, stored & mask)


def _plain(program: str) -> list[str]:
    return ["+te"] if program == "dcmconv" else []
