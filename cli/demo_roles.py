"""The demonstration's node: a configuration of its own and the three roles as processes."""

import json
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.demo_pacs import LOOPBACK, NODE, PACS
from cli.serve import Role, role_command
from config.settings import Settings, load
from domain.errors import Retry
from domain.plans import Tier
from scu.echo import echo
from scu.store import Address

CLINIC = "demo-clinic"
MODALITY = "MODALITY1"
STARTS_WITHIN_S = 60.0
POLL_S = 0.2

CONFIGURATION = """\
[node]
ae_title = "{node}"
data_dir = {data_dir}

[receiver]
port = {receiver_port}
minimum_free_gb = 0.2
minimum_free_percent = 0.0

[portal]
port = {portal_port}

[completion]
after_release_s = 1.0

[logging]
level = "warning"

[[clinics]]
name = "{clinic}"
tier = "{tier}"

[[clinics.callers]]
ae_title = "{modality}"
host = "127.0.0.1"

[[clinics.callers]]
ae_title = "{pacs}"
host = "127.0.0.1"

[[clinics.destinations]]
name = "pacs"
ae_title = "{pacs}"
host = "127.0.0.1"
port = {pacs_port}
"""


@contextmanager
def demo_roles(out: Path, pacs_port: int, prepare: Callable[[Settings], None]) -> Iterator[Settings]:
    """Write a configuration, `prepare` what it describes, start the three roles, and stop them at the end."""
    data_dir = out / "node"
    _clear(data_dir)
    config = out / "collimator.toml"
    config.write_text(
        CONFIGURATION.format(
            node=NODE,
            data_dir=json.dumps(str(data_dir.absolute())),
            receiver_port=_free_port(11112),
            portal_port=_free_port(8080),
            clinic=CLINIC,
            tier=Tier.PROFESSIONAL,
            modality=MODALITY,
            pacs=PACS,
            pacs_port=pacs_port,
        ),
        encoding="utf-8",
    )
    settings = load(config)
    prepare(settings)
    roles = [
        Role("receiver", role_command("receiver", config)),
        Role("worker", [sys.executable, "-m", "cli.demo_worker", str(config)]),
        Role("portal", role_command("portal", config)),
    ]
    for role in roles:
        role.start()
    try:
        _wait_for_echo(Address(ae_title=NODE, host=LOOPBACK, port=settings.receiver.port))
        yield settings
    finally:
        for role in roles:
            role.stop()
        for role in roles:
            role.wait(time.monotonic() + 40.0)


def _wait_for_echo(address: Address) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while True:
        try:
            return echo(address, calling_ae_title=MODALITY, timeout_s=5.0)
        except Retry:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_S)


def _clear(data_dir: Path) -> None:
    """Start afresh, but keep models that an earlier run has pulled."""
    for entry in data_dir.iterdir() if data_dir.is_dir() else ():
        if entry.name != "models":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    data_dir.mkdir(parents=True, exist_ok=True)


def _free_port(preferred: int) -> int:
    """The usual port when it is free, otherwise any."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Retry("no port is free on the loopback address")
