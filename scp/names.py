"""Host names of callers and destinations: looked up at the start, and again every minute, in a thread of their own.

Nothing that a peer says makes the node ask a name server: its answer may take long, and anybody may knock at the port.

A node must come up while names cannot be resolved (after a power failure it may be there before the name server is),
and what a name stands for may change.
"""

import socket
import threading
import time
from collections.abc import Iterable

import structlog

from domain.hosts import Network, network_of, plain_network

log = structlog.get_logger()

LOOKED_UP_EVERY_S = 60.0
FIRST_LOOK_S = 3.0  # the start waits for it no longer


class Names:
    """What each name stands for now; nothing while it cannot be resolved and never could be. Where it can no longer be,
    it stands for what it stood for before. `of`: what the log calls those who have these names.
    """

    def __init__(self, names: Iterable[str], *, of: str = "caller") -> None:
        self._of = of
        self._networks: dict[str, tuple[Network, ...]] = {}
        self._unresolved: dict[str, bool] = dict.fromkeys(names, False)
        self._looked_once = threading.Event()
        if self._unresolved:
            threading.Thread(target=self._keep_looking, name="names", daemon=True).start()
            self._looked_once.wait(FIRST_LOOK_S)

    def networks(self, host: str) -> tuple[Network, ...]:
        """What a host stands for now, be it a name, an address or a network."""
        network = network_of(host)
        return self._networks.get(host, ()) if network is None else (network,)

    @property
    def unresolved(self) -> list[str]:
        """Those that stand for nothing."""
        return [name for name in self._unresolved if name not in self._networks]

    def look_up(self) -> None:
        """Each of them, now. What becomes of a name is logged when it changes."""
        for name in self._unresolved:
            try:
                self._networks[name] = look_up(name)
                is_unresolved = False
            except OSError as error:
                is_unresolved = True
                if not self._unresolved[name]:
                    log.warning(f"{self._of}_not_resolved", host=name, error=error.strerror or type(error).__name__)
            if self._unresolved[name] and not is_unresolved:
                log.info(f"{self._of}_resolved", host=name)
            self._unresolved[name] = is_unresolved

    def _keep_looking(self) -> None:
        while True:
            self.look_up()
            self._looked_once.set()
            time.sleep(LOOKED_UP_EVERY_S)


def look_up(host: str) -> tuple[Network, ...]:
    """What a host that is not empty stands for: an address, a network, or the addresses of a name.

    Raises:
        OSError: the name cannot be resolved.
    """
    network = network_of(host)
    if network is not None:
        return (network,)
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except UnicodeError as error:
        raise OSError(f"{host!r} is no name") from error
    return tuple(plain_network(address.partition("%")[0]) for address in sorted(found))
