"""What happened to a study, in order: received, complete, routed, analysed, each attempt to deliver, charged."""

import sqlalchemy as sa

from storage.database import utc_now
from storage.tables import study_events


def add_event(connection: sa.Connection, study_id: int, event: str, detail: str = "") -> None:
    """Append one line to the study's history."""
    connection.execute(sa.insert(study_events).values(study_id=study_id, at=utc_now(), event=event, detail=detail))
