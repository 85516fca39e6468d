"""Each association is counted for its node, its caller, its address and, of strangers, for all of them; once."""

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
