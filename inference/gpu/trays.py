"""Memory that one decode process writes an image into and the owner processes read it from, without a copy between.

A tray belongs to one decode process: what has taken that over by a hostile image reaches no other's. It is sealed
against shrinking (memfd_create(2)): an owner that reads it never meets memory that is not there any more.
"""

import fcntl
import mmap
import os

import numpy as np
from numpy.typing import NDArray

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Tray:
    """`number` names its place for good; `generation` counts how often it was made anew, because it was too small."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.generation = 0
        self.size_bytes = 0
        self.descriptor = -1

    def fit(self, size_bytes: int) -> None:
        """Make it large enough, with memory that is new, where it is not yet."""
        if size_bytes <= self.size_bytes:
            return
        self.close()
        self.descriptor = os.memfd_create("collimator-tray", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.descriptor, size_bytes)
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, SEALS)
        self.size_bytes = size_bytes
        self.generation += 1

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor, self.size_bytes = -1, 0


def mapped(descriptor: int) -> NDArray[np.uint8]:
    """All of a tray's memory. The descriptor may be closed afterwards.

    Raises:
        ValueError: it could shrink.
    """
    if fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & SEALS != SEALS:
        raise ValueError("the tray is not sealed")
    size_bytes = os.fstat(descriptor).st_size
    return np.frombuffer(mmap.mmap(descriptor, size_bytes), np.uint8)
