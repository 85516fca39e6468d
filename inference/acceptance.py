"""Who accepted the licence of pulled weights: a file that lies in the installed package, and goes and stays with it."""

import getpass
import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from domain.errors import Misconfigured, Refuse
from inference.licences import Licence, is_accepted

ACCEPTANCE_FILE = "licence_accepted.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Acceptance:
    """`accepted_at` is ISO 8601 in UTC. `source_sha256`: of the bytes that the licence came with, as pulled."""

    licence: str
    accepted_by: str
    accepted_at: str
    source_sha256: str


def accept(
    licence: Licence, *, accepted_name: str, accepted_by: str, source_sha256: str, hint: str
) -> Acceptance | None:
    """The acceptance of a licence by its name; None where none is asked for and none was given.

    Raises:
        Refuse: the licence binds whoever uses the weights and was not accepted, or another one was.
    """
    if not accepted_name and not licence.binds:
        return None
    if not is_accepted(licence, accepted_name):
        named = f"not {accepted_name!r}" if accepted_name else "which has to be accepted by its name"
        raise Refuse(f"the weights' licence is {licence.name}, {named}", reason="licence_not_accepted", hint=hint)
    return Acceptance(
        licence=licence.name,
        accepted_by=accepted_by.strip() or os_user(),
        accepted_at=datetime.now(UTC).isoformat(timespec="seconds"),
        source_sha256=source_sha256,
    )


def write_acceptance(folder: Path, acceptance: Acceptance) -> None:
    (folder / ACCEPTANCE_FILE).write_text(json.dumps(asdict(acceptance), indent=2) + "\n", encoding="utf-8")


def read_acceptance(folder: Path) -> Acceptance | None:
    """What the package in `folder` has; None: nobody had to accept anything.

    Raises:
        Misconfigured: the file is damaged.
    """
    path = folder / ACCEPTANCE_FILE
    if not path.is_file():
        return None
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(value, str) for value in read.values()):
            raise TypeError("it holds something else than texts")
        return Acceptance(**read)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise Misconfigured(f"{path}: cannot be read: {error}", hint="Pull the package again.") from error


def os_user() -> str:
    """The account that runs this; a container's user often has a number and no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"
