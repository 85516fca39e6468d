"""Subjects of certificates as text (RFC 4514)."""

import re

Attribute = tuple[str, str]
# RFC 4514 2.1 to 2.4: a backslash takes the meaning from the character after it, or stands before two hex digits.
ATTRIBUTE = re.compile(r"(?:\\.|[^\\,+])+", re.DOTALL)
WRITTEN = r"\s*([A-Za-z][A-Za-z0-9-]*|\d+(\.\d+)+)\s*=\s*(\\[0-9A-Fa-f]{2}|\\[ \"#+,;<=>\\]|[^\\\"+,;<>\0])+"
SUBJECT = re.compile(rf"{WRITTEN}([,+]{WRITTEN})*")
ESCAPE = re.compile(rb"\\([0-9A-Fa-f]{2}|.)", re.DOTALL)


def attributes_of(subject: str) -> frozenset[Attribute]:
    """Neither order counts, nor the case of a type, nor how much space there is (RFC 4518 2.6.1)."""
    pairs = (part.partition("=") for part in ATTRIBUTE.findall(subject) if part.strip())
    return frozenset((name.strip().upper(), " ".join(_unescaped(value).split())) for name, _, value in pairs)


def is_subject(text: str) -> bool:
    """Whether it is written as RFC 4514 does, and names something."""
    return SUBJECT.fullmatch(text) is not None and all(value for _, value in attributes_of(text))


def _unescaped(value: str) -> str:
    def plain(match: re.Match[bytes]) -> bytes:
        return bytes.fromhex(match[1].decode()) if len(match[1]) == 2 else match[1]

    return ESCAPE.sub(plain, value.encode()).decode(errors="replace")
