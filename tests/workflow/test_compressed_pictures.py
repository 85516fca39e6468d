"""Pictures travel compressed where a destination is to have them so and takes them so, else as they lie."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from reports.write import write_results
from scu.store import Answer, SendOutcome, StoreAssociation
from storage.database import Database
from storage.study_keys import study_name
from tests.factories.analyses import report_request
from tests.factories.sources import radiograph, stored_study
from tests.scu.conftest import Peer, storescp  # noqa: F401  # a fixture
from tests.workflow.conftest import Puts
from tests.workflow.test_delivery import run_newest, states, waiting_study
from workflow.results import keep
from workflow.rooms import Rooms


def rooms_with(rooms: Rooms, peer: Peer, compression: str) -> Rooms:
    clinics = tuple(
        replace(
            clinic,
            destinations=tuple(
                replace(one, ae_title="STORESCP", port=peer.address.port, compression=compression)
                for one in clinic.destinations
            ),
        )
        for clinic in rooms.clinics
    )
    return replace(rooms, clinics=clinics)


@pytest.fixture
def overlay(rooms: Rooms, tmp_path: Path) -> bytes:
    """A study whose overlay waits for the destination."""
    folder = tmp_path / "source"
    folder.mkdir()
    study = stored_study([radiograph(1)], folder)
    (written,) = write_results(report_request(study), profile="sc_only")
    name = study_name("st-mary", "1.2.3.1")
    row = keep(rooms, written, study=name, profile="standard", is_note=False)
    waiting_study(rooms, 1, [row])
    rooms.results.put(row.sop_instance_uid, written.content, study=name)  # where waiting_study has put something
    return written.content


def arrived(peer: Peer) -> pydicom.Dataset:
    (path,) = peer.folder.iterdir()
    return pydicom.dcmread(path)


@pytest.mark.parametrize(
    ("compression", "takes", "arrives_in"),
    [
        ("rle", "+xr", RLELossless),
        ("rle", "+x=", ExplicitVRLittleEndian),
        ("none", "+xr", ExplicitVRLittleEndian),
    ],
)
def test_a_picture_is_compressed_where_it_is_to_be_and_is_taken_so(
    database: Database,
    rooms: Rooms,
    puts: Puts,
    storescp: Callable[..., Peer],  # noqa: F811
    overlay: bytes,
    compression: str,
    takes: str,
    arrives_in: str,
) -> None:
    peer = storescp(takes)
    run_newest(rooms_with(rooms, peer, compression), puts)
    assert states(database) == ("done", ["delivered"])
    there, sent = arrived(peer), pydicom.dcmread(BytesIO(overlay))
    assert there.file_meta.TransferSyntaxUID == arrives_in
    assert there.SOPInstanceUID == sent.SOPInstanceUID
    assert (there.pixel_array == sent.pixel_array).all()


def test_a_compressed_picture_that_is_refused_goes_as_it_lies_on_the_same_association(
    database: Database,
    rooms: Rooms,
    puts: Puts,
    storescp: Callable[..., Peer],  # noqa: F811
    overlay: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send = StoreAssociation.send
    seen = []

    def refuses_rle(association: StoreAssociation, file: object) -> SendOutcome:
        outcome = send(association, file)  # type: ignore[arg-type]
        seen.append(file.transfer_syntax_uid)  # type: ignore[attr-defined]
        is_compressed = seen[-1] == RLELossless
        return replace(outcome, answer=Answer.REFUSED, status=0xC000) if is_compressed else outcome

    monkeypatch.setattr(StoreAssociation, "send", refuses_rle)
    run_newest(rooms_with(rooms, storescp("+xr"), "rle"), puts)
    assert seen == [RLELossless, ExplicitVRLittleEndian]
    assert states(database) == ("done", ["delivered"])
