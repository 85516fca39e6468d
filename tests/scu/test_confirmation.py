"""N-ACTION of storage commitment as SCU: what the archive is asked, and a report on the same association."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from queue import Queue
from threading import Thread

import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.events import Event

from domain.commitment import Reference
from domain.errors import Retry
from scu.confirmation import request_commitment
from scu.inbox import APART
from scu.store import Address
from tests.factories.ports import free_port
from tests.scu.conftest import TIMEOUT_S

PUSH_MODEL, WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
RESULTS = tuple(Reference(sop_class_uid="1.2.840.10008.5.1.4.1.1.7", sop_instance_uid=f"2.25.{n}") for n in (1, 2))


class Reports:
    """What was handed on, and with which Status it is to be answered."""

    def __init__(self, status: int = 0x0000) -> None:
        self.status = status
        self.came: list[tuple[int | None, bytes, str]] = []

    def __call__(self, event_type: int | None, content: bytes, transfer_syntax_uid: str) -> int:
        self.came.append((event_type, content, transfer_syntax_uid))
        return self.status


@contextmanager
def archive(on_action: Callable[[Event], int], sop_class: str = PUSH_MODEL) -> Iterator[Address]:
    ae = AE("ARCHIVE")
    ae.add_supported_context(sop_class)
    # APART: the archive, too, would now and then wait in vain for the answer to its report.
    handlers = [APART, (evt.EVT_N_ACTION, lambda event: (on_action(event), None))]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    yield Address(ae_title="ARCHIVE", host="127.0.0.1", port=int(server.server_address[1]))  # type: ignore[union-attr]
    server.shutdown()  # type: ignore[union-attr]


def ask(to: Address, reports: Reports | None = None, *, report_within_s: float = 0.0) -> None:
    request_commitment(
        "2.25.9",
        RESULTS,
        to,
        calling_ae_title="COLLIMATOR",
        timeout_s=TIMEOUT_S,
        on_report=reports or Reports(),
        report_within_s=report_within_s,
    )


def test_an_archive_is_asked_for_what_it_stored_under_one_transaction_uid() -> None:
    asked: list[tuple[int | None, str, Dataset]] = []

    def on_action(event: Event) -> int:
        instance = str(event.request.RequestedSOPInstanceUID)  # type: ignore[union-attr]
        asked.append((event.action_type, instance, event.action_information))
        return 0x0000

    with archive(on_action) as to:
        ask(to)
    ((action_type, instance, information),) = asked
    assert (action_type, instance, information.TransactionUID) == (1, WELL_KNOWN_INSTANCE, "2.25.9")
    items = information.ReferencedSOPSequence
    assert [(one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID) for one in items] == [
        ("1.2.840.10008.5.1.4.1.1.7", "2.25.1"),
        ("1.2.840.10008.5.1.4.1.1.7", "2.25.2"),
    ]


@pytest.mark.parametrize("status", [0x0000, 0x0213])
def test_a_report_on_the_same_association_is_handed_on_and_answered_as_its_taker_says(status: int) -> None:
    answered: Queue[int] = Queue()

    def on_action(event: Event) -> int:
        information = Dataset()
        information.TransactionUID = "2.25.9"

        def report(after: Event) -> None:
            # pynetdicom must first be through with the message that it has just sent.
            Thread(target=send, args=(after.assoc,), daemon=True).start()

        def send(association: Association) -> None:
            response, _ = association.send_n_event_report(information, 1, PUSH_MODEL, WELL_KNOWN_INSTANCE)
            answered.put(response.Status)

        event.assoc.bind(evt.EVT_DATA_SENT, _once(report))
        return 0x0000

    reports = Reports(status)
    with archive(on_action) as to:
        ask(to, reports, report_within_s=60.0)
    ((event_type, content, syntax),) = reports.came
    information = read_dataset(BytesIO(content), syntax == "1.2.840.10008.1.2", True)
    assert (event_type, information.TransactionUID) == (1, "2.25.9")
    assert answered.get(timeout=TIMEOUT_S) == status


@pytest.mark.parametrize("status", [0x0110, 0x0124, 0x0213])
def test_an_archive_that_refuses_is_asked_again_later(status: int) -> None:
    with archive(lambda event: status) as to, pytest.raises(Retry, match=f"refused to commit: 0x{status:04X}"):
        ask(to)


def test_an_archive_that_does_not_take_the_sop_class_is_said_to() -> None:
    with (
        archive(lambda event: 0, sop_class="1.2.840.10008.1.1") as to,
        pytest.raises(Retry, match="does not take Storage Commitment"),
    ):
        ask(to)


def test_an_archive_that_hangs_up_instead_of_answering_is_asked_again_later() -> None:
    def hang_up(event: Event) -> int:
        event.assoc.abort()
        return 0x0000

    with archive(hang_up) as to, pytest.raises(Retry, match="did not answer"):
        ask(to)


def test_nobody_there_is_asked_again_later() -> None:
    with pytest.raises(Retry, match="NOBODY at 127"):
        ask(Address(ae_title="NOBODY", host="127.0.0.1", port=free_port()))


def test_an_archive_that_hangs_up_while_a_report_is_waited_for_has_been_asked() -> None:
    def on_action(event: Event) -> int:
        event.assoc.bind(evt.EVT_DATA_SENT, _once(lambda after: Thread(target=after.assoc.abort, daemon=True).start()))
        return 0x0000

    with archive(on_action) as to:
        ask(to, report_within_s=60.0)


def _once(work: Callable[[Event], None]) -> Callable[[Event], None]:
    waiting = [work]

    def handle(event: Event) -> None:
        if waiting:
            waiting.pop()(event)

    return handle
