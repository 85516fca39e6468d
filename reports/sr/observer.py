"""Who observed: a device, never a person (TID 1002, TID 1004)."""

from highdicom.sr import CodedConcept, DeviceObserverIdentifyingAttributes, ObserverContext

from domain.identity import MANUFACTURER, MODEL_NAME
from reports.codes import DEVICE
from reports.provenance import as_code
from reports.request import NodeIdentity


def device_observer(device_uid: str, node: NodeIdentity) -> ObserverContext:
    """device_uid: the model's, or the node's own where no model has spoken."""
    return ObserverContext(
        observer_type=CodedConcept.from_code(as_code(DEVICE)),
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=device_uid,
            name=MODEL_NAME,
            manufacturer_name=MANUFACTURER,
            model_name=node.model_name,
            serial_number=node.serial_number,
        ),
    )
