"""C-ECHO as SCU (PS3.4 Annex A): is the peer there, and does it take an association from this AE title?"""

from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from domain.errors import Retry
from scu.store import Address, application_entity, associate, why_not


def echo(to: Address, *, calling_ae_title: str, timeout_s: float) -> None:
    """Verify one peer.

    Raises:
        Retry: it does not answer, or answers with a failure.
    """
    ae = application_entity(calling_ae_title, timeout_s)
    ae.add_requested_context(Verification)
    association = associate(ae, to)
    if not association.is_established:
        raise Retry(why_not(association, to))
    try:
        status = association.send_c_echo().get("Status")
    finally:
        association.release()
    if status != 0x0000:
        raise Retry(f"{to.ae_title} at {to.host}:{to.port} answered the C-ECHO with {status}")
