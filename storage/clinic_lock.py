"""The row that holds up whoever else would change what a clinic has."""

import sqlalchemy as sa

from storage.tables import clinics

_LOCK = sa.select(clinics.c.name).where(clinics.c.name == sa.bindparam("clinic")).with_for_update(key_share=True)


def lock_clinic(connection: sa.Connection, clinic: str) -> bool:
    """Hold up whoever else wants to add to this clinic's studies, or remove from them, until this transaction ends.

    False when there is no row of this clinic, and nobody is held up.

    Not those who only write a row that names the clinic: PostgreSQL looks for the clinic then, and would wait for a
    stronger lock (FOR UPDATE) with whatever they hold.
    """
    return connection.scalar(_LOCK, {"clinic": clinic}) is not None
