"""N-EVENT-REPORT of storage commitment: who may report what, and what is answered with success is on disk."""

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role
from pynetdicom.association import Association

import storage.requests.files
from cli.listener import services_of
from config.settings import Settings
from domain.clinics import Destination
from domain.commitment import Reference
from domain.confirmation import Failed, Report
from domain.hosts import plain_network
from scp.callers import Callers
from scp.confirmation import ConfirmationService
from scp.peer import Peer
from scp.requests import CommandField, Request, Services
from storage.plain import from_plain
from storage.requests.confirmation_folder import Asked, ConfirmationFolder
from tests.factories.arrivals import encoded
from tests.factories.hostile import A_ASSOCIATE_RJ, associate_rq
from tests.factories.hostile import Peer as RawPeer
from tests.factories.services import CLINIC, LOOPBACK, MODALITY, PATHS, request, serving

PUSH_MODEL = "1.2.840.10008.1.20.1"
CALLING_AE_TITLE_NOT_RECOGNIZED = (1, 1, 3)  # rejected permanently, by the user, PS3.8 Table 9-21
WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
VERIFICATION = "1.2.840.10008.1.1"
SC = "1.2.840.10008.5.1.4.1.1.7"
PACS = Destination(name="pacs", ae_title="PACS", host=LOOPBACK, port=4242, commitment=True)
ARCHIVE = Destination(name="archive", ae_title="ARCHIVE", host="192.0.2.9", port=4242, commitment=True)
HOSPITAL = replace(CLINIC, destinations=(PACS, ARCHIVE))
PEER = Peer(association="a1", clinic="", ae_title="PACS", address=LOOPBACK)


@pytest.fixture
def folder(tmp_path: Path) -> ConfirmationFolder:
    """The PACS was asked under 2.25.9."""
    folder = ConfirmationFolder(tmp_path)
    folder.remember("2.25.9", Asked(clinic="st-mary", destination="pacs"))
    return folder


def event_information(
    *committed: str, failed: dict[str, int] | None = None, transaction_uid: str | None = "2.25.9"
) -> Dataset:
    """PS3.4 Table J.3-3."""
    information = Dataset()
    if transaction_uid is not None:
        information.TransactionUID = transaction_uid
    if committed:
        information.ReferencedSOPSequence = [_item(uid) for uid in committed]
    if failed:
        information.FailedSOPSequence = [_item(uid) for uid in failed]
        for item, reason in zip(information.FailedSOPSequence, failed.values(), strict=True):
            item.FailureReason = reason
    return information


def _item(uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = SC, uid
    return item


def event_report(
    information: Dataset | bytes, *, instance: str = WELL_KNOWN_INSTANCE, event_type: int | None = 1
) -> Request:
    asked = request(CommandField.N_EVENT_REPORT_RQ, PUSH_MODEL, instance, information)
    return replace(asked, event_type_id=event_type)


def answer(folder: ConfirmationFolder, asked: Request, peer: Peer = PEER) -> int:
    return ConfirmationService(folder, [HOSPITAL]).handle(asked, peer).status


def kept(folder: ConfirmationFolder) -> list[Report]:
    box = folder.reports
    return [from_plain(Report, json.loads(box.read(key) or b"")) for key in box.waiting()]


def services(folder: ConfirmationFolder) -> Services:
    return {(CommandField.N_EVENT_REPORT_RQ, PUSH_MODEL): ConfirmationService(folder, [HOSPITAL]).handle}


def associated(
    port: int, *, ae_title: str = "PACS", syntax: str = ExplicitVRLittleEndian, has_role: bool = True
) -> Association:
    """An archive's association: it proposes to be the SCP of storage commitment, or knows no roles."""
    ae = AE(ae_title)
    ae.dimse_timeout = 30
    ae.add_requested_context(PUSH_MODEL, syntax)
    ae.add_requested_context(VERIFICATION)
    ae.add_requested_context(SC)
    roles = [build_role(PUSH_MODEL, scp_role=True)] if has_role else []
    return ae.associate(LOOPBACK, port, ae_title="COLLIMATOR", ext_neg=roles)  # type: ignore[arg-type]


def reason_of_rejection(port: int, *, ae_title: str) -> tuple[int, int, int]:
    """Result, Source and Reason; pynetdicom's requestor takes a rejection that comes at once for a lost connection."""
    contexts = [(1, PUSH_MODEL, (ExplicitVRLittleEndian,)), (3, VERIFICATION, (ExplicitVRLittleEndian,))]
    with RawPeer(port) as peer:
        kind, content = peer.say(associate_rq(contexts=contexts, calling=ae_title.encode())).hear()
    assert kind == A_ASSOCIATE_RJ
    return content[1], content[2], content[3]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_report_is_on_disk_when_it_is_answered(
    tmp_path: Path, folder: ConfirmationFolder, path: str, syntax: str
) -> None:
    with serving(tmp_path, path, services(folder), clinic=HOSPITAL) as port:
        association = associated(port, syntax=syntax)
        information = event_information("2.25.1", failed={"2.25.2": 0x0112})
        status, _ = association.send_n_event_report(information, 2, PUSH_MODEL, WELL_KNOWN_INSTANCE)
        (report,) = kept(folder)
        association.release()
    assert status.Status == 0x0000
    assert report == Report(
        transaction_uid="2.25.9",
        committed=(Reference(sop_class_uid=SC, sop_instance_uid="2.25.1"),),
        failed=(Failed(reference=Reference(sop_class_uid=SC, sop_instance_uid="2.25.2"), reason=0x0112),),
    )


@pytest.mark.parametrize("path", PATHS)
def test_an_archive_that_wants_to_be_the_scp_may_and_one_that_knows_no_roles_reports_all_the_same(
    tmp_path: Path, folder: ConfirmationFolder, path: str
) -> None:
    with serving(tmp_path, path, services(folder), clinic=HOSPITAL) as port:
        for has_role in (True, False):
            association = associated(port, has_role=has_role)
            (context,) = [one for one in association.accepted_contexts if one.abstract_syntax == PUSH_MODEL]
            assert (context.as_scu, context.as_scp) == ((False, True) if has_role else (True, False))
            status, _ = association.send_n_event_report(event_information("2.25.1"), 1, PUSH_MODEL, WELL_KNOWN_INSTANCE)
            association.release()
            assert status.Status == 0x0000
    assert len(kept(folder)) == 2


@pytest.mark.parametrize("path", PATHS)
def test_a_destination_that_is_no_caller_may_report_and_nothing_else(
    tmp_path: Path, folder: ConfirmationFolder, path: str
) -> None:
    with serving(tmp_path, path, services(folder), clinic=HOSPITAL) as port:
        association = associated(port)
        accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
        assert association.send_c_echo().Status == 0x0000
        association.release()
        assert accepted == {PUSH_MODEL, VERIFICATION}
        assert reason_of_rejection(port, ae_title="ARCHIVE") == CALLING_AE_TITLE_NOT_RECOGNIZED  # it lives elsewhere
        assert reason_of_rejection(port, ae_title="STRANGER") == CALLING_AE_TITLE_NOT_RECOGNIZED


@pytest.mark.parametrize("path", PATHS)
def test_a_destination_that_is_not_asked_to_commit_stays_outside(
    tmp_path: Path, folder: ConfirmationFolder, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = replace(HOSPITAL, destinations=(replace(PACS, commitment=False),))
    monkeypatch.setattr("tests.scp.test_confirmation.HOSPITAL", silent)
    with serving(tmp_path, path, services(folder), clinic=HOSPITAL) as port:
        assert reason_of_rejection(port, ae_title="PACS") == CALLING_AE_TITLE_NOT_RECOGNIZED


def test_an_archive_may_report_from_another_address_when_it_is_a_caller_of_the_clinic(
    folder: ConfirmationFolder,
) -> None:
    elsewhere = replace(PEER, address="192.0.2.77")
    assert answer(folder, event_report(event_information("2.25.1")), elsewhere) == 0x0115
    assert answer(folder, event_report(event_information("2.25.1")), replace(elsewhere, clinic="st-mary")) == 0x0000
    assert answer(folder, event_report(event_information("2.25.1")), replace(elsewhere, clinic="mercy")) == 0x0115
    assert len(kept(folder)) == 1


@pytest.mark.parametrize(
    ("peer", "transaction_uid"),
    [
        (replace(PEER, ae_title="MODALITY1", clinic="st-mary"), "2.25.9"),
        (replace(PEER, ae_title="ARCHIVE", address="192.0.2.9"), "2.25.9"),
        (PEER, "2.25.8"),
        (PEER, "1.2.3"),
        (PEER, "../../x"),
    ],
)
def test_a_report_that_nobody_owes_is_refused(folder: ConfirmationFolder, peer: Peer, transaction_uid: str) -> None:
    asked = event_report(event_information("2.25.1", transaction_uid=transaction_uid))
    assert (answer(folder, asked, peer), kept(folder)) == (0x0115, [])


def test_what_somebody_sends_who_is_no_destination_is_not_even_read(
    folder: ConfirmationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    monkeypatch.setattr("scp.confirmation.parse", lambda *content, **limits: read.append(content))
    for stranger in (replace(PEER, ae_title="STRANGER"), replace(PEER, address="192.0.2.77"), MODALITY):
        assert answer(folder, event_report(event_information("2.25.1")), stranger) == 0x0115
    assert read == []


@pytest.mark.parametrize(("asked_by", "host"), [("st-mary", "pacs.st-mary"), ("other", "pacs.other")])
def test_archives_of_two_clinics_with_one_ae_title_are_told_apart_by_the_name_they_were_reached_at(
    folder: ConfirmationFolder, asked_by: str, host: str
) -> None:
    """A report that comes on the association on which the node asked."""
    archives = {name: replace(PACS, host=f"pacs.{name}") for name in ("st-mary", "other")}
    clinics = [replace(HOSPITAL, name=name, destinations=(archive,)) for name, archive in archives.items()]
    folder.remember("2.25.9", Asked(clinic=asked_by, destination="pacs"))
    service = ConfirmationService(folder, clinics, networks=lambda host: [plain_network("192.0.2.9")])
    for clinic, address in (("st-mary", "pacs.st-mary"), ("other", "pacs.other")):
        peer = replace(PEER, clinic=clinic, address=address)
        status = service.handle(event_report(event_information("2.25.1")), peer).status
        assert status == (0x0000 if address == host else 0x0115)


def test_whoever_takes_a_destinations_title_makes_nobody_ask_the_name_server(
    folder: ConfirmationFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An unknown caller whose objects are quarantined may associate, and may then say that it reports."""
    asked: list[str] = []

    def getaddrinfo(host: str, _port: object) -> list[object]:
        asked.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    settings = Settings.model_validate(
        {
            "node": {"data_dir": tmp_path / "node"},
            "clinics": [
                {
                    "name": "st-mary",
                    "tier": "basic",
                    "destinations": [
                        {"name": "pacs", "ae_title": "PACS", "host": "pacs", "port": 104, "commitment": True}
                    ],
                }
            ],
        }
    )
    callers = Callers(settings.clinic_directory, takes_unknown=True)
    before = list(asked)
    handle = services_of(settings, callers)[CommandField.N_EVENT_REPORT_RQ, PUSH_MODEL]
    assert handle(event_report(event_information("2.25.1")), PEER).status == 0x0115
    assert asked == before == ["pacs"]


def test_a_report_to_a_destination_that_is_no_longer_configured_is_refused(folder: ConfirmationFolder) -> None:
    service = ConfirmationService(folder, [replace(HOSPITAL, destinations=(ARCHIVE,))])
    assert service.handle(event_report(event_information("2.25.1")), PEER).status == 0x0115


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (event_report(event_information("2.25.1"), instance="1.2.3"), 0x0112),
        (event_report(event_information("2.25.1"), event_type=3), 0x0113),
        (event_report(event_information("2.25.1"), event_type=None), 0x0113),
        (event_report(b""), 0x0115),
        (event_report(b"\0" * 7), 0x0115),
        (event_report(encoded(event_information("2.25.1", "2.25.2"))[:-40]), 0x0115),
        (event_report(event_information("2.25.1", transaction_uid=None)), 0x0115),
        (event_report(event_information()), 0x0115),
        (event_report(event_information("")), 0x0115),
        (event_report(event_information("2.25.1\\2.25.2")), 0x0115),
        (event_report(event_information(*(f"2.25.{number}" for number in range(10_101)))), 0x0213),
    ],
)
def test_a_report_that_cannot_be_kept_is_refused(folder: ConfirmationFolder, asked: Request, status: int) -> None:
    assert (answer(folder, asked), kept(folder)) == (status, [])


def test_a_report_that_cannot_be_written_is_not_answered_with_success(
    folder: ConfirmationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.requests.files, "MOST_WAITING", 0)
    assert answer(folder, event_report(event_information("2.25.1"))) == 0x0213
    assert kept(folder) == []
