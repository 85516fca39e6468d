"""Tells what is away or not for this user, which an administrator can mend, from a bug."""

import errno
import getpass
import os

from sqlalchemy.exc import DBAPIError

from domain.errors import CollimatorError, Retry
from storage.database import is_away

# undefined_table and undefined_column (PostgreSQL's errcodes): of a database that was not brought to this version.
OTHER_VERSION = frozenset({"42P01", "42703"})
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def outage_of(error: Exception) -> CollimatorError | None:
    """What to say of it; None of a bug."""
    if isinstance(error, DBAPIError):
        if getattr(error.orig, "sqlstate", None) in OTHER_VERSION:
            return Retry("the database is not at this version", hint="run `collimator migrate`")
        if is_away(error):
            why = str(error.orig).partition("\n")[0]
            return Retry(f"the database does not answer: {why}", hint="check node.database_url and the server")
    if isinstance(error, OSError) and error.filename is not None:
        hint = f"is it there, and may {getpass.getuser()} use it?"
        return Retry(f"{error.filename}: {error.strerror}", hint=hint)
    if isinstance(error, OSError) and error.errno in NO_SPACE:  # what is written to an open file names none
        return Retry(os.strerror(error.errno), hint="make room on the disk, and do it again")
    return None
