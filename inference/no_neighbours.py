"""Takes the sight of other processes away from this one and whatever it starts, for good (landlock(7), Linux 5.13).

A process in a Landlock domain may look into those of its domain only: /proc/PID/environ, memory and open files of the
node that started it are closed to it. Where both are root's, it gives up root's capabilities first: with CAP_PERFMON it
could still read (capabilities(7)).
"""

import ctypes
import os

from domain.errors import Misconfigured

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same on every processor
_SET_NO_NEW_PRIVS = 38  # prctl(2)
_CAPABILITIES_VERSION = 0x20080522  # capset(2), the third
_MAKE_BLOCK = 1 << 11  # a domain has to forbid something: block devices, which nothing here makes


def take_neighbours_away() -> None:
    """Of this thread, and of those that it starts from now on.

    Raises:
        Misconfigured: the kernel does not do it.
    """
    kernel = ctypes.CDLL(None, use_errno=True)
    of_this_thread, none = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0), (ctypes.c_uint32 * 6)()
    forbids = ctypes.c_uint64(_MAKE_BLOCK)  # struct landlock_ruleset_attr
    ruleset = kernel.syscall(_CREATE_RULESET, ctypes.byref(forbids), ctypes.c_size_t(ctypes.sizeof(forbids)), 0)
    try:
        if (
            ruleset < 0
            or kernel.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            or kernel.capset(of_this_thread, none)
            or kernel.syscall(_RESTRICT_SELF, ruleset, 0)
        ):
            raise Misconfigured(
                f"the kernel does not close other processes to this one: {os.strerror(ctypes.get_errno())}",
                hint="Is Landlock switched off here?",
            )
    finally:
        if ruleset >= 0:
            os.close(ruleset)
