"""Files go out over TLS to peers that can be trusted, and to no others. DCMTK's storescp is the judge."""

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from domain.clinics import Caller, Destination
from domain.errors import Misconfigured, Retry
from domain.tls import TlsFiles
from scu.echo import echo
from scu.store import Address, Answer, OutgoingFile, address_of, address_of_caller, send_files, store_association
from scu.tls import ClientContext, Secured, TlsTransport
from tests.factories.certificates import Authority, Identity, files_of
from tests.factories.ports import free_port
from tests.scu.conftest import TIMEOUT_S, Peer
from tests.scu.test_store import data_set, data_sets, outgoing

LOOPBACK = "127.0.0.1"
SHORT_S = 2.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def node(tmp_path: Path, authority: Authority) -> TlsFiles:
    return files_of(authority.identity("collimator"), authority)


def storescp_options(archive: Identity, trusts: Authority) -> list[str]:
    return ["--enable-tls", str(archive.key), str(archive.certificate), "--add-cert-file", str(trusts.file)]


def send(file: OutgoingFile, to: Address) -> Answer:
    (outcome,) = send_files([file], to, calling_ae_title="COLLIMATOR", timeout_s=TIMEOUT_S)
    return outcome.answer


@contextmanager
def archive_with(context: ssl.SSLContext | None, node: TlsFiles, *, name: str = LOOPBACK) -> Iterator[Address]:
    """A peer that shakes hands so with whoever comes, and then says nothing; None: it does not even do that."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            taken.append(connection)
            if context is not None:
                connection.settimeout(TIMEOUT_S)
                try:
                    taken.append(context.wrap_socket(connection, server_side=True))
                except OSError:
                    connection.close()

    taken: list[socket.socket] = []
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = int(listener.getsockname()[1])
        yield Address(ae_title="ARCHIVE", host=LOOPBACK, port=port, tls=Secured(files=node, name=name))
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=TIMEOUT_S)
        for connection in taken:
            connection.close()


def context_of(archive: Identity, *, latest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(archive.certificate, archive.key)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = latest
    return context


def refusal(to: Address, timeout_s: float = TIMEOUT_S) -> Retry:
    with pytest.raises(Retry) as caught:
        echo(to, calling_ae_title="COLLIMATOR", timeout_s=timeout_s)
    return caught.value


@pytest.mark.parametrize("profile", ["--profile-bcp195", "--profile-bcp195-nd", "--profile-bcp195-ex"])
def test_files_arrive_at_dcmtk_over_tls_byte_for_byte(
    storescp: Callable[..., Peer], tmp_path: Path, authority: Authority, node: TlsFiles, profile: str
) -> None:
    options = [*storescp_options(authority.identity("archive"), authority), profile]
    peer = storescp(*options, secured=Secured(files=node, name=LOOPBACK))
    files = [outgoing(tmp_path, number) for number in range(3)]
    assert [send(file, peer.address) for file in files] == [Answer.STORED] * 3
    assert data_sets(peer.folder) == sorted(data_set(file.path) for file in files)


def test_an_association_over_tls_can_rest_between_two_files(
    storescp: Callable[..., Peer], tmp_path: Path, authority: Authority, node: TlsFiles
) -> None:
    peer = storescp(
        *storescp_options(authority.identity("archive"), authority), secured=Secured(files=node, name=LOOPBACK)
    )
    files = [outgoing(tmp_path, number) for number in range(2)]
    contexts = [(files[0].sop_class_uid, files[0].transfer_syntax_uid)]
    with store_association(peer.address, contexts, calling_ae_title="COLLIMATOR", timeout_s=TIMEOUT_S) as association:
        first = association.send(files[0])
        with association.at_rest():
            time.sleep(0.2)
        second = association.send(files[1])
    assert (first.answer, second.answer) == (Answer.STORED, Answer.STORED)


def test_an_archive_whose_certificate_is_made_out_to_another_is_not_sent_to(
    authority: Authority, node: TlsFiles
) -> None:
    with archive_with(context_of(authority.identity("archive")), node, name="archive.example") as address:
        refused = refusal(address)
    assert "its certificate is not trusted: Hostname mismatch" in refused.message
    assert "tls_name" in refused.hint


def test_an_archive_of_another_authority_is_not_sent_to(tmp_path: Path, node: TlsFiles) -> None:
    stranger = Authority(tmp_path, "stranger").identity("archive")
    with archive_with(context_of(stranger), node) as address:
        assert "its certificate is not trusted: unable to get local issuer certificate" in refusal(address).message


def test_an_archive_whose_certificate_has_expired_is_not_sent_to(authority: Authority, node: TlsFiles) -> None:
    expired = authority.identity("archive", days=-1)
    with archive_with(context_of(expired), node) as address:
        assert "its certificate is not trusted: certificate has expired" in refusal(address).message


def test_an_archive_whose_certificate_was_revoked_is_not_sent_to(authority: Authority, node: TlsFiles) -> None:
    lost = authority.identity("archive")
    authority.revoke(lost)
    with archive_with(context_of(lost), node) as address:
        assert "its certificate is not trusted: certificate revoked" in refusal(address).message


def test_an_archive_that_speaks_only_what_is_retired_is_not_sent_to(authority: Authority, node: TlsFiles) -> None:
    old = context_of(authority.identity("archive"), latest=ssl.TLSVersion.TLSv1_1)
    with archive_with(old, node) as address:
        assert "does not speak TLS with this node: TLSV1_ALERT_PROTOCOL_VERSION" in refusal(address).message


def test_an_archive_that_does_not_trust_the_node_is_tried_again_later(
    tmp_path: Path, authority: Authority, node: TlsFiles
) -> None:
    """With TLS 1.3 the node's hands are shaken by the time at which the other side says no."""
    context = context_of(authority.identity("archive"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(Authority(tmp_path, "stranger").file)
    with archive_with(context, node) as address:
        assert "does not trust this node's certificate" in refusal(address).message


def test_a_session_ticket_is_nothing_to_read(authority: Authority, node: TlsFiles) -> None:
    """It makes the connection readable, and pynetdicom, which would read then, waited for the peer's next word."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        said: list[ssl.SSLSocket] = []
        server = threading.Thread(
            target=lambda: said.append(
                context_of(authority.identity("archive")).wrap_socket(listener.accept()[0], server_side=True)
            ),
            daemon=True,
        )
        server.start()
        plain = socket.create_connection(listener.getsockname(), timeout=TIMEOUT_S)
        connection = ClientContext.of(node).wrap_socket(plain, server_hostname=LOOPBACK)
        server.join(TIMEOUT_S)
    transport = TlsTransport.__new__(TlsTransport)
    transport.socket, transport._is_connected = connection, True
    assert connection.version() == "TLSv1.3"
    assert select.select([connection], [], [], TIMEOUT_S)[0] == [connection]
    assert not transport.ready
    said[0].sendall(b"word")
    assert select.select([connection], [], [], TIMEOUT_S)[0] == [connection]
    assert transport.ready
    assert bytes(transport.recv(4)) == b"word"
    assert not transport.ready
    for one in (connection, said[0]):
        one.close()


def test_a_peer_without_tls_is_told_as_such(storescp: Callable[..., Peer], node: TlsFiles) -> None:
    peer = storescp()
    refused = refusal(replace(peer.address, tls=Secured(files=node, name=LOOPBACK)))
    assert "STORESCP at 127.0.0.1" in refused.message
    assert "does not speak TLS with this node" in refused.message


def test_a_peer_that_never_shakes_hands_costs_no_longer_than_the_timeout(node: TlsFiles) -> None:
    with archive_with(None, node) as address:
        begun = time.monotonic()
        refused = refusal(address, SHORT_S)
    assert "does not speak TLS with this node" in refused.message
    assert time.monotonic() - begun < SHORT_S + 3


def test_a_peer_that_shakes_hands_and_is_silent_costs_no_longer_than_the_timeout(
    authority: Authority, node: TlsFiles
) -> None:
    with archive_with(context_of(authority.identity("archive")), node) as address:
        begun = time.monotonic()
        refusal(address, SHORT_S)
    assert time.monotonic() - begun < SHORT_S + 3


def test_nobody_there_is_no_matter_of_tls(node: TlsFiles) -> None:
    to = Address(ae_title="NOBODY", host=LOOPBACK, port=free_port(), tls=Secured(files=node, name=LOOPBACK))
    assert "TLS" not in refusal(to).message


def test_a_renewed_certificate_is_used_for_the_next_association(
    storescp: Callable[..., Peer], tmp_path: Path, authority: Authority, node: TlsFiles
) -> None:
    peer = storescp(
        *storescp_options(authority.identity("archive"), authority), secured=Secured(files=node, name=LOOPBACK)
    )
    file = outgoing(tmp_path, 1)
    good = node.certificate_file.read_bytes()
    node.certificate_file.write_text("half of a renew")
    with pytest.raises(Retry, match="there is no certificate in"):
        send(file, peer.address)
    node.certificate_file.write_bytes(good)
    assert send(file, peer.address) is Answer.STORED


def test_only_a_destination_that_asks_for_it_is_sent_to_over_tls(node: TlsFiles) -> None:
    plain = Destination(name="pacs", ae_title="PACS", host="10.0.0.7", port=104)
    assert address_of(plain, node).tls is None
    assert address_of(replace(plain, tls=True), node).tls == Secured(files=node, name="10.0.0.7")
    with pytest.raises(Misconfigured, match="pacs has tls, and the node has no certificate to show"):
        address_of(replace(plain, tls=True), None)
    named = address_of(replace(plain, tls=True, tls_name="pacs.example"), node)
    assert (named.host, named.tls) == ("10.0.0.7", Secured(files=node, name="pacs.example"))


def test_only_a_caller_that_asks_for_it_is_told_over_tls(node: TlsFiles) -> None:
    plain = Caller(ae_title="CT1", host="10.0.0.0/24", commitment_port=11113)
    assert address_of_caller(plain, "10.0.0.7", node) == Address(ae_title="CT1", host="10.0.0.7", port=11113)
    over_tls = replace(plain, commitment_tls=True)
    assert address_of_caller(over_tls, "10.0.0.7", node).tls == Secured(files=node, name="10.0.0.7")
    with pytest.raises(Misconfigured, match="CT1 has commitment_tls, and the node has no certificate to show"):
        address_of_caller(over_tls, "10.0.0.7", None)
    named = address_of_caller(replace(over_tls, commitment_tls_name="ct1.example"), "10.0.0.7", node)
    assert (named.host, named.tls) == ("10.0.0.7", Secured(files=node, name="ct1.example"))
