"""A role whose database goes away while it starts begins anew when that is back."""

import os
import sys
import threading

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from cli.starting import starting
from storage.database import Database


class Begun(BaseException):
    """The process would be another one from here on."""


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    commands = []

    def begin(program: str, command: list[str]) -> None:
        commands.append((program, command))
        raise Begun

    monkeypatch.setattr(os, "execv", begin)
    return commands


def server_gone() -> OperationalError:
    return OperationalError("SELECT 1", {}, Exception("terminating connection due to administrator command"))


def test_what_starts_well_goes_on(sqlite: Database, begun: list[tuple[str, list[str]]]) -> None:
    with starting(sqlite, threading.Event()):
        pass
    assert not begun


def test_where_the_server_goes_away_the_same_command_begins_anew(
    sqlite: Database, begun: list[tuple[str, list[str]]]
) -> None:
    with pytest.raises(Begun), starting(sqlite, threading.Event()):
        raise server_gone()
    assert begun == [(sys.executable, sys.orig_argv)]


def test_who_is_told_to_stop_meanwhile_stops(sqlite: Database, begun: list[tuple[str, list[str]]]) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(SystemExit) as ended, starting(sqlite, stop):
        raise server_gone()
    assert (ended.value.code, begun) == (0, [])


def test_an_error_of_ours_is_one(sqlite: Database, begun: list[tuple[str, list[str]]]) -> None:
    with pytest.raises(IntegrityError), starting(sqlite, threading.Event()):
        raise IntegrityError("INSERT", {}, Exception("UNIQUE constraint failed"))
    assert not begun
