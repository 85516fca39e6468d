"""What listeners tell the indexer: a line each through one pipe, which outlives a restart at either end.

    listener 0 ──┐                        ┌──> answers for listener 0
    listener 1 ──┼──> pipe ──> indexer ───┼──> answers for listener 1
                 └──> lost, when the pipe was full: the indexer sweeps the spool then

A receive thread never waits here. A line goes into the pipe at once and as a whole, or not at all (pipe(7), PIPE_BUF).
The pipe belongs to the process that forks the others: what is in it is still there when one of them is started again.
"""

import fcntl
import os
import select
import threading
import weakref
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from storage.database import utc_now
from storage.intake import Verdict

NEWS_BYTES = 1 << 20  # some 25,000 lines; the most that a process without privileges gets (pipe-max-size)
ANSWER_BYTES = 1 << 16
READ_BYTES = 1 << 16
UNSENT_LIMIT = 1000
NO_VERDICT = "-"


class What(StrEnum):
    STORED = "stored"  # an instance is durable; about: its spool key
    ASKED = "asked"  # the same, and the listener waits for the verdict
    RELEASED = "released"  # its peer released an association; about: the association
    CLOSED = "closed"  # an association is over, however it ended
    STARTED = "started"  # a listener begins; what it had open before is over
    ALIVE = "alive"  # a listener is still there
    MARK = "mark"  # somebody waits until all that was told before this is recorded; about: a name of his
    LOST = "lost"  # something could not be told, because the pipe was full


@dataclass(frozen=True, slots=True)
class News:
    """One thing that happened at a listener, which are numbered from 0.

    at: when, of a release; a study's time runs from then, not from when somebody reads of it.
    """

    what: What
    listener: int = 0
    about: str = ""
    at: datetime | None = None


class NewsPipe:
    """The pipe for the news of some listeners, and one back to each. Made before the processes that use it."""

    def __init__(self, *, listeners: int = 1) -> None:
        self._news = _pipe(NEWS_BYTES)
        self._lost = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._answers = [_pipe(ANSWER_BYTES) for _ in range(listeners)]
        self.listeners = listeners
        # Its ends keep it; with the last of them in this process its descriptors go.
        ends = [*self._news, self._lost, *(end for pipe in self._answers for end in pipe)]
        weakref.finalize(self, _close, ends).atexit = False

    def writer(self, listener: int = 0, *, asks: bool = False) -> "NewsWriter":
        """The end of one listener. `asks`: it will want the verdict of everything that it stores."""
        return NewsWriter(self, listener, asks=asks)

    def reader(self) -> "NewsReader":
        """The indexer's end."""
        return NewsReader(self)

    def put(self, line: bytes) -> bool:
        """Whether the line is in the pipe now."""
        return _put(self._news[1], line)

    def get(self) -> bytes:
        """What is in the pipe, some 64 KiB of it at most."""
        return _get(self._news[0])

    def put_answer(self, listener: int, line: bytes) -> bool:
        return _put(self._answers[listener][1], line)

    def get_answers(self, listener: int) -> bytes:
        """Waits until there are some."""
        poll = select.poll()
        poll.register(self._answers[listener][0], select.POLLIN)
        poll.poll()
        return _get(self._answers[listener][0])

    def mark_lost(self) -> None:
        os.eventfd_write(self._lost, 1)

    def was_lost(self) -> bool:
        """Whether there was a mark; it is wiped off."""
        return bool(_get(self._lost))

    def wait(self, timeout_s: float) -> bool:
        """Whether there are news or a mark, within the time."""
        poll = select.poll()
        poll.register(self._news[0], select.POLLIN)
        poll.register(self._lost, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))


class NewsWriter:
    """Tells what happens at one listener. Its methods may be called from any thread and never wait."""

    def __init__(self, pipe: NewsPipe, listener: int, *, asks: bool) -> None:
        self._pipe = pipe
        self._listener = listener
        self._unsent: deque[bytes] = deque(maxlen=UNSENT_LIMIT)
        self._asked: dict[str, Future[Verdict | None]] = {}
        self._asks = asks
        if asks:
            threading.Thread(target=self._follow_answers, name="verdicts", daemon=True).start()

    def on_stored(self, spool_key: str) -> None:
        if self._asks:
            self._asked[spool_key] = Future()
        if not self._pipe.put(self._line(What.ASKED if self._asks else What.STORED, spool_key)):
            self._asked.pop(spool_key, None)
            self._pipe.mark_lost()

    def on_released(self, association: str) -> None:
        self._tell_sometime(What.RELEASED, association, at=utc_now())

    def on_closed(self, association: str) -> None:
        """The connection is gone, released or not; what an abort left open is closed by its quiet time."""
        self._tell_sometime(What.CLOSED, association)

    def started(self) -> None:
        self._tell_sometime(What.STARTED)

    def alive(self) -> None:
        """To be called every few seconds."""
        self._send_unsent()
        self._pipe.put(self._line(What.ALIVE))

    def mark(self, name: str) -> bool:
        """Whether it is on its way: a full pipe takes none."""
        return self._pipe.put(self._line(What.MARK, name))

    def verdict(self, spool_key: str, *, timeout_s: float) -> Verdict | None:
        """What became of an instance that was told as stored; None when that is not known in time. This one waits."""
        asked = self._asked.get(spool_key)
        if asked is None:
            return None
        try:
            return asked.result(timeout_s)
        except TimeoutError:
            return None
        finally:
            self._asked.pop(spool_key, None)

    def _tell_sometime(self, what: What, about: str = "", at: datetime | None = None) -> None:
        """No sweep finds out what these say, so they are tried again, in their order."""
        self._unsent.append(self._line(what, about, at))
        self._send_unsent()

    def _send_unsent(self) -> None:
        with suppress(IndexError):  # another thread has sent the last one
            while self._unsent:
                line = self._unsent.popleft()
                if not self._pipe.put(line):
                    self._unsent.appendleft(line)
                    return

    def _line(self, what: What, about: str = "", at: datetime | None = None) -> bytes:
        when = f" {at.timestamp():.6f}" if at else ""
        return f"{what} {self._listener} {about}{when}\n".encode("ascii")

    def _follow_answers(self) -> None:
        """Hand each answer to the thread that waits for it; nobody waits for those to an earlier process."""
        rest = b""
        while True:
            *lines, rest = (rest + self._pipe.get_answers(self._listener)).split(b"\n")
            for line in lines:
                spool_key, _, verdict = line.decode("ascii").partition(" ")
                asked = self._asked.get(spool_key)
                if asked is not None and not asked.done():
                    asked.set_result(None if verdict == NO_VERDICT else Verdict(verdict))


class NewsReader:
    """Reads what all listeners tell, for one thread."""

    def __init__(self, pipe: NewsPipe) -> None:
        self._pipe = pipe
        self._rest = b""

    def read(self, *, timeout_s: float) -> list[News]:
        """Some of what has come, in order. What was told after a loss never comes before the news of the loss."""
        if not self._pipe.wait(timeout_s):
            return []
        *lines, self._rest = (self._rest + self._pipe.get()).split(b"\n")
        news = [one for line in lines if (one := _parsed(line)) is not None]
        return [News(What.LOST), *news] if self._pipe.was_lost() else news

    def answer(self, asked: News, verdict: Verdict | None) -> None:
        """Tell the listener that asked. One that does not read any more gets no answer."""
        self._pipe.put_answer(asked.listener, f"{asked.about} {verdict or NO_VERDICT}\n".encode("ascii"))


def _parsed(line: bytes) -> News | None:
    """None for the second half of a line whose first half an earlier reader took with it."""
    try:
        what, listener, about, *when = line.decode("ascii").split(" ")
        return News(What(what), int(listener), about, *(datetime.fromtimestamp(float(at), UTC) for at in when))
    except ValueError:
        return None


def _pipe(size: int) -> tuple[int, int]:
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    with suppress(OSError):  # this user's pipes have together as much as they may: the usual 64 KiB do, too
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, size)
    return reading, writing


def _put(descriptor: int, line: bytes) -> bool:
    try:
        os.write(descriptor, line)
    except BlockingIOError:
        return False
    return True


def _get(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, READ_BYTES)
    except BlockingIOError:
        return b""


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
