"""What a spooled file holds besides its File Meta: compared byte for byte, or by its SHA-256 once a file is gone.

The node writes the File Meta itself, with another time and association for each arrival; only the data set behind it
is the sender's.
"""

import errno
import os
from hashlib import sha256
from typing import BinaryIO

from storage.file_meta import Foreign, data_set_start, read_file_meta
from storage.instances import Spool
from storage.sealed import Damaged, is_sealed

READ_BYTES = 1 << 20


def is_same_content(spool: Spool, spool_key: str, other_key: str) -> bool:
    """Whether two spooled files hold the same data set.

    Raises:
        OSError: one of them cannot be read.
    """
    with spool.open(spool_key) as file, spool.open(other_key) as other:
        if data_set_size(file) != data_set_size(other):
            return False
        while block := file.read(READ_BYTES):
            if block != other.read(len(block)):
                return False
    return True


def content_sha256(spool: Spool, spool_key: str) -> str:
    """SHA-256 of a spooled file's data set.

    Raises:
        OSError: it cannot be read.
    """
    digest = sha256()
    with spool.open(spool_key) as file:
        data_set_size(file)
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def check_content(spool: Spool, spool_key: str, *, clinic: str, sop_instance_uid: str, size: int, digest: str) -> None:
    """Look whether a spooled file is still what was received. `size`: of its data set in bytes. `digest`: its SHA-256,
    or "" where nobody has looked; then a file that is not sealed may have other bytes of the same number.

    A sealed file is read to its end, by which each of its blocks is checked.

    Raises:
        FileNotFoundError: it is not there.
        Damaged: it is another instance's, or has lost or changed some of its content.
        OSError: it cannot be read.
        Away: the shared store is.
    """
    found = sha256()
    with spool.open(spool_key) as file:
        try:
            meta = read_file_meta(file)
        except Foreign as error:
            raise Damaged(errno.EIO, str(error)) from error
        if (meta.provenance.clinic, meta.sop_instance_uid) != (clinic, sop_instance_uid):
            raise Damaged(errno.EIO, "it is another instance's file")
        if (there := size_from_here(file)) != size:
            raise Damaged(errno.EIO, f"its data set has {there} bytes, and had {size} when it came")
        while (digest or is_sealed(file)) and (block := file.read(READ_BYTES)):
            found.update(block)
    if digest and found.hexdigest() != digest:
        raise Damaged(errno.EIO, "its data set is not the one that came")


def data_set_size(file: BinaryIO) -> int:
    """Size of the data set in bytes. The file may stand anywhere, and stands at the data set afterwards.

    Raises:
        Damaged: its front is not what the node wrote.
        OSError: it cannot be read.
    """
    try:
        start = data_set_start(file)
    except Foreign as error:
        raise Damaged(errno.EIO, str(error)) from error
    file.seek(start)
    return size_from_here(file)


def size_from_here(file: BinaryIO) -> int:
    """How many bytes follow where the file stands, which is where it stands afterwards."""
    here = file.tell()
    size = file.seek(0, os.SEEK_END) - here
    file.seek(here)
    return size
