"""TLS for associations that the node proposes (PS3.15 B.12): it shows its certificate and looks at the peer's.

files  ->  ClientContext  ->  pynetdicom connects and shakes hands  ->  why_not, where they were not shaken
"""

import ssl
from dataclasses import dataclass
from typing import Self

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.transport import AddressInformation, AssociationSocket

from domain.tls import TlsFiles, furnish, reason_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Secured:
    """TLS to one peer. `name`: the name or address that the peer's certificate must be made out to (RFC 9525)."""

    files: TlsFiles
    name: str


class ClientSocket(ssl.SSLSocket):
    """Remembers why hands were not shaken, which pynetdicom writes to its own log only, and says what has come."""

    _ahead = b""

    def has_data(self) -> bool:
        """Whether something can be read. The socket being readable does not say so: what came may be a session ticket
        of TLS 1.3, and who reads then waits for the peer's next word.
        """
        timeout_s = self.gettimeout()
        self.settimeout(0)
        try:
            self._ahead = self._ahead or super().recv(1)
        except ssl.SSLWantReadError:
            return False
        except OSError:
            pass  # who reads finds out
        finally:
            self.settimeout(timeout_s)
        return True

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        ahead, self._ahead = self._ahead, b""
        return ahead or super().recv(buflen, flags)

    def pending(self) -> int:
        return len(self._ahead) + super().pending()

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError as error:
            assert isinstance(self.context, ClientContext)
            self.context.why_not = _in_words(error)
            raise


class ClientContext(ssl.SSLContext):
    """For one connection. The files are read anew for each, so that a renewed certificate is used without a restart."""

    sslsocket_class = ClientSocket
    why_not = ""

    @classmethod
    def of(cls, files: TlsFiles) -> Self:
        """
        Raises:
            Misconfigured: a file cannot be used; the message names its key.
        """
        context = cls(ssl.PROTOCOL_TLS_CLIENT)  # which looks at the name, too
        furnish(context, files)
        return context


class TlsTransport(AssociationSocket):
    """pynetdicom's side of the connection."""

    @property
    def ready(self) -> bool:
        return super().ready and (not isinstance(self.socket, ClientSocket) or self.socket.has_data())


class CallingEntity(AE):
    """pynetdicom's AE, with a transport of ours where it speaks TLS."""

    def _create_socket(
        self, assoc: Association, address: AddressInformation, tls_args: tuple[ssl.SSLContext, str] | None
    ) -> AssociationSocket:
        if tls_args is None:
            return super()._create_socket(assoc, address, tls_args)
        transport = TlsTransport(assoc, address=address)
        transport.tls_args = tls_args
        return transport


def _in_words(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError | ConnectionError):
        return "it closed the connection in the handshake, as a port without TLS does"
    return reason_of(error)
