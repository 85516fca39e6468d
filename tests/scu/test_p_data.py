"""A file as P-DATA-TF PDUs: all of it, in pieces that the peer takes, and the last one marked (PS3.8 9.3.5, E.2)."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scu import p_data
from scu.p_data import HEADER, pdus


def parsed(written: bytes) -> list[tuple[int, int, bytes]]:
    """Presentation context ID, message control header and fragment of each PDU, which has one PDV."""
    found, at = [], 0
    while at < len(written):
        kind, pdu_length, pdv_length, context_id, control = HEADER.unpack_from(written, at)
        assert (kind, pdu_length) == (4, pdv_length + 4)
        end = at + 6 + pdu_length
        found.append((context_id, control, written[at + HEADER.size : end]))
        at = end
    assert at == len(written)
    return found


@given(
    content=st.binary(max_size=300), offset=st.integers(0, 20), maximum=st.integers(7, 64), piece=st.integers(1, 100)
)
def test_every_byte_goes_out_once_in_pieces_that_the_peer_takes(
    content: bytes, offset: int, maximum: int, piece: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(p_data, "PIECE_BYTES", piece)
        file = io.BytesIO(content)
        file.seek(offset)
        sent = parsed(b"".join(pdus(file, 3, maximum)))
    assert b"".join(fragment for _, _, fragment in sent) == content[offset:]
    assert all(len(fragment) + p_data.PDV_OVERHEAD <= maximum for _, _, fragment in sent)
    assert [control for _, control, _ in sent] == [0] * (len(sent) - 1) + [2]
    assert {context_id for context_id, _, _ in sent} == {3}


@pytest.mark.parametrize("maximum", [0, 1 << 20])
def test_a_peer_that_takes_any_length_gets_128_kib_at_a_time(maximum: int) -> None:
    sent = parsed(b"".join(pdus(io.BytesIO(bytes(300_000)), 1, maximum)))
    assert [len(fragment) for _, _, fragment in sent] == [131_072, 131_072, 37_856]


def test_a_peer_that_names_less_than_a_pdv_needs_gets_single_bytes() -> None:
    assert len(parsed(b"".join(pdus(io.BytesIO(b"abc"), 1, 4)))) == 3
