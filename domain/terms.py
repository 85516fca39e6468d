"""How the words, terms and codes of headers are compared, however they are written."""

import re
import unicodedata

# SNOMED CT, and the retired designators of its predecessor that modalities still send (PS3.16 8.2).
SNOMED = frozenset({"SCT", "SRT", "SNM3", "99SDM"})


def plain_term(text: str) -> str:
    """A Body Part Examined value as `RuleBook.terms` has it: upper case, without blanks."""
    return plain_words(text).replace(" ", "")


def plain_words(text: str) -> str:
    """Text as `RuleBook.words` are looked up in it: upper case, without accents, words parted by single blanks."""
    letters = unicodedata.normalize("NFKD", text.upper())
    return " ".join(re.findall(r"[^\W_]+", "".join(c for c in letters if not unicodedata.combining(c))))


def code_key(written: str) -> str:
    """A code as `RuleBook.codes` has it, from "SCT:51185008", "51185008" or "99ACME:CXR2"."""
    scheme, _, value = written.rpartition(":")
    scheme, value = scheme.strip().upper(), value.strip()
    return value if not scheme or scheme in SNOMED else f"{scheme}:{value}"
