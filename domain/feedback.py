"""What a reader says of a finding: that the model is right about it, or that it is not."""

from dataclasses import dataclass
from enum import StrEnum

LONGEST_NOTE = 2000


class Verdict(StrEnum):
    """About the model's answer, whichever it was: who agrees with "not detected" says that there is nothing."""

    AGREE = "agree"
    DISAGREE = "disagree"


@dataclass(frozen=True, kw_only=True, slots=True)
class Opinion:
    """One word about one answer. `package` and `sop_instance_uid` may be empty where the label alone tells which."""

    label: str
    verdict: Verdict
    note: str = ""
    package: str = ""
    sop_instance_uid: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """How many last words there are about a version's answers under one label."""

    agree: int = 0
    disagree: int = 0
