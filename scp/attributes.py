"""Reads the data sets of DIMSE-N requests, which come from anybody who may associate.

A data set costs a hundred times its size once it is parsed, so how many items it has is known before that.
"""

import re
from io import BytesIO
from threading import Lock

from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from scp.dataset_head import Head

# Item (FFFE,E000), in both byte orders (PS3.5 7.5). No UID, text or number of these data sets holds these bytes.
ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
UID_PATTERN = re.compile(r"[0-9.]{1,64}")  # modalities send components with leading zeros; PS3.5 9.1 has none

# Many peers may send large data sets at the same moment; the memory for one is there.
_one_at_a_time = Lock()


class Malformed(Exception):
    """The data set is not one, or an attribute in it has no possible value."""


class TooManyItems(Exception):
    """More items than the node takes in one request."""


def parse(content: bytes, transfer_syntax_uid: str, *, most_items: int) -> Dataset:
    """The whole data set. Its values are decoded when they are asked for: only those that matter.

    Raises:
        Malformed: it cannot be parsed, or is cut short.
        TooManyItems: it has more than `most_items` items in all its sequences.
    """
    if max(content.count(tag) for tag in ITEM_TAGS) > most_items:
        raise TooManyItems
    syntax = UID(transfer_syntax_uid)
    try:
        # pydicom alone takes what it can get: a list that lost its end would be a shorter list.
        head = Head(transfer_syntax_uid)
        head.read(content)
        head.check_end(len(content))
        with _one_at_a_time:
            return read_dataset(BytesIO(content), syntax.is_implicit_VR, syntax.is_little_endian)
    except Exception as error:  # a damaged data set makes the parser raise anything
        raise Malformed("the data set cannot be parsed") from error


def items(data_set: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it is absent or empty.

    Raises:
        Malformed: the attribute is no sequence.
    """
    value = _value(data_set, keyword)
    if value is None or value == "":
        return []
    if not isinstance(value, Sequence):
        raise Malformed(f"{keyword} is not a sequence")
    return list(value)


def text(data_set: Dataset, keyword: str) -> str:
    """A single text value without its padding; "" where it is absent or empty.

    Raises:
        Malformed: there are several values, or none that is text.
    """
    value = _value(data_set, keyword)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Malformed(f"{keyword} is not one text")
    return value.strip(" \0")


def number(data_set: Dataset, keyword: str) -> int:
    """A single whole number; 0 where it is absent or empty.

    Raises:
        Malformed: there are several values, or none that is a number.
    """
    value = _value(data_set, keyword)
    if value is None or value == "":
        return 0
    if not isinstance(value, int):
        raise Malformed(f"{keyword} is not one number")
    return value


def _value(data_set: Dataset, keyword: str) -> object:
    try:
        with disable_value_validation():
            return data_set.get(keyword)
    except Exception as error:  # as above
        raise Malformed(f"{keyword} cannot be read") from error


def is_uid(value: str) -> bool:
    return UID_PATTERN.fullmatch(value) is not None
