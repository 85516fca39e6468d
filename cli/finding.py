"""What `collimator doctor` says of one thing that it looked at."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at. `advice` is what to do when it is not well."""

    what: str
    is_well: bool
    says: str
    advice: str = ""
    is_fatal: bool = True
