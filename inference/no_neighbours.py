"""Takes the sight of other processes away from this one and whatever it starts, for good (landlock(7), Linux 5.13).

A process in a Landlock domain may look into those of its domain only: /proc/PID/environ, memory and open files of the
node that started it are closed to it. Where both are root's, it gives up root's capabilities first: with CAP_PERFMON it
could still read (capabilities(7)). It may also be left one folder to write in: what it could change elsewhere, the node
might run later with all its rights. Reading files, and changing their modes, stays as it was.
"""

import ctypes
import os
import struct
from pathlib import Path

from domain.errors import Misconfigured

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every processor
_VERSION, _PATH_BENEATH = 1, 1
_SET_NO_NEW_PRIVS = 38  # prctl(2)
_CAPABILITIES_VERSION = 0x20080522  # capset(2), the third
_MAKE_BLOCK = 1 << 11  # a domain has to forbid something: block devices, which nothing here makes
_WRITE_FILE = 1 << 1
_CHANGE_FOLDERS = sum(1 << bit for bit in range(4, 13))  # make and remove files of any kind
_REFER, _TRUNCATE = 1 << 13, 1 << 14  # from the second and third version on


def take_neighbours_away(*, writes_only_in: Path | None = None) -> None:
    """Of this thread, and of those that it starts from now on.

    Args:
        writes_only_in: all else but /dev/null cannot be written, made or removed any more. None: nothing changes there.

    Raises:
        Misconfigured: the kernel does not do it.
    """
    kernel = ctypes.CDLL(None, use_errno=True)
    of_this_thread, none = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0), (ctypes.c_uint32 * 6)()
    writes = _writes(kernel)
    forbids = ctypes.c_uint64(writes if writes_only_in else _MAKE_BLOCK)  # struct landlock_ruleset_attr
    ruleset = kernel.syscall(_CREATE_RULESET, ctypes.byref(forbids), ctypes.c_size_t(ctypes.sizeof(forbids)), 0)
    try:
        if (
            ruleset < 0
            or (writes_only_in and not _allow(kernel, ruleset, writes_only_in, writes))
            or (writes_only_in and not _allow(kernel, ruleset, Path(os.devnull), writes & (_WRITE_FILE | _TRUNCATE)))
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


def _writes(kernel: ctypes.CDLL) -> int:
    """All kinds of writing that this kernel's Landlock knows."""
    version = int(kernel.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION))
    return _WRITE_FILE | _CHANGE_FOLDERS | _REFER * (version >= 2) | _TRUNCATE * (version >= 3)


def _allow(kernel: ctypes.CDLL, ruleset: int, path: Path, kinds: int) -> bool:
    """Whether the ruleset now allows them in this folder, or of this file."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", kinds, descriptor)  # struct landlock_path_beneath_attr, packed
        return bool(kernel.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0) == 0)
    finally:
        os.close(descriptor)
