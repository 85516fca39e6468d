"""The row that holds up whoever else would change what a clinic has."""

import sqlalchemy as sa

from storage.tables import clinics


def lock_clinic(connection: sa.Connection, clinic: str) -> None:
    """Hold up whoever else wants to add to this clinic's studies, or remove from them, until this transaction ends."""
    connection.execute(sa.select(clinics.c.name).where(clinics.c.name == clinic).with_for_update())
