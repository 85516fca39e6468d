"""Takes the network away from this process, its threads and whatever it starts, for good (seccomp(2), Linux).

What is left are the descriptors that it has: no new socket can be made, nor a ring that could make one (io_uring(7)).
"""

import ctypes
import errno
import os
import platform
import struct

from domain.errors import Misconfigured

# Of each processor: its name in <linux/audit.h>, and the numbers of seccomp, socket and io_uring_setup.
_NUMBERS = {"x86_64": (0xC000003E, 317, 41, 425), "aarch64": (0xC00000B7, 277, 198, 425)}
_X32 = 0x40000000  # from here on, the same calls by other numbers
_SET_NO_NEW_PRIVS = 38  # prctl(2)
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
# <linux/bpf_common.h>: load a word of the call; jump where it equals, or is no less; return.
_LOAD, _JUMP_EQUAL, _JUMP_NO_LESS, _RETURN = 0x20, 0x15, 0x35, 0x06
_CALL, _PROCESSOR = 0, 4  # places in struct seccomp_data
_ALLOW, _DENY = 0x7FFF0000, 0x00050000 | errno.EACCES


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def take_network_away() -> None:
    """
    Raises:
        Misconfigured: the kernel does not do it, or nobody knows how to ask this one.
    """
    processor = platform.machine()
    if processor not in _NUMBERS:
        raise Misconfigured(f"the network cannot be taken away from a process on {processor}")
    audit, seccomp, socket, io_uring_setup = _NUMBERS[processor]
    lines = (
        (_LOAD, 0, 0, _PROCESSOR),
        (_JUMP_EQUAL, 0, 5, audit),
        (_LOAD, 0, 0, _CALL),
        (_JUMP_NO_LESS, 3, 0, _X32),
        (_JUMP_EQUAL, 2, 0, socket),
        (_JUMP_EQUAL, 1, 0, io_uring_setup),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _DENY),
    )
    program = _Program(len(lines), b"".join(struct.pack("=HBBI", *line) for line in lines))
    kernel = ctypes.CDLL(None, use_errno=True)
    if kernel.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or kernel.syscall(
        seccomp, _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(program)
    ):
        raise Misconfigured(
            f"the kernel does not take the network away from a process: {os.strerror(ctypes.get_errno())}",
            hint="Is seccomp switched off here?",
        )
