"""A socket with deadlines: bytes come through one fixed buffer and go out within a time. It knows nothing of DICOM.

recv_into  ->  buffer  ->  take, take_some          send  ->  all of it, or Silent
"""

import socket
import ssl
import time
from collections.abc import Callable
from struct import Struct

# 64 to 128 KiB stays in the processor's cache: a larger buffer costs two to three times the time for each byte. One
# PDU of the size that DCMTK sends at most fits in whole, with the header of the next.
BUFFER_BYTES = 131_072 + 4_096
TICK_S = 0.5  # how often a waiting thread looks up
TIMEVAL = Struct("@ll")


class Gone(Exception):
    """The peer closed the connection, or it was dropped."""


class Silent(Exception):
    """The peer took longer than it may."""


class Wire:
    """Both directions of a socket. What came lies in one buffer of fixed size, whatever the peer announces.

    flush: called before bytes that were handed out are overwritten.
    on_tick: told while nothing comes or goes; may raise.
    """

    def __init__(self, sock: socket.socket, *, on_tick: Callable[[], None]) -> None:
        self.socket = sock
        self.flush: Callable[[], None] = lambda: None
        self._on_tick = on_tick
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._start = self._end = 0
        self._silence_s = self._until = 0.0
        self.set_tick(TICK_S)

    def set_tick(self, tick_s: float) -> None:
        """A plain socket blocks in the kernel with a timeout there; that saves a poll(2) for every read."""
        if isinstance(self.socket, ssl.SSLSocket):
            self.socket.settimeout(tick_s)
        else:
            self.socket.settimeout(None)
            timeout = TIMEVAL.pack(int(tick_s), int(tick_s % 1 * 1e6))
            for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                self.socket.setsockopt(socket.SOL_SOCKET, direction, timeout)

    def send(self, content: bytes, *, within_s: float) -> None:
        """All of it. A peer that does not read what it asked for fills its window, and then nothing goes out.

        Raises:
            Silent: it took longer.
            Gone: the connection is.
        """
        left, until = memoryview(content), time.monotonic() + within_s
        while True:
            try:
                left = left[self.socket.send(left) :]
            except (BlockingIOError, TimeoutError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                self._on_tick()
            except OSError as error:
                raise Gone from error
            if not left:
                return
            if time.monotonic() > until:
                raise Silent

    def wait(self) -> None:
        """Until something has come."""
        if self._start == self._end:
            self._fill()

    def expect(self, *, silence_s: float, within_s: float) -> None:
        """From now on the peer may be silent for `silence_s`, and all that is expected must come within `within_s`."""
        self._silence_s = silence_s
        self._until = time.monotonic() + within_s

    def take(self, count: int) -> memoryview:
        """The next `count` bytes, at most a header's worth, in one piece."""
        while self._end - self._start < count:
            self._fill()
        part = self._buffer[self._start : self._start + count]
        self._start += count
        return part

    def take_some(self, most: int) -> memoryview:
        """At least one of the next bytes, at most `most`; what has come already is enough."""
        if self._start == self._end:
            self._fill()
        part = self._buffer[self._start : min(self._end, self._start + most)]
        self._start += len(part)
        return part

    def _fill(self) -> None:
        began = time.monotonic()
        self.flush()
        flushed = time.monotonic()
        self._until += flushed - began  # a disk that hangs is not the peer's silence
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start:
            left = self._end - self._start
            self._buffer[:left] = self._buffer[self._start : self._end]
            self._start, self._end = 0, left
        silent_until = flushed + self._silence_s
        while True:
            try:
                count = self.socket.recv_into(self._buffer[self._end :])
            except (BlockingIOError, TimeoutError, ssl.SSLWantReadError):
                count = -1
            except OSError as error:
                raise Gone from error
            if not count:
                raise Gone
            if count < 0:
                self._on_tick()
            if time.monotonic() > (self._until if count > 0 else min(silent_until, self._until)):
                raise Silent
            if count > 0:
                self._end += count
                return
