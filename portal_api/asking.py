"""What a request may ask, with its limits: every value is checked here before a query sees it."""

from typing import Annotated

from fastapi import Path, Query
from pydantic import BaseModel

from domain.states import StudyState

# UID, PS3.5 9.1. Nothing else reaches a query or comes back in a message.
UID_PATTERN = r"^[0-9.]{1,64}$"
CLINIC_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
# The database would refuse a NUL, and no Accession Number holds a control character (PS3.5 6.2, SH).
PRINTABLE_PATTERN = r"^[^\x00-\x1f\x7f]{1,64}$"
# The key of a billing period, or the month that it begins in. There is no calendar for the year 10000.
PERIOD_PATTERN = r"^2[0-9]{3}-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?$"
PACKAGE_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"
VERSION_PATTERN = r"^[^\x00-\x1f\x7f]{0,64}$"
LONGEST_PAGE = 500
FARTHEST_OFFSET = 1_000_000

StudyUid = Annotated[str, Path(pattern=UID_PATTERN, description="Study Instance UID (0020,000D)")]
ClinicQuery = Annotated[str | None, Query(pattern=CLINIC_PATTERN, description="only this clinic")]
StateQuery = Annotated[StudyState | None, Query(description="only studies in this state")]
StudyUidQuery = Annotated[str | None, Query(pattern=UID_PATTERN, description="Study Instance UID (0020,000D)")]
AccessionQuery = Annotated[str | None, Query(pattern=PRINTABLE_PATTERN, description="Accession Number (0008,0050)")]
ReasonQuery = Annotated[str | None, Query(pattern=r"^[a-z_]{1,32}$", description="only with this reason")]
PeriodQuery = Annotated[
    str | None,
    Query(pattern=PERIOD_PATTERN, description="YYYY-MM, or the day that it begins; the present one when left out"),
]
PackageName = Annotated[str, Path(pattern=PACKAGE_PATTERN, description="a model package: chest, …")]
Limit = Annotated[int, Query(ge=1, le=LONGEST_PAGE, description="at most so many")]
Offset = Annotated[int, Query(ge=0, le=FARTHEST_OFFSET, description="leave out so many of the newest")]

# How many there are in all goes into this response header, so that a list stays a list.
TOTAL_COUNT = "X-Total-Count"


class Problem(BaseModel):
    """Why a request has no answer, in one sentence."""

    detail: str
