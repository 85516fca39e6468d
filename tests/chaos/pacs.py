"""A PACS on a bad day, as a program of its own: it refuses, is full, hangs, aborts, or stores and loses the answer.

    python -m tests.chaos.pacs FOLDER PORT SEED        SIGUSR1: from now on it behaves

What it holds lies in FOLDER, a data set for each SOP Instance UID. Whatever it is sent, it notes in `arrivals.jsonl`
before it says or does anything.
"""

import argparse
import json
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from enum import StrEnum
from hashlib import sha256
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, StoragePresentationContexts, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from cli.stopping import stop_signal

AE_TITLE = "ORTHANC"
JOURNAL = "arrivals.jsonl"
OUT_OF_RESOURCES = 0xA700  # PS3.4 Table B.2-1
HANGS_S = 7.0  # longer than the node waits
EVERY_STORE, EVERY_ASSOCIATION = 6, 4  # one in so many goes wrong


class Answer(StrEnum):
    """What it did with an instance, or with an association. STORED and LOST: it holds it."""

    STORED = "stores"
    FULL = "is full"
    HANGS = "hangs"
    ABORTS = "aborts"
    LOST = "stores and loses the answer"
    REFUSES = "refuses an association"


WITH_AN_INSTANCE = (Answer.FULL, Answer.HANGS, Answer.ABORTS, Answer.LOST)
MISFORTUNES = len(Answer) - 1


class Pacs:
    """Its misfortunes come by chance, but each kind in its turn: `seed` decides."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._journal = open(folder / JOURNAL, "a")  # noqa: SIM115  # as long as the program runs
        self._turn = threading.Lock()
        self._stores, self._associations = count(1), count(1)
        self._misfortunes = shuffled(random.Random(seed))
        self.behaves = False
        self.ae = AE(AE_TITLE)
        self.ae.supported_contexts = StoragePresentationContexts
        for context in StoragePresentationContexts:
            self.ae.add_supported_context(str(context.abstract_syntax), ExplicitVRLittleEndian)

    def associate(self, event: evt.Event) -> None:
        """Refuse one in so many. pynetdicom looks at the called AE title right after this."""
        with self._turn:
            refuses = not self.behaves and next(self._associations) % EVERY_ASSOCIATION == 0
            self.ae.require_called_aet = refuses
            event.assoc.acceptor.ae_title = "SOMEBODY ELSE" if refuses else AE_TITLE
            if refuses:
                self._note(answer=Answer.REFUSES)

    def store(self, event: evt.Event) -> int:
        """Answer a C-STORE, or do something else."""
        request = event.request
        assert isinstance(request, C_STORE)
        assert isinstance(request.DataSet, BytesIO)
        data_set, uid = request.DataSet.getvalue(), str(request.AffectedSOPInstanceUID)
        with self._turn:
            goes_wrong = not self.behaves and next(self._stores) % EVERY_STORE == 0
            answer = next(self._misfortunes) if goes_wrong else Answer.STORED
            if answer in (Answer.STORED, Answer.LOST):
                (self._folder / f"{uid}.dcm").write_bytes(data_set)
            self._note(sop_instance_uid=uid, sha256=sha256(data_set).hexdigest(), answer=answer)
        match answer:
            case Answer.FULL:
                return OUT_OF_RESOURCES
            case Answer.HANGS:
                time.sleep(HANGS_S)
                event.assoc.abort()
            case Answer.ABORTS:
                event.assoc.abort()
            case Answer.LOST:
                cut_off(event.assoc)
        return 0

    def _note(self, **what: str) -> None:
        self._journal.write(json.dumps(what) + "\n")
        self._journal.flush()


def shuffled(chance: random.Random) -> Iterator[Answer]:
    while True:
        yield from chance.sample(WITH_AN_INSTANCE, len(WITH_AN_INSTANCE))


def cut_off(association: Association) -> None:
    connection = association.dul.socket.socket if association.dul.socket else None
    if connection is not None:
        connection.shutdown(socket.SHUT_RDWR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("seed", type=int)
    arguments = parser.parse_args()
    pacs, stop = Pacs(arguments.folder, arguments.seed), stop_signal(signal.SIGTERM)
    signal.signal(signal.SIGUSR1, lambda *_: setattr(pacs, "behaves", True))
    handlers: list[Any] = [(evt.EVT_REQUESTED, pacs.associate), (evt.EVT_C_STORE, pacs.store)]
    server = pacs.ae.start_server(("127.0.0.1", arguments.port), block=False, evt_handlers=handlers)
    stop.wait()
    if server is not None:
        server.shutdown()


if __name__ == "__main__":
    main()
