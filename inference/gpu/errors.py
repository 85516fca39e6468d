"""What can go wrong with a device, by what happens next.

OutOfMemory    a smaller batch is tried, or another network leaves
Unfit          this package is served by the CPU for a while
NoRoom         so is this image, of a version that only watches
DeviceBroken   the owner process ends, and another takes its place
"""


class OutOfMemory(Exception):
    """The device's memory is used up."""


class Unfit(Exception):
    """The device cannot serve this package; it may well serve others."""


class NoRoom(Unfit):
    """It would fit if networks left that answer, and for this one none may."""


class DeviceBroken(Exception):
    """Nothing more can be asked of the device in this process: an error of CUDA stays until the process ends."""
