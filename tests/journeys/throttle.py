"""A TCP proxy on the loopback address that passes bytes on slowly, so that an object can be caught half-way."""

import socket
import threading
import time

from tests.journeys.house import LOOPBACK


class SlowLine:
    """Passes one connection on to `port`, at most `bytes_per_s` towards it; `passed` counts them."""

    def __init__(self, port: int, *, bytes_per_s: int) -> None:
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = int(self._listener.getsockname()[1])
        self.passed = 0
        self._to, self._rate = port, bytes_per_s
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection((LOOPBACK, self._to))
        threading.Thread(target=self._pass_on, args=(far, near, 0), daemon=True).start()
        self._pass_on(near, far, self._rate)

    def _pass_on(self, source: socket.socket, target: socket.socket, rate: int) -> None:
        try:
            while block := source.recv(65536):
                target.sendall(block)
                if rate:
                    self.passed += len(block)
                    time.sleep(len(block) / rate)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass
