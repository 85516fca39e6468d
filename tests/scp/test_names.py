"""A host name that cannot be resolved keeps the caller that has it outside, and nobody else, until it can be."""

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

import scp.names
from domain.clinics import Caller, Clinic, Destination
from domain.plans import Tier
from scp.callers import Callers
from scp.names import Names


class NameServer:
    """Stands for the system's; a name without addresses cannot be resolved."""

    def __init__(self) -> None:
        self.addresses: dict[str, list[str]] = {}
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()

    def getaddrinfo(self, host: str, port: object) -> list[tuple[object, ...]]:
        self.asked += 1
        self.answers.wait(10)
        if not self.addresses.get(host):
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in self.addresses[host]]


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    server = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server.getaddrinfo)
    yield server
    server.answers.set()


def known(host: str) -> Callers:
    callers = (Caller(ae_title="CT1", host=host), Caller(ae_title="CT2", host="10.1.2.4"))
    return Callers([Clinic(name="a", tier=Tier.BASIC, sends_notes=False, callers=callers, destinations=())])


def lets_in(callers: Callers, title: str, address: str) -> bool:
    return callers.caller_of(calling_ae_title=title, peer_address=address) is not None


def within(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


def test_a_name_that_cannot_be_resolved_is_told_and_keeps_nobody_else_outside(name_server: NameServer) -> None:
    with capture_logs() as logs:
        callers = known("ct1.hospital.example")
    assert [(one["event"], one["host"]) for one in logs] == [("caller_not_resolved", "ct1.hospital.example")]
    assert callers.unresolved == ["ct1.hospital.example"]
    assert not lets_in(callers, "CT1", "10.1.2.3")
    assert lets_in(callers, "CT2", "10.1.2.4")


def test_it_is_looked_up_again_by_itself(name_server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scp.names, "LOOKED_UP_EVERY_S", 0.01)
    callers = known("ct1")
    assert not lets_in(callers, "CT1", "10.1.2.3")
    name_server.addresses["ct1"] = ["10.1.2.3"]
    assert within(lambda: lets_in(callers, "CT1", "10.1.2.3"))
    assert callers.unresolved == []
    name_server.addresses["ct1"] = ["10.1.9.9"]
    assert within(lambda: lets_in(callers, "CT1", "10.1.9.9"))
    assert within(lambda: not lets_in(callers, "CT1", "10.1.2.3"))


def test_a_name_that_can_no_longer_be_resolved_stands_for_what_it_did(name_server: NameServer) -> None:
    name_server.addresses["ct1"] = ["10.1.2.3", "10.1.2.5"]
    names = Names(["ct1"])
    del name_server.addresses["ct1"]
    with capture_logs() as logs:
        names.look_up()
        names.look_up()
        name_server.addresses["ct1"] = ["10.1.2.3"]
        names.look_up()
    assert [one["event"] for one in logs] == ["caller_not_resolved", "caller_resolved"]
    assert [str(network) for network in names.networks("ct1")] == ["10.1.2.3/32"]


def test_the_start_does_not_wait_for_a_name_server_that_does_not_answer(
    name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scp.names, "FIRST_LOOK_S", 0.05)
    name_server.answers.clear()
    name_server.addresses["ct1"] = ["10.1.2.3"]
    callers = known("ct1")
    assert lets_in(callers, "CT2", "10.1.2.4")
    assert not lets_in(callers, "CT1", "10.1.2.3")
    name_server.answers.set()
    assert within(lambda: lets_in(callers, "CT1", "10.1.2.3"))


def test_without_a_name_there_is_nothing_to_look_up(name_server: NameServer) -> None:
    before = set(threading.enumerate())  # some of another test's may be about to end
    known("10.1.2.3")
    assert set(threading.enumerate()) <= before


def test_a_destination_is_known_by_its_name_and_whoever_takes_its_title_makes_nobody_ask_the_name_server(
    name_server: NameServer,
) -> None:
    name_server.addresses["pacs"] = ["10.1.2.9"]
    pacs = Destination(name="pacs", ae_title="PACS", host="pacs", port=104, commitment=True)
    callers = Callers([Clinic(name="a", tier=Tier.BASIC, sends_notes=False, callers=(), destinations=(pacs,))])
    asked = name_server.asked
    assert [lets_in(callers, "PACS", address) for address in ("10.1.2.9", "10.1.2.66")] == [True, False]
    assert name_server.asked == asked == 1
    assert callers.unresolved == []


def test_a_destinations_name_that_cannot_be_resolved_is_told_as_such(name_server: NameServer) -> None:
    pacs = Destination(name="pacs", ae_title="PACS", host="pacs", port=104, commitment=True)
    with capture_logs() as logs:
        Callers([Clinic(name="a", tier=Tier.BASIC, sends_notes=False, callers=(), destinations=(pacs,))])
    assert [(one["event"], one["host"]) for one in logs] == [("destination_not_resolved", "pacs")]
