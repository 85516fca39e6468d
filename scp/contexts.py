"""What the receiver accepts (PS3.8 9.3.2): every storage SOP class of the table, and Verification.

Objects are stored as they come, bit for bit, so any transfer syntax will do that keeps one instance in one data set.
"""

from collections.abc import Iterable

from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from scp.storage_sop_classes import STORAGE_SOP_CLASSES

UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)

# In the order of preference where a peer offers several in one context: the cheapest to decode first.
TRANSFER_SYNTAXES: tuple[UID, ...] = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    JPEG2000,
    ExplicitVRBigEndian,
)

VERIFICATION = "1.2.840.10008.1.1"  # PS3.4 A.4
STORAGE_COMMITMENT_PUSH_MODEL = "1.2.840.10008.1.20.1"  # PS3.4 J.3.1
# What a destination may propose that is no caller: it has something to tell, and nothing to send.
OPEN_TO_DESTINATIONS = (VERIFICATION, STORAGE_COMMITMENT_PUSH_MODEL)


def supported_syntaxes(services: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
    """The transfer syntaxes, by preference, of every abstract syntax: storage, and these services."""
    storage = dict.fromkeys(STORAGE_SOP_CLASSES, tuple(map(str, TRANSFER_SYNTAXES)))
    return {**storage, **{str(uid): tuple(map(str, UNCOMPRESSED)) for uid in services}}
