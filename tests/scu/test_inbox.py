"""A peer's answers and requests are kept apart: an answer reaches who asked, on a busy machine too (PS3.7 6.3.1)."""

import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty
from threading import Event, Thread

import pytest
from pynetdicom.dimse_primitives import C_ECHO, C_STORE

from scu.inbox import Inbox
from scu.store import Answer, describe, store_association
from tests.factories.sources import radiograph
from tests.scu.conftest import TIMEOUT_S, Peer


def request() -> C_ECHO:
    message = C_ECHO()
    message.MessageID = 1
    return message


def answer() -> C_STORE:
    message = C_STORE()
    message.MessageIDBeingRespondedTo = 1
    return message


def test_an_answer_is_not_there_for_who_looks_for_requests() -> None:
    inbox, came = Inbox(), (1, answer())
    inbox.put(came)
    with pytest.raises(Empty):
        inbox.get(block=False)
    assert inbox.get(timeout=1.0) == came


def test_a_request_is_not_there_for_who_waits_for_an_answer() -> None:
    inbox, came = Inbox(), (1, request())
    inbox.put(came)
    with pytest.raises(Empty):
        inbox.get(timeout=0.01)
    assert inbox.get(block=False) == came


def test_that_the_connection_has_ended_reaches_who_waits() -> None:
    inbox = Inbox()
    waiting = Thread(target=inbox.put, args=((None, None),))
    waiting.start()
    assert inbox.get(timeout=TIMEOUT_S) == (None, None)
    waiting.join()


class LateToNotice(Event):
    """A thread that was let go and comes to run only a moment later, as on a busy machine."""

    def wait(self, timeout: float | None = None) -> bool:
        is_set = super().wait(timeout)
        time.sleep(0.3)
        return is_set


def test_an_answer_reaches_who_asked_although_pynetdicoms_thread_comes_first(
    storescp: Callable[..., Peer], tmp_path: Path
) -> None:
    peer, path = storescp(), tmp_path / "image.dcm"
    radiograph(1).save_as(path, enforce_file_format=True)
    file = describe(path)
    pair = (file.sop_class_uid, file.transfer_syntax_uid)
    with store_association(peer.address, [pair], calling_ae_title="COLLIMATOR", timeout_s=TIMEOUT_S) as association:
        beneath = association._association
        send_msg = beneath.dimse.send_msg

        def send_and_rest(primitive: C_STORE, context_id: int) -> None:
            send_msg(primitive, context_id)
            time.sleep(0.6)

        beneath.dimse.send_msg = send_and_rest  # type: ignore[assignment,method-assign]
        beneath._reactor_checkpoint = LateToNotice()
        beneath._reactor_checkpoint.set()
        time.sleep(0.1)  # pynetdicom's thread comes to the new one
        assert association.send(file).answer is Answer.STORED
