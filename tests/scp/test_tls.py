"""DICOM over TLS (PS3.15 B.12, B.13), with DCMTK's clients as judges."""

import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from domain.clinics import Caller, Clinic
from domain.errors import Misconfigured
from domain.plans import Tier
from scp.callers import Callers
from scp.limits import Limits
from scp.server import Receiver
from scp.store import StoreHandler
from scp.tls import TlsIdentity, TlsPort, server_context
from storage.instances import Spool
from tests.factories.certificates import Authority, Identity
from tests.factories.hostile import A_ABORT, Peer, associate_rq
from tests.factories.sources import radiograph

ARTIM_S = 1.0
LOOPBACK = "127.0.0.1"


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


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    authority = Authority(tmp_path, "authority")
    node, modality = authority.identity("collimator"), authority.identity("ct1")
    clinic = Clinic(
        name="st-mary",
        tier=Tier.BASIC,
        sends_notes=False,
        callers=(
            Caller(ae_title="MODALITY1", host=LOOPBACK),
            Caller(ae_title="CT1", host=LOOPBACK, certificate_subject="CN=ct1,O=St. Mary"),
        ),
        destinations=(),
    )
    spool, limits = Spool(tmp_path / "node"), Limits(artim_s=ARTIM_S, association_timeout_s=3.0)
    tls = TlsIdentity(certificate_file=node.certificate, key_file=node.key, ca_file=authority.file)
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
    yield Secured(port, receiver.tls_port, spool, authority, modality, tls, tmp_path)
    receiver.stop(grace_s=0.0)


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


def test_a_caller_with_a_subject_is_known_by_its_certificate_only(
    secured: Secured, echoscu: Callable[..., int]
) -> None:
    other = secured.authority.identity("ct2")
    assert echoscu(*as_client(secured.modality, secured.authority), port=secured.tls_port, calling="CT1") == 0
    assert echoscu(*as_client(other, secured.authority), port=secured.tls_port, calling="CT1") != 0
    assert echoscu(port=secured.port, calling="CT1") != 0


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


def test_silent_peers_on_the_tls_port_delay_nobody_and_are_closed(
    secured: Secured, echoscu: Callable[..., int]
) -> None:
    began = time.monotonic()
    with ExitStack() as stack:
        silent = [stack.enter_context(Peer(secured.tls_port)) for _ in range(30)]
        assert echoscu(*as_client(secured.modality, secured.authority), port=secured.tls_port) == 0
        assert time.monotonic() - began < 1.0
        assert [peer.hear() for peer in silent] == [(0, b"")] * 30
    assert time.monotonic() - began < ARTIM_S + 2.0


def test_a_tls_hello_on_the_plain_port_is_aborted_at_once(secured: Secured) -> None:
    with Peer(secured.port) as peer:
        assert peer.say(bytes.fromhex("1603010200010001fc0303") + bytes(512)).hear()[0] == A_ABORT


def test_a_renewed_certificate_is_used_without_a_restart(secured: Secured) -> None:
    def serial_number() -> str:
        context = ssl.create_default_context(cafile=str(secured.authority.file))
        context.load_cert_chain(secured.modality.certificate, secured.modality.key)
        with (
            socket.create_connection((LOOPBACK, secured.tls_port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=LOOPBACK) as tls,
        ):
            certificate = tls.getpeercert()
            assert certificate is not None
            return str(certificate["serialNumber"])

    before = serial_number()
    secured.authority.identity("collimator")
    assert serial_number() != before


@pytest.mark.parametrize("wrong", ["certificate", "key", "other key", "locked key", "authority"])
def test_a_file_that_cannot_be_used_is_named_by_its_key(tmp_path: Path, wrong: str) -> None:
    authority = Authority(tmp_path, "authority")
    node, other = authority.identity("node"), authority.identity("other")
    locked = authority.identity("locked", password=b"secret")
    files = {
        "certificate": (tmp_path / "nowhere.pem", node.key, authority.file),
        "key": (node.certificate, authority.file, authority.file),
        "other key": (node.certificate, other.key, authority.file),
        "locked key": (locked.certificate, locked.key, authority.file),
        "authority": (node.certificate, node.key, node.key),
    }
    key = "tls_ca_file" if wrong == "authority" else "tls_key_file"
    with pytest.raises(Misconfigured, match=f"receiver.{key}"):
        server_context(*files[wrong])
