"""Whether the database has the tables of this version."""

from importlib import resources

from storage.database import Database


def is_at_this_version(database: Database) -> bool:
    """It only reads, so it does not wait for whoever writes.

    Raises:
        DBAPIError: the database cannot be read.
    """
    from alembic.migration import MigrationContext  # 0.1 s that a process with a server does not pay
    from alembic.script import ScriptDirectory

    versions = ScriptDirectory(str(resources.files("storage").joinpath("migrations")))
    with database.read() as connection:
        return set(MigrationContext.configure(connection).get_current_heads()) == set(versions.get_heads())
