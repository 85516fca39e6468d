"""What `collimator doctor` says of the database: whether it answers, and is at this version."""

from sqlalchemy.exc import DBAPIError

from cli.database_version import is_at_this_version
from cli.finding import Finding
from config.settings import Settings
from domain.errors import Misconfigured
from storage.database import Database

WHAT = "database"


def look_at_database(settings: Settings) -> Finding:
    """The embedded database is brought to this version by each role that starts; a server's is by `migrate` alone."""
    try:
        database = Database(settings.database_url)
    except Misconfigured as error:
        return Finding(what=WHAT, is_well=False, says=error.message, advice=error.hint)
    except OSError as error:
        says, advice = f"cannot be opened: {error.strerror}", "see what is said of the data folder above"
        return Finding(what=WHAT, is_well=False, says=says, advice=advice)
    name = "SQLite" if database.is_sqlite else "PostgreSQL"
    says, advice = f"{name} answers", ""
    try:
        if not is_at_this_version(database) and not database.is_sqlite:
            says, advice = f"{name} answers, and is not at this version", "run `collimator migrate`"
    except DBAPIError:
        says, advice = f"{name} does not answer", "check node.database_url, the server and the user's rights"
    database.close()
    return Finding(what=WHAT, is_well=not advice, says=says, advice=advice)
