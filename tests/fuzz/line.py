"""A socket's place, filled with bytes that have come already: as fast as memory, and cut wherever a test wants."""

import socket
from typing import cast


class Line:
    """The peer has said `content` and gone. It comes in pieces of `piece` bytes; `answered` is what it was told."""

    def __init__(self, content: bytes, piece: int) -> None:
        self._content = memoryview(content)
        self._piece = piece
        self.answered = bytearray()

    def as_socket(self) -> socket.socket:
        return cast(socket.socket, self)

    def recv_into(self, buffer: bytearray | memoryview) -> int:
        count = min(self._piece, len(buffer), len(self._content))
        buffer[:count] = self._content[:count]
        self._content = self._content[count:]
        return count

    def send(self, content: bytes | memoryview) -> int:
        some = content[: self._piece]
        self.answered += some
        return len(some)

    def sendall(self, content: bytes) -> None:
        self.answered += content

    def setsockopt(self, *_: object) -> None:
        """Options change nothing here."""

    def settimeout(self, _: float | None) -> None:
        """Nothing here ever waits."""

    def shutdown(self, _: int) -> None:
        """The peer has gone before."""

    def close(self) -> None:
        """Nothing to give back."""
