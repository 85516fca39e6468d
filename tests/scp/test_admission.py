"""Each association is counted for its node, its caller, its address and, of strangers, for all of them; once."""

from dataclasses import replace

from scp.admission import Admission
from scp.callers import KnownCaller
from scp.limits import Limits

LIMITS = Limits(
    maximum_associations=8,
    maximum_associations_per_caller=4,
    maximum_associations_per_address=5,
    maximum_associations_of_strangers=3,
)


class Connection:
    def drop(self) -> None:
        raise AssertionError("nobody has to give way")


def caller(name: str) -> KnownCaller:
    return KnownCaller(clinic="a", ae_title="CT", identity=("a", name))


def stranger(name: str) -> KnownCaller:
    return KnownCaller(clinic="", ae_title="CT", identity=(name,), is_stranger=True)


def admitted(admission: Admission, who: KnownCaller, address: str, count: int) -> list[Connection]:
    connections = [Connection() for _ in range(count)]
    return [one for one in connections if admission.admit(one, caller=who, address=address)]


def test_a_caller_an_address_and_the_node_have_so_many() -> None:
    admission = Admission(LIMITS)
    assert len(admitted(admission, caller("1"), "10.0.0.1", 9)) == 4
    assert len(admitted(admission, caller("2"), "10.0.0.1", 9)) == 1
    assert len(admitted(admission, caller("2"), "10.0.0.2", 9)) == 3


def test_strangers_have_so_many_together() -> None:
    admission = Admission(LIMITS)
    assert len(admitted(admission, stranger("1"), "10.0.0.1", 2)) == 2
    assert len(admitted(admission, stranger("2"), "10.0.0.2", 2)) == 1
    assert len(admitted(admission, caller("1"), "10.0.0.2", 4)) == 4


def test_what_is_left_is_free_for_the_next_and_counted_once() -> None:
    admission = Admission(LIMITS)
    for who in (caller("1"), stranger("1"), caller("1"), stranger("2")):
        connections = admitted(admission, who, "10.0.0.1", 9)
        assert len(connections) == (3 if who.is_stranger else 4)
        for connection in connections * 2:
            admission.leave(connection)
    assert admission.all() == []


class Silent(Connection):
    """Has said nothing yet, and may have to give way."""

    def __init__(self) -> None:
        self.is_dropped = False

    def drop(self) -> None:
        self.is_dropped = True


def test_an_address_that_opens_connection_after_connection_takes_the_place_of_its_own_only() -> None:
    admission = Admission(replace(LIMITS, maximum_unassociated=4))
    honest, others = Silent(), [Silent() for _ in range(9)]
    admission.wait(honest, address="10.0.0.1")
    for one in others:
        admission.wait(one, address="10.0.0.66")
    assert [one.is_dropped for one in others] == [True] * 6 + [False] * 3
    assert not honest.is_dropped


def test_where_each_comes_from_elsewhere_the_oldest_gives_way_and_whoever_is_refused_before() -> None:
    admission = Admission(replace(LIMITS, maximum_unassociated=2))
    refused, first, second, third = (Silent() for _ in range(4))
    admission.linger(refused)
    for number, one in enumerate((first, second, third)):
        admission.wait(one, address=f"10.0.0.{number}")
    assert [one.is_dropped for one in (refused, first, second, third)] == [True, True, False, False]
