"""The one place where an outcome becomes a Status (PS3.4 Table B.2-1, PS3.7 Annex C)."""

from enum import IntEnum

from domain.errors import CollimatorError, Refuse, Retry


class Status(IntEnum):
    SUCCESS = 0x0000
    INVALID_ATTRIBUTE_VALUE = 0x0106
    PROCESSING_FAILURE = 0x0110
    DUPLICATE_SOP_INSTANCE = 0x0111
    NO_SUCH_SOP_INSTANCE = 0x0112
    NO_SUCH_EVENT_TYPE = 0x0113
    INVALID_ARGUMENT_VALUE = 0x0115
    INVALID_OBJECT_INSTANCE = 0x0117
    MISSING_ATTRIBUTE = 0x0120
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NO_SUCH_ACTION = 0x0123
    NOT_AUTHORIZED = 0x0124
    UNRECOGNIZED_OPERATION = 0x0211
    RESOURCE_LIMITATION = 0x0213
    OUT_OF_RESOURCES = 0xA700
    DATA_SET_DOES_NOT_MATCH_SOP_CLASS = 0xA900
    CANNOT_UNDERSTAND = 0xC000


REFUSALS = {
    "invalid_uid": Status.INVALID_OBJECT_INSTANCE,
    "wrong_sop_class": Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS,
    "no_storage_class": Status.SOP_CLASS_NOT_SUPPORTED,
    "wrong_instance": Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS,
    "no_data_set": Status.CANNOT_UNDERSTAND,
    "not_a_data_set": Status.CANNOT_UNDERSTAND,
    "too_large": Status.OUT_OF_RESOURCES,
}


def status_of(error: CollimatorError) -> Status:
    """What the sender is told. Out of Resources makes it try again later; the others do not."""
    match error:
        case Retry():
            return Status.OUT_OF_RESOURCES
        case Refuse(reason=reason):
            return REFUSALS[reason]
        case _:
            return Status.PROCESSING_FAILURE
