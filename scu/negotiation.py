"""What would a peer take? An association is proposed and released; nothing is sent."""

from collections.abc import Sequence

from pynetdicom import build_context

from domain.errors import Retry
from scu.store import Address, application_entity, associate, takes_nothing, why_not


def refused_contexts(
    to: Address, wanted: Sequence[tuple[str, str]], *, calling_ae_title: str, timeout_s: float
) -> list[tuple[str, str]]:
    """Those of the wanted (SOP Class UID, Transfer Syntax UID) pairs that the peer does not accept.

    Raises:
        Retry: no association came about.
    """
    ae = application_entity(calling_ae_title, timeout_s)
    ae.requested_contexts = [build_context(sop_class, syntax) for sop_class, syntax in wanted]
    association = associate(ae, to)
    if association.is_established:
        accepted = {(str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in association.accepted_contexts}
        association.release()
        return [pair for pair in wanted if pair not in accepted]
    if not takes_nothing(association):
        raise Retry(why_not(association, to), hint="check that the destination is running and knows this AE title")
    return list(wanted)
