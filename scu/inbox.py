"""Keeps answers and requests of a peer apart (PS3.7 6.3.1): who asked gets the answer, and nobody else.

pynetdicom puts both into one queue. Its own thread takes requests from there, and is paused while an answer is waited
for; but it calls itself paused for a moment when it no longer is. A peer that answers within that moment has answered
in vain: the thread drops what is no request, and who asked waits until the time is up. In a busy process the moment is
as long as other threads like to run.
"""

from queue import Queue
from typing import Any

from pynetdicom import evt
from pynetdicom.dimse_primitives import DimseServiceType
from pynetdicom.events import Event, EventHandlerType

# A presentation context ID and a message.
Item = tuple[int, DimseServiceType] | tuple[None, None]


class Inbox(Queue[Item]):
    """In the place of `DIMSEServiceProvider.msg_queue`: to wait is to ask for an answer, not to wait for a request.

    That the connection has ended, (None, None), is an answer: who waits is to wait no longer.
    """

    def __init__(self) -> None:
        super().__init__()
        self._requests: Queue[Item] = Queue()

    def put(self, item: Item, *args: Any, **kwargs: Any) -> None:
        _, message = item
        if message is not None and message.MessageIDBeingRespondedTo is None:
            self._requests.put(item)
        else:
            super().put(item, *args, **kwargs)

    def get(self, block: bool = True, timeout: float | None = None) -> Item:
        return super().get(timeout=timeout) if block else self._requests.get_nowait()


def _open(event: Event) -> None:
    event.assoc.dimse.msg_queue = Inbox()


# Bound to an association that we propose: from before the peer's first byte.
APART: EventHandlerType = (evt.EVT_CONN_OPEN, _open)
