"""DICOM over TLS (PS3.15 B.12), with DCMTK's clients and sslyze as judges."""

import json
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from domain.clinics import Caller, Clinic
from domain.errors import Misconfigured
from domain.plans import Tier
from domain.tls import TlsFiles
from scp.callers import Callers
from scp.limits import Limits
from scp.server import Receiver
from scp.store import StoreHandler
from scp.tls import TlsIdentity, TlsPort, certificate_of, server_context
from scp.wire import TICK_S
from storage.instances import Spool
from tests.factories.certificates import Authority, Identity, PrivateKey, files_of, p256, rsa_key
from tests.factories.hostile import A_ABORT, ECHO, Peer, associate_rq
from tests.factories.sources import radiograph

LOOPBACK = "127.0.0.1"
SHORT = Limits(artim_s=1.0, association_timeout_s=3.0)
PATIENT = Limits(artim_s=60.0, association_timeout_s=60.0, maximum_unassociated=31)
CLIENT_HELLO = bytes.fromhex("1603010200010001fc0303") + bytes(512)
AEAD_WITH_FORWARD_SECRECY = {
    "tls_1_2_cipher_suites": {
        "TLS_ECDHE_{}_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_{}_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_{}_WITH_CHACHA20_POLY1305_SHA256",
    },
    "tls_1_3_cipher_suites": {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"},
}


@dataclass
class Secured:
    """A receiver with both ports, and who is who."""

    port: int
    tls_port: int
    spool: Spool
    authority: Authority
    modality: Identity
    tls: TlsIdentity
    folder: Path


@contextmanager
def listening(folder: Path, limits: Limits, key: PrivateKey | None = None) -> Iterator[Secured]:
    authority = Authority(folder, "authority")
    node, modality = authority.identity("collimator", key=key), authority.identity("ct1")
    clinic = Clinic(
        name="st-mary",
        tier=Tier.BASIC,
        sends_notes=False,
        callers=(
            Caller(ae_title="MODALITY1", host=LOOPBACK),
            Caller(ae_title="CT1", host=LOOPBACK, certificate_subject="CN=ct1,O=St. Mary"),
            Caller(ae_title="CT3", host=LOOPBACK, certificate_subject="O=Müller\\, Söhne \\+ Co,CN=ct3"),
        ),
        destinations=(),
    )
    spool = Spool(folder / "node")
    tls = TlsIdentity(files_of(node, authority))
    receiver = Receiver(
        ae_title="COLLIMATOR",
        host=LOOPBACK,
        port=0,
        callers=Callers([clinic]),
        store=StoreHandler(spool, called_ae_title="COLLIMATOR", on_stored=lambda key: None, limits=limits),
        on_released=lambda association: None,
        limits=limits,
        tls=TlsPort(0, tls),
    )
    port = receiver.start()
    yield Secured(port, receiver.tls_port, spool, authority, modality, tls, folder)
    receiver.stop(grace_s=0.0)


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    with listening(tmp_path, SHORT) as node:
        yield node


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Secured]:
    """One that waits for its peers longer than they do for it, for 31 at a time."""
    with listening(tmp_path, PATIENT) as node:
        yield node


@pytest.fixture
def echoscu(require_program: Callable[[str], str]) -> Callable[..., int]:
    """DCMTK's echoscu with these options; its exit status."""
    program = require_program("echoscu")

    def run(*options: str | Path, port: int, calling: str = "MODALITY1") -> int:
        command = [program, "-to", "5", "-ta", "5", *map(str, options), "-aet", calling, "-aec", "COLLIMATOR"]
        return subprocess.run([*command, LOOPBACK, str(port)], timeout=30, capture_output=True).returncode

    return run


def as_client(identity: Identity, authority: Authority) -> list[str | Path]:
    return ["+tls", identity.key, identity.certificate, "+cf", authority.file]


@pytest.mark.parametrize("profile", ["+px", "+py", "+pz"])
def test_the_profiles_of_bcp_195_agree_with_the_node(
    secured: Secured, echoscu: Callable[..., int], profile: str
) -> None:
    assert echoscu(*as_client(secured.modality, secured.authority), profile, port=secured.tls_port) == 0


def test_an_object_comes_through_tls(secured: Secured, require_program: Callable[[str], str]) -> None:
    radiograph(1).save_as(secured.folder / "one.dcm", enforce_file_format=True)
    options = [*as_client(secured.modality, secured.authority), "-aet", "MODALITY1", "-aec", "COLLIMATOR"]
    command = [require_program("storescu"), *map(str, options), LOOPBACK, str(secured.tls_port)]
    assert subprocess.run([*command, str(secured.folder / "one.dcm")], timeout=30).returncode == 0
    assert len(list(secured.spool.stored_keys())) == 1


def test_who_has_no_certificate_or_an_old_profile_stays_out(secured: Secured, echoscu: Callable[..., int]) -> None:
    authority = ["+cf", secured.authority.file]
    assert echoscu("+tla", *authority, port=secured.tls_port) != 0
    assert echoscu(*as_client(secured.modality, secured.authority), "+pn", port=secured.tls_port) != 0
    assert echoscu(port=secured.tls_port) != 0  # plain DICOM on the TLS port
    assert echoscu(*as_client(secured.modality, secured.authority), port=secured.port) != 0  # and the other way round


def test_a_certificate_that_nobody_trusts_or_that_has_expired_stays_out(
    secured: Secured, echoscu: Callable[..., int], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    stranger = Authority(tmp_path / "elsewhere", "stranger").identity("ct1")
    expired = secured.authority.identity("expired", days=-1)
    assert echoscu(*as_client(stranger, secured.authority), port=secured.tls_port) != 0
    assert echoscu(*as_client(expired, secured.authority), port=secured.tls_port) != 0


def test_a_certificate_that_its_authority_has_revoked_stays_out_from_the_next_connection_on(
    secured: Secured, echoscu: Callable[..., int]
) -> None:
    lost = secured.authority.identity("lost")
    assert echoscu(*as_client(lost, secured.authority), port=secured.tls_port) == 0
    secured.authority.revoke(lost)
    with capture_logs() as logs:
        assert echoscu(*as_client(lost, secured.authority), port=secured.tls_port) != 0
    assert "CERTIFICATE_VERIFY_FAILED (certificate revoked)" in [line.get("reason") for line in logs]
    assert echoscu(*as_client(secured.modality, secured.authority), port=secured.tls_port) == 0


def test_a_revocation_list_that_is_too_old_keeps_everybody_out_and_the_log_says_why(
    secured: Secured, echoscu: Callable[..., int]
) -> None:
    secured.authority.revoke(secured.authority.identity("lost"), days=-1)
    with capture_logs() as logs:
        assert echoscu(*as_client(secured.modality, secured.authority), port=secured.tls_port) != 0
    assert "CERTIFICATE_VERIFY_FAILED (CRL has expired)" in [line.get("reason") for line in logs]


def test_a_caller_with_a_subject_is_known_by_its_certificate_only(
    secured: Secured, echoscu: Callable[..., int]
) -> None:
    other = secured.authority.identity("ct2")
    assert echoscu(*as_client(secured.modality, secured.authority), port=secured.tls_port, calling="CT1") == 0
    assert echoscu(*as_client(other, secured.authority), port=secured.tls_port, calling="CT1") != 0
    assert echoscu(port=secured.port, calling="CT1") != 0


def test_a_subject_with_commas_and_other_scripts_is_known_as_rfc_4514_writes_it(
    secured: Secured, echoscu: Callable[..., int]
) -> None:
    right = secured.authority.identity("ct3", organization="Müller, Söhne + Co")
    assert echoscu(*as_client(right, secured.authority), port=secured.tls_port, calling="CT3") == 0
    wrong = secured.authority.identity("ct3", organization="Müller")
    assert echoscu(*as_client(wrong, secured.authority), port=secured.tls_port, calling="CT3") != 0


@pytest.mark.parametrize(
    ("version", "ciphers", "agrees"),
    [
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", True),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-GCM-SHA384", True),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-SHA384", False),  # CBC
        (ssl.TLSVersion.TLSv1_2, "AES256-GCM-SHA384", False),  # no forward secrecy
        (ssl.TLSVersion.TLSv1_2, "NULL", False),
        (ssl.TLSVersion.TLSv1_1, "ALL", False),
        (ssl.TLSVersion.TLSv1_3, "ALL", True),
    ],
)
def test_only_authenticated_encryption_with_forward_secrecy_is_agreed_to(
    secured: Secured, version: ssl.TLSVersion, ciphers: str, agrees: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = version
    context.set_ciphers(ciphers + ":@SECLEVEL=0")
    context.load_verify_locations(secured.authority.file)
    context.load_cert_chain(secured.modality.certificate, secured.modality.key)
    with socket.create_connection((LOOPBACK, secured.tls_port), timeout=5) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=LOOPBACK) as tls:
                tls.sendall(associate_rq())
                agreed = tls.recv(1) == b"\2"
        except (ssl.SSLError, ConnectionError):
            agreed = False
    assert agreed == agrees


def test_peers_that_stop_in_the_middle_of_their_handshake_delay_nobody(
    patient: Secured, echoscu: Callable[..., int]
) -> None:
    with ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(Peer(patient.tls_port)).say(CLIENT_HELLO[:100])
        assert echoscu(*as_client(patient.modality, patient.authority), port=patient.tls_port) == 0
        assert echoscu(port=patient.port) == 0


def test_of_too_many_handshakes_the_oldest_gives_way(patient: Secured) -> None:
    with ExitStack() as stack:
        waiting = [stack.enter_context(Peer(patient.tls_port)).say(CLIENT_HELLO[:100]) for _ in range(31)]
        stack.enter_context(Peer(patient.tls_port))
        assert waiting[0].hear() == (0, b"")
        assert [is_open(waiting[1]), is_open(waiting[-1])] == [True, True]


def test_a_peer_that_says_nothing_is_closed(secured: Secured) -> None:
    with Peer(secured.tls_port) as peer:
        assert peer.hear() == (0, b"")


def test_a_handshake_that_drips_in_is_closed_before_it_ends(secured: Secured) -> None:
    with Peer(secured.tls_port, timeout_s=0.1) as peer:
        said = next((number for number in range(100) if not is_open(peer.say(CLIENT_HELLO[number : number + 1]))), 100)
    assert said < 100


def is_open(peer: Peer) -> bool:
    """Whether the receiver has not closed the connection while we listened, for as long as the peer's timeout."""
    peer.socket.settimeout(0.1)
    try:
        return bool(peer.socket.recv(1))
    except TimeoutError:
        return True
    except ConnectionError:
        return False


def test_a_tls_hello_on_the_plain_port_is_aborted_at_once(secured: Secured) -> None:
    with Peer(secured.port) as peer:
        assert peer.say(CLIENT_HELLO).hear()[0] == A_ABORT


def test_a_peer_that_reads_its_answers_late_gets_them_all(patient: Secured) -> None:
    """One that takes longer than a tick of the receiver's, and nothing is lost or said twice."""
    context = ssl.create_default_context(cafile=str(patient.authority.file))
    context.check_hostname = False
    context.load_cert_chain(patient.modality.certificate, patient.modality.key)
    with Peer(patient.tls_port, keeps_bytes=2_048) as peer:
        peer.socket = context.wrap_socket(peer.socket)
        peer.say(associate_rq()).hear()
        peer.socket.settimeout(0.3)
        asked = 0
        with suppress(TimeoutError):
            while asked < 50_000:
                peer.socket.sendall(ECHO)
                asked += 1
        assert asked < 50_000
        time.sleep(3 * TICK_S)
        peer.socket.settimeout(5.0)
        assert [peer.status() for _ in range(asked)] == [0x0000] * asked


def serial_number(secured: Secured) -> str:
    """That of the certificate which the node shows now."""
    context = ssl.create_default_context(cafile=str(secured.authority.file))
    context.load_cert_chain(secured.modality.certificate, secured.modality.key)
    with (
        socket.create_connection((LOOPBACK, secured.tls_port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=LOOPBACK) as tls,
    ):
        certificate = tls.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


def test_a_renewed_certificate_is_used_without_a_restart(secured: Secured) -> None:
    before = serial_number(secured)
    secured.authority.identity("collimator")
    assert serial_number(secured) != before


def test_half_a_renewal_is_told_once_and_the_old_files_serve_until_the_other_half_is_there(secured: Secured) -> None:
    before = serial_number(secured)
    old_key = (secured.folder / "collimator.key").read_bytes()
    secured.authority.identity("collimator")
    new_key = (secured.folder / "collimator.key").read_bytes()
    (secured.folder / "collimator.key").write_bytes(old_key)
    with capture_logs() as told:
        assert [serial_number(secured) for _ in range(3)] == [before] * 3
    assert [line["error"] for line in told if line["event"] == "tls_files_not_usable"] == [
        "receiver.tls_key_file: the key does not belong to the certificate (KEY_VALUES_MISMATCH)"
    ]
    (secured.folder / "collimator.key").write_bytes(new_key)
    assert serial_number(secured) != before


@pytest.mark.parametrize("name", ["collimator.pem", "collimator.key"])
def test_a_file_that_is_gone_for_a_while_does_not_stop_the_port(secured: Secured, name: str) -> None:
    before = serial_number(secured)
    (secured.folder / name).rename(secured.folder / "away")
    with capture_logs() as told:
        assert [serial_number(secured) for _ in range(2)] == [before] * 2
    assert [f"{name} cannot be read" in line["error"] for line in told if "error" in line] == [True]
    (secured.folder / "away").rename(secured.folder / name)
    assert serial_number(secured) == before


@dataclass
class Files:
    """What the receiver is told to use; a test puts something wrong in the place of one of them."""

    certificate: Path
    key: Path
    ca: Path

    @property
    def named(self) -> TlsFiles:
        return TlsFiles(certificate_file=self.certificate, key_file=self.key, ca_file=self.ca)


def no_certificate(files: Files, authority: Authority) -> None:
    files.certificate.write_text("none")


def no_certificate_file(files: Files, authority: Authority) -> None:
    files.certificate.unlink()


def weak(files: Files, authority: Authority) -> None:
    authority.identity("node", key=rsa_key(1024))


def no_key(files: Files, authority: Authority) -> None:
    files.key = files.certificate


def no_key_file(files: Files, authority: Authority) -> None:
    files.key.unlink()


def key_of_another(files: Files, authority: Authority) -> None:
    files.key = authority.identity("other").key


def key_of_another_kind(files: Files, authority: Authority) -> None:
    files.key = authority.identity("other", key=rsa_key(2048)).key


def locked_key(files: Files, authority: Authority) -> None:
    authority.identity("node", password=b"secret")


def no_authority(files: Files, authority: Authority) -> None:
    files.ca = files.key


def no_authority_file(files: Files, authority: Authority) -> None:
    files.ca.unlink()


def authority_folder(files: Files, authority: Authority) -> None:
    files.ca = files.ca.parent


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (no_certificate, "tls_certificate_file: there is no certificate in {certificate}"),
        (no_certificate_file, "tls_certificate_file: {certificate} cannot be read: No such file or directory"),
        (weak, "tls_certificate_file: the certificate's key is too short"),
        (no_key, "tls_key_file: there is no key in {key}"),
        (no_key_file, "tls_key_file: {key} cannot be read: No such file or directory"),
        (key_of_another, "tls_key_file: the key does not belong to the certificate"),
        (key_of_another_kind, "tls_key_file: the key does not belong to the certificate"),
        (locked_key, "tls_key_file: the key has a password, and nobody is there to type it"),
        (no_authority, "tls_ca_file: there is no certificate in {ca}"),
        (no_authority_file, "tls_ca_file: {ca} cannot be read: No such file or directory"),
        (authority_folder, "tls_ca_file: {ca} cannot be read: Is a directory"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_by_its_key_with_what_is_wrong(
    tmp_path: Path, spoil: Callable[[Files, Authority], None], says: str
) -> None:
    authority = Authority(tmp_path, "authority")
    node = authority.identity("node")
    files = Files(node.certificate, node.key, authority.file)
    server_context(files.named)
    spoil(files, authority)
    with pytest.raises(Misconfigured) as caught:
        server_context(files.named)
    assert caught.value.message.startswith("receiver." + says.format_map(vars(files)))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("days", "begins", "says"), [(-1, -60, "expired on"), (60, 1, "is not valid before")], ids=["expired", "to come"]
)
def test_a_certificate_out_of_its_time_is_told_and_does_not_keep_the_receiver_from_starting(
    tmp_path: Path, days: int, begins: int, says: str
) -> None:
    authority = Authority(tmp_path, "authority")
    node = authority.identity("node", days=days, begins=begins)
    with capture_logs() as told:
        TlsIdentity(files_of(node, authority))
    assert [(line["event"], says in line["error"]) for line in told] == [("tls_certificate_not_valid", True)]


def test_the_first_certificate_in_a_file_with_its_chain_is_the_nodes(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    node = authority.identity("node")
    alone = certificate_of(node.certificate)
    node.certificate.write_bytes(node.certificate.read_bytes() + authority.file.read_bytes())
    assert certificate_of(node.certificate) == alone
    assert alone.subject.rfc4514_string() == "CN=node,O=St. Mary"


# sslyze, a program of its own


@pytest.fixture
def sslyze(require_program: Callable[[str], str]) -> Callable[..., dict[str, Any]]:
    """What sslyze found out about a port: the result of each scan by its name."""
    program = os.environ.get("COLLIMATOR_SSLYZE") or require_program("sslyze")

    def scan(secured: Secured, *options: str | Path) -> dict[str, Any]:
        report = secured.folder / "sslyze.json"
        command = [program, "--quiet", "--mozilla_config", "disable", "--json_out", report, *options]
        subprocess.run([*map(str, command), f"{LOOPBACK}:{secured.tls_port}"], timeout=120, check=True)
        (server,) = json.loads(report.read_text())["server_scan_results"]
        assert server["scan_status"] == "COMPLETED"
        asked = {name: scan for name, scan in server["scan_result"].items() if scan["status"] != "NOT_SCHEDULED"}
        assert {name: scan["status"] for name, scan in asked.items()} == dict.fromkeys(asked, "COMPLETED")
        return {"connectivity": server["connectivity_result"]} | {name: scan["result"] for name, scan in asked.items()}

    return scan


SCANS = (
    "--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3", "--compression", "--reneg", "--heartbleed",
    "--openssl_ccs", "--robot", "--fallback", "--ems", "--early_data", "--resum", "--elliptic_curves",
)  # fmt: skip


@pytest.mark.parametrize(("key", "kind"), [(p256(), "ECDSA"), (rsa_key(2048), "RSA")], ids=["ECDSA", "RSA"])
def test_sslyze_finds_authenticated_encryption_with_forward_secrecy_and_nothing_else(
    sslyze: Callable[..., dict[str, Any]], tmp_path: Path, key: PrivateKey, kind: str
) -> None:
    with listening(tmp_path, SHORT, key) as secured:
        found = sslyze(secured, *SCANS, "--cert", secured.modality.certificate, "--key", secured.modality.key)
    suites = {
        name: {suite["cipher_suite"]["name"] for suite in result["accepted_cipher_suites"]}
        for name, result in found.items()
        if name.endswith("cipher_suites")
    }
    old = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1")
    assert suites == {f"{version}_cipher_suites": set() for version in old} | {
        version: {suite.format(kind) for suite in names} for version, names in AEAD_WITH_FORWARD_SECRECY.items()
    }
    assert found["tls_compression"] == {"supports_compression": False}
    assert found["session_renegotiation"] == {
        "supports_secure_renegotiation": True,
        "is_vulnerable_to_client_renegotiation_dos": False,
        "client_renegotiations_success_count": 0,
    }
    assert found["heartbleed"] == {"is_vulnerable_to_heartbleed": False}
    assert found["openssl_ccs_injection"] == {"is_vulnerable_to_ccs_injection": False}
    assert found["robot"] == {"robot_result": "NOT_VULNERABLE_RSA_NOT_SUPPORTED"}
    assert found["tls_fallback_scsv"] == {"supports_fallback_scsv": True}
    assert found["tls_extended_master_secret"] == {"supports_ems_extension": True}
    assert found["tls_1_3_early_data"] == {"supports_early_data": False}
    assert found["session_resumption"]["tls_ticket_resumption_result"] == "NOT_SUPPORTED"
    curves = {curve["name"] for curve in found["elliptic_curves"]["supported_curves"]}
    assert {"X25519", "secp256r1"} <= curves <= {"X25519", "X448", "secp256r1", "secp384r1", "secp521r1"}


def test_sslyze_without_a_certificate_is_asked_for_one(sslyze: Callable[..., dict[str, Any]], secured: Secured) -> None:
    assert sslyze(secured, "--tlsv1_2")["connectivity"]["client_auth_requirement"] == "REQUIRED"
