"""The row that holds up whoever else would change what a clinic has."""

import sqlalchemy as sa

from storage.tables import clinics


def lock_clinic(connection: sa.Connection, clinic: str) -> bool:
    """Hold up whoever else wants to add to this clinic's studies, or remove from them, until this transaction ends.

    False when there is no row of this clinic, and nobody is held up.

    Not those who only write a row that names the clinic: PostgreSQL looks for the clinic then, and would wait for a
    stronger lock (FOR UPDATE) with whatever they hold.
    """
    own_row = sa.select(clinics.c.name).where(clinics.c.name == clinic).with_for_update(key_share=True)
    return connection.scalar(own_row) is not None
