"""Which licences have to be accepted by name, and that nothing is fetched before that."""

import getpass
import http.server
import json
import os
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.__main__ import main
from domain.errors import Misconfigured, Refuse
from inference.acceptance import os_user, read_acceptance
from inference.install import add, pull
from inference.licences import SPDX, licence_of
from inference.package import load
from inference.registry import Registry
from tests.factories.certificates import Authority
from tests.factories.packages import build_package


@pytest.mark.parametrize(
    ("name", "binds", "asks"),
    [
        ("Apache-2.0", False, "keeps its notices"),
        ("MIT", False, "keeps its notices"),
        ("mit", False, "keeps its notices"),
        ("CC0-1.0", False, "asks for nothing"),
        ("CC-BY-4.0", False, "Credit its makers."),
        ("Apache-2.0 AND CC-BY-4.0", False, "Credit its makers."),
        ("CC-BY-SA-4.0", True, "under the same licence"),
        ("LGPL-3.0-or-later", True, "source of it"),
        ("GPL-3.0", True, "all of the source"),
        ("GPL-2.0-only", True, "all of the source"),
        ("AGPL-3.0-only", True, "over a network"),
        ("MIT AND AGPL-3.0-only", True, "over a network"),
        ("CC-BY-NC-4.0", True, "not use it commercially"),
        ("CC BY-NC 4.0", True, "not use it commercially"),
        ("For non-commercial research only", True, "not use it commercially"),
        ("GNU General Public License v3", True, "all of the source"),
        ("Ultralytics AGPL", True, "over a network"),
        ("BigScience RAIL", True, "forbids some uses"),
        ("MIT OR GPL-3.0-only", True, "does not know these terms"),
        ("GPL-3.0-only WITH Classpath-exception-2.0", True, "does not know these terms"),
        ("MIT-style", True, "does not know these terms"),
        ("Ask the authors", True, "does not know these terms"),
        ("", True, "does not know these terms"),
    ],
)
def test_a_licence_that_limits_its_user_binds_and_so_does_one_that_nobody_here_knows(
    name: str, binds: bool, asks: str
) -> None:
    licence = licence_of(name)
    assert licence.binds == binds
    assert asks in licence.asks


def test_a_licence_asks_its_users_for_one_or_two_sentences() -> None:
    assert {name: terms.asks.count(".") for name, terms in SPDX.items() if not 1 <= terms.asks.count(".") <= 2} == {}


def test_where_a_licence_can_be_read() -> None:
    assert licence_of("GPL-3.0-only").url == "https://spdx.org/licenses/GPL-3.0-only.html"
    assert licence_of("GPL-3.0-only", "https://example.org/terms").url == "https://example.org/terms"
    assert licence_of("Ask the authors").url == ""


def test_published_weights_without_a_licence_are_no_package(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"weights.licence: expected the licence of what source_url gives"):
        build_package(tmp_path / "knee", name="knee", licence="", source_url="https://127.0.0.1/model.onnx")


@dataclass
class Publisher:
    """An HTTPS server that gives one file, and remembers who asked."""

    folder: Path
    requests: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/model.onnx"


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    authority = Authority(certificates, "authority")
    identity = authority.identity("publisher")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    published = Publisher(folder=tmp_path / "published")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            published.requests.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write((published.folder / "model.onnx").read_bytes())

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: pytest shows what matters."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        published.port = server.server_port
        yield published
        server.shutdown()


@pytest.fixture
def shipped_knee(tmp_path: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> str:
    """A shipped package whose weights are published under the GPL; returns their SHA-256."""
    build_package(publisher.folder, name="knee", licence="GPL-3.0", source_url=publisher.url)
    shipped = tmp_path / "shipped"
    (shipped / "knee").mkdir(parents=True)
    (publisher.folder / "manifest.toml").rename(shipped / "knee" / "manifest.toml")
    monkeypatch.setattr("inference.install.BUILTIN_DIR", shipped)
    return load(shipped / "knee").manifest.weights.source_sha256


def test_without_acceptance_the_licence_is_shown_and_nothing_is_fetched(
    shipped_knee: str, publisher: Publisher, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["models", "pull", "knee", "--config", str(config)])
    said = capsys.readouterr()
    assert status == 1
    assert said.out == (
        "knee: the weights' licence is GPL-3.0. "
        "Whoever passes it on, or a program that contains it, must give all of the source under the same licence.\n"
        "  https://spdx.org/licenses/GPL-3.0.html\n"
    )
    assert said.err == (
        "collimator: the weights' licence is GPL-3.0, which has to be accepted by its name "
        '(collimator models pull knee --accept-licence "GPL-3.0")\n'
    )
    assert publisher.requests == []


def test_accepting_another_licence_is_no_acceptance(
    shipped_knee: str, publisher: Publisher, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "pull", "knee", "--accept-licence", "MIT", "--config", str(config)]) == 1
    assert "the weights' licence is GPL-3.0, not 'MIT'" in capsys.readouterr().err
    assert publisher.requests == []


def test_an_accepted_licence_is_kept_with_the_package_and_listed(
    shipped_knee: str, publisher: Publisher, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accepted = ["--accept-licence", "gpl-3.0", "--by", "Dr. Ada Tester"]
    before = datetime.now(UTC).replace(microsecond=0)
    assert main(["models", "pull", "knee", *accepted, "--config", str(config)]) == 0
    assert publisher.requests == ["/model.onnx"]
    capsys.readouterr()

    assert main(["models", "list", "--json", "--config", str(config)]) == 0
    line = {line["name"]: line for line in json.loads(capsys.readouterr().out)}["knee"]
    assert (line["licence"], line["licence_binds"], line["adapter"]) == ("GPL-3.0", True, "classifier")
    assert line["licence_accepted_by"] == "Dr. Ada Tester"
    assert line["licence_accepted_for_sha256"] == shipped_knee
    assert before <= datetime.fromisoformat(line["licence_accepted_at"]) <= datetime.now(UTC)

    assert main(["models", "list", "--config", str(config)]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    (knee,) = [line for line in lines if line.startswith("knee ")]
    assert {"ADAPTER", "LICENCE", "ACCEPTED"} <= set(header.split())
    assert f"{before.date()} Dr. Ada Tester" in knee


def test_who_accepts_is_the_account_that_runs_it_where_nobody_is_named(shipped_knee: str, tmp_path: Path) -> None:
    pull("knee", tmp_path / "models", accepted_licence="GPL-3.0")
    acceptance = read_acceptance(Registry(tmp_path / "models").get("knee").folder)
    assert acceptance is not None
    assert (acceptance.accepted_by, acceptance.licence) == (os_user(), "GPL-3.0")


def test_what_was_accepted_stays_accepted_when_the_same_package_is_added_again(
    shipped_knee: str, tmp_path: Path
) -> None:
    pull("knee", tmp_path / "models", accepted_licence="GPL-3.0", accepted_by="Dr. Ada Tester")
    accepted = read_acceptance(Registry(tmp_path / "models").get("knee").folder)
    again = add(Registry(tmp_path / "models").get("knee").folder, tmp_path / "models")
    assert accepted is not None
    assert read_acceptance(again.folder) == accepted


def test_pulling_takes_no_place_of_a_package_that_somebody_brought(shipped_knee: str, tmp_path: Path) -> None:
    """One version is one network for good, also where both are called 1.0.0."""
    own = add(build_package(tmp_path / "own", name="knee", thresholds=(0.1, 0.9)), tmp_path / "models")
    with pytest.raises(Refuse, match=r"knee 1\.0\.0 is installed already, with other bytes"):
        pull("knee", tmp_path / "models", accepted_licence="GPL-3.0")
    assert Registry(tmp_path / "models").get("knee").device_uid == own.device_uid
    assert os.listdir(tmp_path / "models") == ["knee"]


def test_what_was_pulled_and_is_whole_is_not_pulled_again(
    shipped_knee: str, publisher: Publisher, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Converted anew, by another torch perhaps, it would be another network under the same version."""
    command = [
        "models",
        "pull",
        "knee",
        "--accept-licence",
        "GPL-3.0",
        "--by",
        "Dr. Ada Tester",
        "--config",
        str(config),
    ]
    assert main(command) == 0
    (folder,) = {Registry(place).get("knee").folder for place in config.parent.rglob("models")}
    first = load(folder)
    assert main(command) == 0
    assert "knee: was pulled before, and is whole" in capsys.readouterr().out
    assert (publisher.requests, load(folder)) == (["/model.onnx"], first)


def test_what_was_pulled_and_damaged_is_pulled_again(shipped_knee: str, publisher: Publisher, tmp_path: Path) -> None:
    assert pull("knee", tmp_path / "models", accepted_licence="GPL-3.0")
    package = Registry(tmp_path / "models").get("knee")
    whole = package.weights_path.read_bytes()
    package.weights_path.write_bytes(whole[:-1])
    assert pull("knee", tmp_path / "models", accepted_licence="GPL-3.0")
    assert package.weights_path.read_bytes() == whole
    assert len(publisher.requests) == 2


def test_whoever_pulls_what_is_there_with_other_bytes_is_told_the_way_out(shipped_knee: str, tmp_path: Path) -> None:
    own = add(build_package(tmp_path / "own", name="knee", thresholds=(0.1, 0.9)), tmp_path / "models")
    with pytest.raises(Refuse) as caught:
        pull("knee", tmp_path / "models", accepted_licence="GPL-3.0")
    assert caught.value.hint.endswith(f"to have this one instead, move {own.folder} away first")


def test_an_account_without_a_name_is_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 3_999_999_999)
    with pytest.raises((OSError, KeyError)):
        getpass.getuser()
    assert os_user() == "uid 3999999999"


def test_a_permissive_licence_needs_no_acceptance_and_leaves_none(
    publisher: Publisher, shipped_knee: str, tmp_path: Path
) -> None:
    manifest = tmp_path / "shipped" / "knee" / "manifest.toml"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"GPL-3.0"', '"MIT"'), encoding="utf-8")
    pull("knee", tmp_path / "models")
    folder = Registry(tmp_path / "models").get("knee").folder
    assert sorted(os.listdir(folder)) == ["manifest.toml", "model.onnx"]
    assert read_acceptance(folder) is None


def test_an_acceptance_that_was_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "licence_accepted.json").write_text('{"licence": ', encoding="utf-8")
    with pytest.raises(Misconfigured, match=r"licence_accepted\.json: cannot be read"):
        read_acceptance(tmp_path)


def test_a_binding_licence_is_refused_before_converters_are_asked_for(shipped_knee: str, tmp_path: Path) -> None:
    with pytest.raises(Refuse) as caught:
        pull("knee", tmp_path / "models")
    assert caught.value.reason == "licence_not_accepted"
    assert not (tmp_path / "models").exists()
