"""What `collimator doctor` says of the TLS port: its files, and how long they hold."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.__main__ import main
from scu.tls import Secured
from tests.factories.certificates import Authority, Identity, files_of
from tests.factories.ports import free_port
from tests.scu.conftest import Peer, storescp  # noqa: F401  # a fixture

CONFIGURATION = """\
[node]
data_dir = "{folder}/var"
[receiver]
port = {port}
{tls}
[portal]
port = {portal_port}
[[clinics]]
name = "st-mary"
tier = "basic"
[[clinics.callers]]
ae_title = "CT1"
{caller}
"""
SUBJECT = 'certificate_subject = "CN=ct1"'


class Doctor:
    """Runs `collimator doctor` for a node that is not started; its exit status, and what it says of TLS and callers."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.authority = Authority(folder, "authority")

    def __call__(self, node: Identity | None, caller: str = "") -> tuple[int, list[str]]:
        tls = ""
        if node is not None:
            tls = f'''tls_port = {free_port()}
tls_certificate_file = "{node.certificate}"
tls_key_file = "{node.key}"
tls_ca_file = "{self.authority.file}"'''
        config = self.folder / "collimator.toml"
        config.write_text(
            CONFIGURATION.format(folder=self.folder, port=free_port(), portal_port=free_port(), tls=tls, caller=caller)
        )
        status = main(["doctor", "--config", str(config)])
        lines = self._capsys.readouterr().out.splitlines()
        return status, [
            said
            for number, line in enumerate(lines)
            if line[6:].startswith(("TLS:", "callers:"))
            for said in lines[number : number + 2]
            if said is line or said.startswith("      ")
        ]


@pytest.fixture
def doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(tmp_path, capsys)


def test_a_node_without_tls_is_told_nothing_of_it(doctor: Doctor) -> None:
    assert doctor(None) == (0, ["ok    callers: 1 may send, for 1 clinics"])


def test_files_that_hold_are_well(doctor: Doctor) -> None:
    status, (callers, tls) = doctor(doctor.authority.identity("node", days=366), SUBJECT)
    assert (status, callers) == (0, "ok    callers: 1 may send, for 1 clinics")
    assert tls.startswith("ok    TLS: the certificate is valid until ")
    assert tls.endswith(", for 365 days")


def test_a_certificate_that_expires_soon_is_told_with_what_to_do(doctor: Doctor) -> None:
    status, (_, tls, advice) = doctor(doctor.authority.identity("node", days=30))
    assert status == 0
    assert tls.startswith("note  TLS: the certificate is valid until ")
    assert tls.endswith(", for 29 days")
    assert advice == "      have it renewed; the new files are used without a restart"


@pytest.mark.parametrize(
    ("days", "begins", "says"),
    [(-1, -60, "the certificate expired on "), (60, 1, "the certificate is not valid before ")],
)
def test_a_certificate_that_does_not_hold_today_is_a_failure(doctor: Doctor, days: int, begins: int, says: str) -> None:
    status, (_, tls, advice) = doctor(doctor.authority.identity("node", days=days, begins=begins))
    assert status == 1
    assert tls.startswith(f"FAIL  TLS: receiver.tls_certificate_file: {says}")
    assert advice.strip()


def test_a_key_that_every_user_may_read_is_told(doctor: Doctor) -> None:
    node = doctor.authority.identity("node", days=366)
    node.key.chmod(0o644)
    status, (_, _, tls, advice) = doctor(node)
    assert (status, tls) == (0, f"note  TLS: every user of this machine may use the key in {node.key}")
    assert advice == "      let only the node's user read it: chmod 600"


def test_a_key_that_is_not_the_certificates_is_a_failure(doctor: Doctor) -> None:
    node, other = doctor.authority.identity("node"), doctor.authority.identity("other")
    node.key.write_bytes(other.key.read_bytes())
    status, (_, tls, _) = doctor(node)
    assert status == 1
    assert tls.startswith("FAIL  TLS: receiver.tls_key_file: the key does not belong to the certificate")


def test_a_host_name_that_cannot_be_resolved_is_told_and_stops_nothing(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unresolved(_name: str) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("scp.names.look_up", unresolved)
    status, (callers, _) = doctor(None, 'host = "ct1.hospital.example"')
    assert status == 0
    assert callers == "note  callers: cannot be resolved, so nobody is let in from there: ct1.hospital.example"


def test_the_shared_store_is_tried_and_what_is_wrong_with_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "collimator.toml"
    text = CONFIGURATION.format(folder=tmp_path, port=free_port(), portal_port=free_port(), tls="", caller="")
    config.write_text(f'{text}\n[storage]\nshared_url = "file://{tmp_path}/mnt/collimator"\n')

    def said() -> list[str]:
        main(["doctor", "--config", str(config)])
        lines = capsys.readouterr().out.splitlines()
        return [said for n, line in enumerate(lines) if "shared store:" in line for said in lines[n : n + 2]]

    folder = f"{tmp_path}/mnt/collimator"
    assert said()[:2] == [
        f"FAIL  shared store: the shared store {folder} is not there",
        "      mount it, or make the folder in it",
    ]
    (tmp_path / "mnt" / "collimator").mkdir(parents=True)
    lines = said()
    assert lines[0] == "ok    shared store: takes an object, gives it back and removes it"
    assert "note  shared store: is used with the embedded database, so by this machine only" in lines
    assert [path for path in (tmp_path / "mnt").rglob("*") if path.is_file()] == []


def findings(config: Path, capsys: pytest.CaptureFixture[str], what: str) -> list[str]:
    """The lines of what doctor says of one thing, and of what to do."""
    main(["doctor", "--config", str(config)])
    lines = capsys.readouterr().out.splitlines()
    return [said for n, line in enumerate(lines) if line[6:].startswith(what) for said in lines[n : n + 2]]


def configured(folder: Path, node: str, more: str = "") -> Path:
    config = folder / "collimator.toml"
    text = CONFIGURATION.format(folder=folder, port=free_port(), portal_port=free_port(), tls="", caller="")
    config.write_text(text.replace(f'data_dir = "{folder}/var"', node) + more)
    return config


def test_a_data_folder_that_cannot_be_made_does_not_end_the_examination(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    config = configured(tmp_path, f'data_dir = "{tmp_path}/file/var"')
    assert main(["doctor", "--config", str(config)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "FAIL  database: cannot be opened: Not a directory" in lines
    assert any("routing rules" in line for line in lines)


def test_a_server_that_nobody_has_migrated_is_not_well(
    postgresql_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configured(tmp_path, f'database_url = "{postgresql_url}"')
    assert findings(config, capsys, "database:") == [
        "FAIL  database: PostgreSQL answers, and is not at this version",
        "      run `collimator migrate`",
    ]
    assert main(["migrate", "--config", str(config)]) == 0
    assert findings(config, capsys, "database:")[0] == "ok    database: PostgreSQL answers"


def test_a_destination_that_goes_away_meanwhile_does_not_keep_the_others_from_being_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.doctor.echo", lambda to, **_: None)
    pacs = '[[clinics.destinations]]\nname = "{}"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {}\n'
    more = pacs.format("one", free_port()) + pacs.format("two", free_port())
    assert main(["doctor", "--config", str(configured(tmp_path, f'data_dir = "{tmp_path}/var"', more))]) == 1
    lines = capsys.readouterr().out.splitlines()
    failures = [line.partition(":")[0] for line in lines if line.startswith("FAIL")]
    assert failures == ["FAIL  destination one of st-mary, contexts", "FAIL  destination two of st-mary, contexts"]


@pytest.mark.parametrize(("name", "is_well"), [("", True), ("pacs.example", False)], ids=["its own", "another's"])
def test_a_destination_over_tls_is_tried_over_tls(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    storescp: Callable[..., Peer],  # noqa: F811
    name: str,
    is_well: bool,
) -> None:
    authority = Authority(tmp_path, "authority")
    archive, us = authority.identity("archive"), files_of(authority.identity("collimator", days=90), authority)
    peer = storescp(
        *("--enable-tls", str(archive.key), str(archive.certificate), "--add-cert-file", str(authority.file)),
        secured=Secured(files=us, name="127.0.0.1"),
    )
    text = CONFIGURATION.format(
        folder=tmp_path,
        port=free_port(),
        portal_port=free_port(),
        tls=f'tls_certificate_file = "{us.certificate_file}"\ntls_key_file = "{us.key_file}"\n'
        f'tls_ca_file = "{us.ca_file}"',
        caller="",
    )
    config = tmp_path / "collimator.toml"
    config.write_text(
        f'{text}\n[[clinics.destinations]]\nname = "pacs"\nae_title = "STORESCP"\nhost = "127.0.0.1"\n'
        f'port = {peer.address.port}\ntls = true\ntls_name = "{name}"\n'
    )
    main(["doctor", "--config", str(config)])
    lines = capsys.readouterr().out.splitlines()
    (said,) = (line for line in lines if "destination pacs of st-mary:" in line)
    if is_well:
        assert said == "ok    destination pacs of st-mary: answers C-ECHO over TLS"
    else:
        assert said.startswith("FAIL  destination pacs of st-mary: STORESCP at 127.0.0.1:")
        assert "its certificate is not trusted: Hostname mismatch" in said
        assert "tls_name" in lines[lines.index(said) + 1]
    assert [line for line in lines if line.startswith("ok    TLS: the certificate is valid until")]
