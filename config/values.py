"""What single keys may hold: each type says what it expects where something else comes."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from domain.hosts import is_host
from domain.subjects import is_subject
from domain.views import view_named


def _ae_title(text: str) -> str:
    """AE Value Representation, PS3.5 6.2: 16 characters at most, no backslash or control character, not all blanks."""
    text = text.strip(" ")
    if not re.fullmatch(r"[ -\[\]-~]{1,16}", text):
        raise ValueError("an AE title is 1 to 16 ASCII characters, without a backslash")
    return text


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"a regular expression is expected: {error}") from error
    return text


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", text):
        raise ValueError(
            "a name is 1 to 64 letters, digits, dots, hyphens and underscores, the first a letter or digit"
        )
    return text


def _view(text: str) -> str:
    if not view_named(text):
        raise ValueError(
            'a term of View Position is expected, such as "PA" or "LL"; "LATERAL" and "FRONTAL" are either'
        )
    return view_named(text)


def _device(text: str) -> str:
    if not re.fullmatch(r"cuda:\d{1,2}|cpu", text):
        raise ValueError('a device is "cuda:0", "cuda:1", …; "cpu" is there to try the same way without a GPU')
    return text


def _host(text: str) -> str:
    if not is_host(text):
        raise ValueError('an IP address, a network such as "10.1.0.0/16" or a host name is expected')
    return text


def _subject(text: str) -> str:
    if text and not is_subject(text):
        raise ValueError('names and values as RFC 4514 writes them are expected, such as "CN=ct1,O=St. Mary"')
    return text


AETitle = Annotated[str, AfterValidator(_ae_title)]
Name = Annotated[str, AfterValidator(_name)]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(ge=0, le=31 * 86400)]
Host = Annotated[str, AfterValidator(_host)]
Subject = Annotated[str, AfterValidator(_subject)]
Pattern = Annotated[str, AfterValidator(_pattern)]
View = Annotated[str, AfterValidator(_view)]
Device = Annotated[str, AfterValidator(_device)]
