"""What the receiver accepts (PS3.8 9.3.2): every storage SOP class that pynetdicom knows, and Verification.

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
from pynetdicom import build_context
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import _STORAGE_CLASSES, Verification  # type: ignore[attr-defined]

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

STORAGE_SOP_CLASSES: tuple[UID, ...] = tuple(UID(uid) for uid in sorted(_STORAGE_CLASSES.values()))


VERIFICATION = str(Verification)


def supported_syntaxes(services: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
    """The transfer syntaxes, by preference, of every abstract syntax: storage, and these services."""
    storage = {str(uid): tuple(map(str, TRANSFER_SYNTAXES)) for uid in STORAGE_SOP_CLASSES}
    return {**storage, **{str(uid): tuple(map(str, UNCOMPRESSED)) for uid in services}}


def supported_contexts(services: Iterable[str] = ()) -> list[PresentationContext]:
    """The same in pynetdicom's terms."""
    return [build_context(uid, list(syntaxes)) for uid, syntaxes in supported_syntaxes(services).items()]
