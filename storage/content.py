"""What a spooled file holds besides its File Meta: compared byte for byte, or by its SHA-256 once a file is gone.

The node writes the File Meta itself, with another time and association for each arrival; only the data set behind it
is the sender's.
"""

import errno
import os
from hashlib import sha256
from typing import BinaryIO

from storage.file_meta import Foreign, data_set_start
from storage.instances import Spool
from storage.sealed import Damaged

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
