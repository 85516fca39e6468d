"""What a spooled file holds besides its File Meta: compared byte for byte, or by its SHA-256 once a file is gone.

The node writes the File Meta itself, with another time and association for each arrival; only the data set behind it
is the sender's.
"""

import os
from hashlib import sha256
from io import BytesIO
from typing import BinaryIO

from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset

from storage.instances import Spool

READ_BYTES = 1 << 20
# Preamble and prefix, then File Meta Information Group Length (0002,0000): 12 bytes, its value the last four
# (PS3.10 7.1).
PREFIX_END, GROUP_LENGTH_END = 132, 144
FILE_META_LIMIT = 1 << 16  # the node's own has about 700 bytes


def read_file_meta(file: BinaryIO) -> FileMetaDataset:
    """The File Meta of a file that the node wrote; the file then stands at its data set.

    Raises:
        ValueError: there is none, or not one of the node's.
    """
    head = file.read(GROUP_LENGTH_END)
    length = int.from_bytes(head[-4:], "little")
    if len(head) < GROUP_LENGTH_END or head[PREFIX_END - 4 : PREFIX_END] != b"DICM" or length > FILE_META_LIMIT:
        raise ValueError("no File Meta of this node")
    encoded = BytesIO(head[PREFIX_END:] + file.read(length))
    return FileMetaDataset(read_dataset(encoded, is_implicit_VR=False, is_little_endian=True))


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
    """Size of the data set in bytes. The file may stand anywhere, and stands at the data set afterwards."""
    file.seek(GROUP_LENGTH_END - 4)
    start = GROUP_LENGTH_END + int.from_bytes(file.read(4), "little")
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    return size
