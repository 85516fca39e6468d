"""`collimator send`: brings files to an AE and shows each answer."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from cli.__main__ import main
from cli.send import parse_address
from domain.errors import Misconfigured
from scu.store import Address
from scu.tls import Secured
from tests.factories.certificates import Authority, files_of
from tests.factories.ports import free_port
from tests.scu.conftest import Peer, node, storescp

__all__ = ["node", "storescp"]

RG1, RG3 = (Path(str(get_testdata_file(f"{name}_UNCR.dcm"))) for name in ("RG1", "RG3"))
RG1_UID = "1.3.6.1.4.1.5962.1.1.9.1.1.20040826185059.5457"
RG3_UID = "1.3.6.1.4.1.5962.1.1.11.1.1.20040826185059.5457"


def to(peer: Peer) -> str:
    return f"NODE@127.0.0.1:{peer.address.port}"


def test_every_file_is_shown_with_its_answer(node: Peer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["send", "--to", to(node), str(RG1), str(RG3)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"1/2 stored {RG1_UID}",
        f"2/2 stored {RG3_UID}",
        f"2 of 2 stored at {to(node)}",
    ]
    assert err == ""


def test_a_folder_is_searched_and_what_is_no_dicom_file_in_it_is_named(
    node: Peer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "disc"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "IMG1").write_bytes(RG1.read_bytes())
    (folder / "readme.txt").write_text("hello", encoding="utf-8")
    assert main(["send", "--to", to(node), str(folder)]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"1/1 stored {RG1_UID}", f"1 of 1 stored at {to(node)}"]
    assert err == f"{folder}/readme.txt is not a DICOM file\n"


def test_a_caller_that_is_not_known_is_told_so(node: Peer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["send", "--to", to(node), "--from", "STRANGER", str(RG1)]) == 1
    assert "rejected the association: Calling AE title not recognised" in capsys.readouterr().err


def test_nobody_there_is_one_clear_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["send", "--to", f"PACS@127.0.0.1:{free_port()}", str(RG1)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_nothing_to_send_is_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["send", "--to", "PACS@127.0.0.1:104", str(tmp_path)]) == 1
    assert "there is no DICOM file to send" in capsys.readouterr().err


@pytest.mark.parametrize(
    "address",
    ["PACS", "PACS@host", "@host:104", "PACS@host:0", "PACS@host:65536", "PACS@host:dicom", "SEVENTEEN_LETTERS@h:104"],
)
def test_an_address_of_another_form_is_wrong_usage(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["send", "--to", address, str(RG1)]) == 2
    assert capsys.readouterr().err == (
        f"collimator: --to {address!r} is not of the form AE@HOST:PORT (for example ORTHANC@127.0.0.1:4242)\n"
    )


@pytest.mark.parametrize("title", ["SEVENTEEN_LETTERS", "A\\B"])
def test_a_calling_ae_title_that_is_none_is_wrong_usage(title: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["send", "--to", "PACS@127.0.0.1:104", "--from", title, str(RG1)]) == 2
    assert f"{title!r} is not an AE title" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["send"], ["send", "--to", "PACS@h:104"], ["send", "file"], ["sned"], []])
def test_missing_words_are_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("PACS@host:104", Address(ae_title="PACS", host="host", port=104)),
        ("MY PACS@10.0.0.7:65535", Address(ae_title="MY PACS", host="10.0.0.7", port=65535)),
        ("PACS@[::1]:104", Address(ae_title="PACS", host="::1", port=104)),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert parse_address(text) == address


def test_an_address_that_cannot_be_read_is_misconfigured() -> None:
    with pytest.raises(Misconfigured):
        parse_address("nonsense")


def test_a_file_that_is_not_there_is_told_so_and_not_that_it_is_no_dicom_file(
    node: Peer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "IMG2"
    assert main(["send", "--to", to(node), str(missing), str(RG1)]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"1/1 stored {RG1_UID}", f"1 of 1 stored at {to(node)}"]
    assert err == f"{missing} cannot be read: No such file or directory\n"


def test_files_go_over_tls_with_the_nodes_certificate(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    storescp: Callable[..., Peer],
) -> None:
    authority = Authority(tmp_path, "authority")
    archive, us = authority.identity("archive"), files_of(authority.identity("collimator"), authority)
    peer = storescp(
        *("--enable-tls", str(archive.key), str(archive.certificate), "--add-cert-file", str(authority.file)),
        secured=Secured(files=us, name="127.0.0.1"),
    )
    config = tmp_path / "collimator.toml"
    config.write_text(
        f'[receiver]\ntls_port = {free_port()}\ntls_certificate_file = "{us.certificate_file}"\n'
        f'tls_key_file = "{us.key_file}"\ntls_ca_file = "{us.ca_file}"\n'
    )
    command = ["send", "--tls", "--to", to(peer), str(RG1)]
    assert main([*command, "--config", str(config)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"1/1 stored {RG1_UID}"
    config.write_text("")
    assert main([*command, "--config", str(config)]) == 2
    assert "--tls shows the node's certificate, and the configuration names none" in capsys.readouterr().err
