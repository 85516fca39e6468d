"""The end of a study's way."""

import sqlalchemy as sa

from metering.quota import release
from storage import studies


def finish(connection: sa.Connection, study_id: int) -> None:
    """Close the study when nothing is owed for it any more.

    It is charged by now, or never: one that no destination took leaves its quota to others.
    """
    if studies.finish_study(connection, study_id):
        clinic, study_instance_uid = studies.name_of(connection, study_id)
        release(connection, clinic=clinic, study_instance_uid=study_instance_uid)
