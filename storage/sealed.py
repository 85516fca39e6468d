"""Sealed files: AES-256-GCM in blocks, written in one pass while the bytes arrive, read from anywhere.

    block 0   header: magic 8 · version 1 · zeros 7 · name of the study key 16 · salt 32; then cipher text and tag 16
    block n   cipher text and tag
    last      the same, but shorter than the others: what was left, possibly nothing

All blocks but the last have 64 KiB on the disk, so that they are written and read in whole pages: what is not costs a
third more processor time. Each file has a key of its own: HKDF-Expand (RFC 5869) of the study key over the salt. A
block's nonce is its number and whether it is the last; header and file name are authenticated with each. So a changed
bit, a block out of place, a cut file and a file under another's name are all refused.
"""

import errno
import io
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from struct import Struct
from typing import TYPE_CHECKING, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from storage.study_keys import SETTING, KeyNotThere, StudyKey, StudyKeys

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAGIC, VERSION = b"\x93SEALED\n", 1  # no DICOM file begins so: its preamble is the node's own zeros
HEADER = Struct(">8sB7x16s32s")
BLOCK_BYTES, TAG_BYTES = 1 << 16, 16
PLAIN_BYTES = BLOCK_BYTES - TAG_BYTES  # of a block; in block 0 the header takes some of them
PURPOSE = b"collimator object"


class Damaged(OSError):
    """A stored file that is not what was stored."""


class Seal:
    """Encrypts one file's content as it arrives. A block is only good until the next."""

    def __init__(self, keys: StudyKeys, study: str, name: str) -> None:
        """`study`: its `study_name`; without one, the file gets a key of its own, named after it.

        Raises:
            OSError: the study's key cannot be had.
        """
        self._keys = keys
        self._key = keys.key_of(study) if study else keys.key_for(name)
        salt = secrets.token_bytes(32)
        self._header = HEADER.pack(MAGIC, VERSION, bytes.fromhex(self._key.name), salt)
        self._authenticated = self._header + name.encode()
        self._cipher = _cipher(self._key, salt)
        self._number = 0
        self._plain = memoryview(bytearray(PLAIN_BYTES))
        self._filled = len(self._header)
        self._sealed = memoryview(bytearray(BLOCK_BYTES))

    def update(self, *fragments: "bytes | bytearray | memoryview") -> Iterator[memoryview]:
        """The blocks that have become complete. Where it can, it encrypts from the caller's own memory."""
        for fragment in fragments:
            rest = memoryview(fragment)
            while rest:
                if not self._filled and len(rest) >= PLAIN_BYTES:
                    yield self._seal(rest[:PLAIN_BYTES])
                    rest = rest[PLAIN_BYTES:]
                    continue
                taken = min(len(rest), PLAIN_BYTES - self._filled)
                self._plain[self._filled : self._filled + taken] = rest[:taken]
                self._filled += taken
                rest = rest[taken:]
                if self._filled == PLAIN_BYTES:
                    self._filled = 0
                    yield self._seal(self._plain)

    def finish(self) -> memoryview:
        """The last block."""
        return self._seal(self._plain[: self._filled], is_last=True)

    def all_of(self, content: bytes) -> Iterator[memoryview]:
        """A whole file's blocks, where its content is at hand."""
        yield from self.update(content)
        yield self.finish()

    def still_holds(self) -> bool:
        """Whether its key was not destroyed meanwhile, nor is about to be."""
        return self._keys.still_holds(self._key)

    def _seal(self, plain: memoryview, *, is_last: bool = False) -> memoryview:
        block = self._sealed[: len(plain) + TAG_BYTES]
        start = 0
        if self._number == 0:
            start = len(self._header)
            block[:start] = self._header
        nonce = _nonce(self._number, is_last=is_last)
        self._cipher.encrypt_into(nonce, plain[start:], self._authenticated, block[start:])
        self._number += 1
        return block


class SealedFile(io.RawIOBase):
    """The plain text of a sealed file; one block of it is in memory at a time."""

    def __init__(self, file: BinaryIO, name: str, key_named: Callable[[str], StudyKey]) -> None:
        self._file = file
        self.name = name  # pydicom asks a file object for it
        header = file.read(HEADER.size)
        if len(header) < HEADER.size:
            raise self._damaged("it is cut short")
        _, version, key_name, salt = HEADER.unpack(header)
        if version != VERSION:
            raise self._damaged(f"it is sealed in a way that this version does not know ({version})")
        self._cipher = _cipher(key_named(key_name.hex()), salt)
        self._authenticated = header + name.encode()
        size = file.seek(0, os.SEEK_END)
        self._last = size // BLOCK_BYTES
        if size - self._last * BLOCK_BYTES < TAG_BYTES + (HEADER.size if self._last == 0 else 0):
            raise self._damaged("it is cut short")
        # The header counts as the beginning of the plain text: then every block has the same number of bytes.
        self._end = size - (self._last + 1) * TAG_BYTES
        self._position = HEADER.size
        self._number = -1
        self._block = memoryview(b"")
        self._load(self._last)  # a file that was cut shows here, before anything of it is used

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        position = {os.SEEK_SET: HEADER.size, os.SEEK_CUR: self._position, os.SEEK_END: self._end}[whence] + offset
        if position < HEADER.size:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = position
        return self.tell()

    def tell(self) -> int:
        return self._position - HEADER.size

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill `buffer` as far as the block at this position goes; 0 at the end.

        Raises:
            Damaged: the block is not what was stored.
        """
        target = memoryview(buffer).cast("B")
        if self._position >= self._end:
            return 0
        number, offset = divmod(self._position, PLAIN_BYTES)
        self._load(number)
        piece = self._block[offset : offset + len(target)]
        target[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def close(self) -> None:
        self._file.close()
        super().close()

    def _load(self, number: int) -> None:
        if number == self._number:
            return
        self._file.seek(number * BLOCK_BYTES)
        block = self._file.read(BLOCK_BYTES)
        header = block[: HEADER.size] if number == 0 else b""
        nonce = _nonce(number, is_last=number == self._last)
        try:
            plain = self._cipher.decrypt(nonce, memoryview(block)[len(header) :], self._authenticated)
        except InvalidTag:
            raise self._damaged(f"block {number} is not what was stored") from None
        self._number, self._block = number, memoryview(header + plain)

    def _damaged(self, why: str) -> Damaged:
        return Damaged(errno.EIO, f"the sealed file is damaged: {why}", self.name)


def unsealed(file: BinaryIO, name: str, keys: StudyKeys | None) -> BinaryIO:
    """A stored file's plain text, whether it is sealed or was stored before there was a key.

    Raises:
        KeyNotThere: its key was destroyed, or is not among those that the node has.
        Damaged: it is not what was stored.
    """
    try:
        is_sealed = file.read(len(MAGIC)) == MAGIC
        file.seek(0)
        if not is_sealed:
            return file
        if keys is None:
            raise KeyNotThere(errno.ENOKEY, f"it is sealed, and {SETTING} is not set", name)
        return io.BufferedReader(SealedFile(file, name, keys.key_named), BLOCK_BYTES)
    except BaseException:
        file.close()
        raise


def is_sealed(file: BinaryIO) -> bool:
    """Whether what `unsealed` gave is the plain text of a sealed file."""
    return isinstance(file, io.BufferedReader) and isinstance(file.raw, SealedFile)


def sealed_with(file: BinaryIO) -> str:
    """The name of the study key that a file on the disk is sealed with; "" where it is not."""
    header = file.read(HEADER.size)
    if len(header) < HEADER.size or not header.startswith(MAGIC):
        return ""
    _, _, key_name, _ = HEADER.unpack(header)
    return str(key_name.hex())


@contextmanager
def lent_descriptor(file: BinaryIO) -> Iterator[int]:
    """A descriptor of the plain text, for a process or a library that takes no file object.

    A sealed file's plain text lies in memory (memfd_create(2)) as long as somebody has the descriptor, never on a disk.
    """
    with file:
        if not is_sealed(file):
            yield file.fileno()
            return
        descriptor = os.memfd_create("plain", os.MFD_CLOEXEC)
        try:
            while piece := file.read(BLOCK_BYTES):
                os.write(descriptor, piece)
            os.lseek(descriptor, 0, os.SEEK_SET)
            yield descriptor
        finally:
            os.close(descriptor)


def _cipher(key: StudyKey, salt: bytes) -> AESGCM:
    return AESGCM(HKDFExpand(algorithm=SHA256(), length=32, info=PURPOSE + salt).derive(key.secret))


def _nonce(number: int, *, is_last: bool) -> bytes:
    """12 bytes: the number in eleven, then 1 for the last."""
    return (number << 8 | is_last).to_bytes(12, "big")
