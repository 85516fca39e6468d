"""What the routes work with. The application holds it; nothing in this room is global."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from fastapi import Request

from domain.clinics import Clinic
from storage.database import Database


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """`data_dir` None: it is on another machine, and its free space is not this portal's to judge."""

    database: Database
    clinics: tuple[Clinic, ...]
    version: str
    worker_lease_s: float
    data_dir: Path | None


def parts_of(request: Request) -> Parts:
    """The parts that the application was built with."""
    return cast(Parts, request.app.state.parts)
