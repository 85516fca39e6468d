"""The data sets of requests other than C-STORE, which are kept in memory: of all peers together no more than fits."""

import threading

from scp.store import TooLarge


class MessageMemory:
    """What all connections of one receiver may keep at the same time, in bytes; safe to use from every thread."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._lock = threading.Lock()

    def take(self, count: int) -> bool:
        """Whether so much is left; if so, it is the caller's until `give_back`."""
        with self._lock:
            if count > self._left:
                return False
            self._left -= count
            return True

    def give_back(self, count: int) -> None:
        with self._lock:
            self._left += count


class Message:
    """One data set. What is not kept is read to its end all the same, because the answer may only come after it.

    memory: None where nobody is going to read it.
    """

    def __init__(self, most: int, memory: MessageMemory | None) -> None:
        self._most = most
        self._memory = memory
        self._size = 0
        self.content = bytearray()
        self.found_room = True

    def write(self, fragment: memoryview) -> None:
        """Raises:
        TooLarge: it has more bytes than a request's data set may have.
        """
        self._size += len(fragment)
        if self._size > self._most:
            raise TooLarge(f"the request's data set has more than {self._most} bytes", reason="too_large")
        if self._memory is None or not self.found_room:
            return
        if self._memory.take(len(fragment)):
            self.content += fragment
        else:
            self.discard()
            self.found_room = False

    def flush(self) -> None:
        """Nothing is kept in the caller's memory."""

    def discard(self) -> None:
        """Harmless when it is done twice."""
        if self._memory is not None:
            self._memory.give_back(len(self.content))
        self.content = bytearray()
