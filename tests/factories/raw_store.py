"""C-STORE requests that no well-behaved sender makes."""

import time
from io import BytesIO

from pydicom.uid import UID, ComputedRadiographyImageStorage
from pynetdicom import AE, build_context
from pynetdicom.dimse_primitives import C_STORE


def store_raw(port: int, *, sop_instance_uid: str, sop_class_uid: str, data_set: bytes) -> int:
    """Send these bytes in the context of CR images, as MODALITY1, and return the Status."""
    ae = AE("MODALITY1")
    ae.requested_contexts = [build_context(ComputedRadiographyImageStorage)]
    association = ae.associate("127.0.0.1", port, ae_title="COLLIMATOR")
    # Otherwise the association's own thread takes the response off the queue.
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.001)
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID = UID(sop_class_uid)
    # The primitive itself refuses what is not a UID; a hostile peer does not ask it.
    request._affected_sop_instance_uid = UID(sop_instance_uid)
    request.DataSet = BytesIO(data_set)
    association.dimse.send_msg(request, int(association.accepted_contexts[0].context_id or 0))
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    assert isinstance(response, C_STORE)
    assert response.Status is not None
    return response.Status
