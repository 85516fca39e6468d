"""Where unknown callers are let in, they take nothing from those that are known."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from domain.clinics import Caller, Clinic
from domain.plans import Tier
from scp.callers import Callers
from scp.limits import Limits
from scp.server import Receiver
from scp.stock import StockReceiver
from scp.store import StoreHandler
from storage.instances import Spool
from tests.factories.hostile import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, Peer, an_instance, associate_rq, store
from tests.factories.services import PATHS

CLINIC = Clinic(
    name="st-mary",
    tier=Tier.BASIC,
    sends_notes=False,
    callers=(Caller(ae_title="CT1", host="127.0.0.1"), Caller(ae_title="CT1", host="127.0.0.3")),
    destinations=(),
)
LIMITS = Limits(
    maximum_associations=12,
    maximum_associations_per_caller=4,
    maximum_associations_of_strangers=5,
    artim_s=1.0,
    association_timeout_s=5.0,
)


@contextmanager
def open_to_all(
    folder: Path, *, path: str = "fast", host: str = "127.0.0.1", strangers_maximum_bytes: int | None = None
) -> Iterator[int]:
    spool = Spool(folder, strangers_maximum_bytes=strangers_maximum_bytes)
    receiver = {"fast": Receiver, "stock": StockReceiver}[path](
        ae_title="COLLIMATOR",
        host=host,
        port=0,
        callers=Callers([CLINIC], takes_unknown=True),
        store=StoreHandler(spool, called_ae_title="COLLIMATOR", on_stored=lambda key: None),
        on_released=lambda association: None,
        limits=LIMITS,
    )
    yield receiver.start()
    receiver.stop(grace_s=0.0)


def come_in(stack: ExitStack, port: int, calling: str, address: str, count: int) -> list[bool]:
    """Whether each of so many associations is accepted; they last as long as the stack."""
    peers = [stack.enter_context(Peer(port, address=address)) for _ in range(count)]
    answers = [peer.say(associate_rq(calling=calling.encode())).hear() for peer in peers]
    assert all(kind == A_ASSOCIATE_AC or (kind, said) == (A_ASSOCIATE_RJ, b"\0\2\3\2") for kind, said in answers)
    return [kind == A_ASSOCIATE_AC for kind, _ in answers]


def test_somebody_elsewhere_with_its_title_takes_no_association_from_a_known_caller(tmp_path: Path) -> None:
    with open_to_all(tmp_path) as port, ExitStack() as stack:
        assert come_in(stack, port, "CT1", "127.0.0.9", 5) == [True] * 4 + [False]
        assert come_in(stack, port, "CT1", "127.0.0.1", 5) == [True] * 4 + [False]
        assert come_in(stack, port, "CT1", "127.0.0.3", 4) == [True] * 4  # configured apart, so it is another


def test_all_strangers_together_have_a_few_associations(tmp_path: Path) -> None:
    with open_to_all(tmp_path) as port, ExitStack() as stack:
        taken = [come_in(stack, port, f"X{number}", f"127.0.0.{20 + number}", 1) for number in range(7)]
        assert taken == [[True]] * 5 + [[False]] * 2
        assert come_in(stack, port, "CT1", "127.0.0.1", 4) == [True] * 4


@pytest.mark.parametrize("path", PATHS)
def test_when_strangers_have_filled_what_they_may_known_callers_go_on(tmp_path: Path, path: str) -> None:
    def stored(port: int, calling: bytes, uid: str) -> int:
        with Peer(port) as peer:
            assert peer.say(associate_rq(calling=calling)).hear()[0] == A_ASSOCIATE_AC
            return peer.say(*store(uid, an_instance(uid, pixels=60_000))).status()

    with open_to_all(tmp_path, path=path, strangers_maximum_bytes=100_000) as port:
        assert [stored(port, b"X1", f"2.25.{number}") for number in (1, 2)] == [0x0000] * 2
        time.sleep(0.6)  # longer than a count holds
        assert stored(port, b"X1", "2.25.3") == 0xA700
        assert stored(port, b"CT1", "2.25.4") == 0x0000


@pytest.mark.parametrize("path", PATHS)
def test_the_log_names_a_stranger_once_an_association(tmp_path: Path, path: str) -> None:
    with capture_logs() as logs, open_to_all(tmp_path, path=path) as port, ExitStack() as stack:
        come_in(stack, port, "X1", "127.0.0.9", 1)
        come_in(stack, port, "CT1", "127.0.0.1", 1)
        come_in(stack, port, "CT1", "127.0.0.9", 1)
    told = [one for one in logs if one["event"] == "caller_quarantined"]
    assert [(one["calling_ae"], one["peer_address"]) for one in told] == [("X1", "127.0.0.9"), ("CT1", "127.0.0.9")]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this system has no socket for both families")
def test_on_every_address_of_both_families_a_caller_is_known_by_its_own(tmp_path: Path) -> None:
    with capture_logs() as logs, open_to_all(tmp_path, host="::") as port, ExitStack() as stack:
        assert come_in(stack, port, "CT1", "127.0.0.1", 1) == [True]
        assert come_in(stack, port, "X1", "127.0.0.9", 1) == [True]
        six = stack.enter_context(socket.create_connection(("::1", port), timeout=5))
        six.sendall(associate_rq(calling=b"X2"))
        assert six.recv(1)[0] == A_ASSOCIATE_AC
    addresses = [one["peer_address"] for one in logs if one["event"] == "caller_quarantined"]
    assert addresses == ["127.0.0.9", "::1"]
