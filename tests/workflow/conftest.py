"""Rooms on a real SQLite database, with a queue that only remembers what was put and an engine that forgets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import pytest
import sqlalchemy as sa

from config.settings import Settings
from domain.clinics import Clinic, Destination
from domain.plans import Tier
from storage.database import Database
from storage.instances import ResultFolder, Spool
from workflow.durable import Entry
from workflow.rooms import DeliveryRules, Rooms

T = TypeVar("T")
P = ParamSpec("P")


class Direct:
    """Does each step at once and remembers nothing: what a job is without an engine."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def enter(
        self, name: str, returns: type[T], prepare: Callable[P, Entry[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        entry = prepare(*args, **kwargs)
        with self._database.write() as connection:
            return entry(connection)

    def transaction(
        self, name: str, work: Callable[Concatenate[sa.Connection, P], Any], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        with self._database.write() as connection:
            work(connection, *args, **kwargs)


class Puts:
    """The jobs that were put: (kind, study id, attempt, delay in seconds) or (destination, clinic, number, delay)."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, int | str, int, float]] = []

    def put_study(self, _connection: object, *, study_id: int, attempt: int, delay_s: float = 0) -> None:
        self.jobs.append(("study", study_id, attempt, delay_s))

    def put_shadow(self, _connection: object, *, study_id: int, attempt: int, delay_s: float = 0) -> None:
        self.jobs.append(("shadow", study_id, attempt, delay_s))

    def put_withdrawal(self, _connection: object, *, study_id: int, delay_s: float = 0) -> None:
        self.jobs.append(("withdrawal", study_id, 1, delay_s))

    def put_drain(self, _connection: object, *, clinic: str, destination: str, number: int, delay_s: float = 0) -> None:
        self.jobs.append((destination, clinic, number, delay_s))


@pytest.fixture(autouse=True)
def no_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """No association waits for more, but where a test is about that."""
    monkeypatch.setattr("workflow.deliver.STAYS_S", 0.0)


@pytest.fixture
def database(sqlite: Database) -> Database:
    return sqlite


@pytest.fixture
def puts() -> Puts:
    return Puts()


@pytest.fixture
def rooms(database: Database, puts: Puts, tmp_path: Path) -> Rooms:
    return rooms_on(database, puts, tmp_path)


def rooms_on(database: Database, puts: Puts, folder: Path) -> Rooms:
    """st-mary has the destination pacs, at which nobody listens. No model is at hand."""
    pacs = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=1)
    clinics = tuple(
        Clinic(name=name, tier=Tier(tier), sends_notes=False, callers=(), destinations=(pacs,))
        for name, tier in (("st-mary", "professional"), ("mercy", "basic"))
    )
    nothing = cast(Any, None)
    return Rooms(
        database=database,
        spool=Spool(folder),
        results=ResultFolder(folder),
        jobs=cast(Any, puts),
        registry=nothing,
        analyst=nothing,
        shadow_analyst=nothing,
        rulebook=Settings().rulebook,
        clinics=clinics,
        node=nothing,
        ae_title="COLLIMATOR",
        delivery=DeliveryRules(first_retry_s=5.0, longest_retry_s=600.0, give_up_after_s=3600.0, timeout_s=2.0),
    )
